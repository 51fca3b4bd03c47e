"""Faults that pass: the request is sent again, and nobody notices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from granite_storage.backends.s3 import S3StorageBackend
from tests.backends.s3_faults import faults
from tests.backends.s3_faults.operations import CASES, NEW, Case, Store
from tests.backends.s3_faults.proxy import Fault, FaultyProxy

FAULTS: dict[str, Sequence[Fault]] = {
    "500, 503": (faults.refused(500, "InternalError"), faults.refused(503, "SlowDown", "Please reduce your rate.")),
    "reset": (faults.lost_request, faults.lost_request),
    "lost answer": (faults.lost_answer,),
    "stall": (faults.stalled,),
}
BODY_FAULTS: dict[str, Sequence[Fault]] = {
    "reset, truncated": (faults.reset_answer, faults.truncated_answer),
    "stall": (faults.stalled_answer,),
}
WITH_BODY = [case for case in CASES if case.request in ("GetObject", "ListObjectsV2", "ListMultipartUploads")]


def _check(store: Store, proxy: FaultyProxy, case: Case, met: Sequence[Fault]) -> None:
    for fault in met:
        proxy.on(case.request, fault, times=1)
    case.prepare(store)
    assert case.run(store) == case.expected
    assert proxy.seen.count(case.request) > len(met)
    if case.stores:
        assert store.direct.get(store.file(NEW, case.stores).ref) == case.stores
    if case.request == "CreateMultipartUpload" and faults.lost_answer in met:  # nobody knows its id but by a listing
        assert store.unfinished() == [NEW]
        store.direct.remove_leftovers(datetime.now(UTC) + timedelta(minutes=1))
    assert store.unfinished() == []


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_that_fails_is_sent_again(
    store: Store, proxy: FaultyProxy, through: Callable[..., S3StorageBackend], case: Case, fault: str
) -> None:
    if fault == "stall":
        store.backend = through(read_timeout=1)
    _check(store, proxy, case, FAULTS[fault])


@pytest.mark.parametrize("case", WITH_BODY, ids=str)
@pytest.mark.parametrize("fault", BODY_FAULTS)
def test_an_answer_that_breaks_off_is_asked_for_again(
    store: Store, proxy: FaultyProxy, through: Callable[..., S3StorageBackend], case: Case, fault: str
) -> None:
    if fault == "stall":
        store.backend = through(read_timeout=1)
    _check(store, proxy, case, BODY_FAULTS[fault])
