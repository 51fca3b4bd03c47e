"""Faults that last: one clear error after the last attempt, and nothing visible of what was not whole."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.exceptions import BackendError, BackendUnavailableError
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.operations import CASES, Case, Store
from tests.backends.s3_faults.proxy import Fault, FaultyProxy
from tests.backends.s3_faults.test_passing import WITH_BODY

FAULTS: dict[str, Fault] = {
    "500": faults.refused(500, "InternalError"),
    "503": faults.refused(503, "SlowDown", "Please reduce your request rate."),
    "reset": faults.lost_request,
    "stall": faults.stalled,
}
BODY_FAULTS: dict[str, Fault] = {
    "reset": faults.reset_answer,
    "truncated": faults.truncated_answer,
    "stall": faults.stalled_answer,
}


def _check(store: Store, case: Case, kind: type[BackendError] = BackendUnavailableError) -> str:
    """What the error says that the case ends in, when it is sure that nothing else is wrong."""
    case.prepare(store)
    with pytest.raises(BackendError) as raised:
        case.run(store)
    message = str(raised.value)
    assert isinstance(raised.value, kind), message
    assert f"in bucket {store.direct.bucket!r}" in message
    assert "'docs" in message or case.name.startswith(("list", "leftovers")), "the location is named"
    assert raised.value.__cause__ is not None
    assert not re.search(r"http\S*\?", message), "a URL's query may hold a signature"
    assert store.locations() == ["docs/medium", "docs/small"], "what is not whole is not visible, and nothing is lost"
    if not case.name.startswith("leftovers"):
        assert store.unfinished() == []
    return message


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_each_time_is_one_clear_error(
    store: Store, proxy: FaultyProxy, through: Callable[..., S3StorageBackend], case: Case, fault: str
) -> None:
    store.backend = through(max_attempts=1 if fault == "stall" else 2, read_timeout=1 if fault == "stall" else 30)
    proxy.on(case.request, FAULTS[fault])
    message = _check(store, case)
    assert f"tried {1 if fault == 'stall' else 2} time" in message


@pytest.mark.parametrize("case", WITH_BODY, ids=str)
@pytest.mark.parametrize("fault", BODY_FAULTS)
def test_an_answer_that_breaks_off_each_time_is_one_clear_error(
    store: Store, proxy: FaultyProxy, through: Callable[..., S3StorageBackend], case: Case, fault: str
) -> None:
    store.backend = through(max_attempts=1, read_timeout=1 if fault == "stall" else 30)
    proxy.on(case.request, BODY_FAULTS[fault])
    _check(store, case)
