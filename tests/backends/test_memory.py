from __future__ import annotations

import os
import threading

import pytest

from granite_storage.backends.memory import MemoryStorageBackend
from granite_storage.backends.registry import backend_from_url
from granite_storage.exceptions import ConfigurationError
from granite_storage.testing.suite import BackendSuite


class TestMemoryStorageBackend(BackendSuite):
    @pytest.fixture
    def backend(self) -> MemoryStorageBackend:
        return MemoryStorageBackend()


def test_two_backends_in_memory_share_nothing() -> None:
    one, other = backend_from_url("memory://"), backend_from_url("memory://")
    ref = one.put_bytes(key="a", content=b"x")
    assert one.exists(ref)
    assert not other.exists(ref)


def test_a_memory_url_says_nothing_more() -> None:
    for url in ("memory://host", "memory:///path", "memory://?size=1", "memory://user@"):
        with pytest.raises(ConfigurationError, match="memory://"):
            backend_from_url(url)


def test_listing_goes_on_while_others_put_and_delete() -> None:
    backend = MemoryStorageBackend()
    refs = [backend.put_bytes(key=f"a/{number:03}", content=b"x") for number in range(100)]
    listing = backend.iter_objects("a")
    assert next(listing).location == "a/000"
    thread = threading.Thread(target=backend.delete_many, args=(refs[50:],))
    thread.start()
    thread.join()
    backend.put_bytes(key="a/000x", content=b"x")
    assert [info.location for info in listing] == [ref.location for ref in refs[1:50]]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # from Python 3.12 on, if there are threads
def test_a_put_under_way_does_not_block_a_forked_process() -> None:
    backend = MemoryStorageBackend()

    class Forking:
        forked = 0

        def read(self, amount: int = -1) -> bytes:
            if not self.forked:
                self.forked = os.fork()
                if not self.forked:
                    os._exit(0 if backend.get(backend.put_bytes(key="child", content=b"x")) == b"x" else 1)
            return b""

    stream = Forking()
    backend.put_stream(key="parent", stream=stream)  # type: ignore[arg-type]
    assert os.waitpid(stream.forked, 0)[1] == 0
