"""A pytest plugin for applications: storage in memory for each test, and what the test stored and freed.

In the application's root ``conftest.py``, or with ``-p granite_storage.testing.plugin``::

    pytest_plugins = ["granite_storage.testing.plugin"]

    @pytest.fixture(scope="session")
    def storage_manager():
        return manager                     # the application's own StorageManager

and then in its tests::

    def test_a_report_is_kept(stored_files, client):
        client.post("/documents", files={"report": ("report.pdf", b"%PDF-1.7")})
        assert [ref.original_filename for ref in stored_files.stored] == ["report.pdf"]

A test that does not look takes ``memory_storage`` alone. A fixture that opens sessions takes one of the two as well, so
that the sessions end before the storage does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from granite_storage.manager import StorageManager
from granite_storage.testing.stored_files import StoredFiles, WatchedBackend

__all__ = ["memory_storage", "storage_manager", "stored_files"]


@pytest.fixture
def storage_manager() -> StorageManager:
    """The application's StorageManager: define a fixture of this name, of any scope, that returns it."""
    pytest.fail(
        "granite_storage.testing.plugin needs the application's storage manager: define in conftest.py a fixture\n\n"
        '    @pytest.fixture(scope="session")\n'
        "    def storage_manager():\n"
        "        return manager  # the StorageManager that your models are attached to\n",
        pytrace=False,
    )


@pytest.fixture
def memory_storage(storage_manager: StorageManager) -> Iterator[StorageManager]:
    """The application's StorageManager with a fresh backend in memory in the place of each of its own."""
    if not isinstance(storage_manager, StorageManager):
        pytest.fail(
            f"the fixture storage_manager gives {type(storage_manager).__name__}; let it return a StorageManager",
            pytrace=False,
        )
    with storage_manager.override({name: WatchedBackend() for name in storage_manager.backends}):
        yield storage_manager


@pytest.fixture
def stored_files(memory_storage: StorageManager) -> Iterator[StoredFiles]:
    """What the test stored, freed, discarded and deleted, with every backend in memory."""
    with StoredFiles(memory_storage).watching() as files:
        yield files
