"""Somebody else writes while a conversion runs: their word counts, and nothing is left over."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from granite_storage import ConversionError
from granite_storage.ownership import is_mark


def meanwhile(archive, *others):
    """Call each of the others once, before the next put that a conversion makes."""
    put = archive.backend.put_stream
    waiting = list(others)

    def disturbed(**arguments):
        if not is_mark(arguments["key"]):
            while waiting:
                archive.backend.put_stream = put
                waiting.pop(0)()
        return put(**arguments)

    archive.backend.put_stream = disturbed


def give_file(archive, number, content):
    with Session(archive.engine) as session:
        session.get_one(archive.Document, number).report = content
        session.commit()


def delete(archive, number):
    with archive.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM document WHERE id = {number}"))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_rows_that_are_written_meanwhile_are_not_overwritten(archive, batch_size):
    archive.add(*({"body": f"old {number}".encode()} for number in range(1, 6)))
    meanwhile(
        archive,
        lambda: give_file(archive, 1, b"a new file"),
        lambda: archive.set(2, body=b"changed"),
        lambda: archive.set(3, body=None),
        lambda: delete(archive, 4),
    )
    archive.ingest("body", batch_size=batch_size)
    assert archive.files() == {1: b"a new file", 2: b"changed", 3: None, 5: b"old 5"}
    assert archive.objects() == archive.named()
    assert archive.freed() == set()


def test_a_row_that_is_written_again_and_again_is_an_error(archive):
    archive.add({"body": b"old"}, {"body": b"quiet"})
    put = archive.backend.put_stream

    def disturbed(**arguments):
        if not is_mark(arguments["key"]):
            archive.set(1, body=arguments["key"].encode())
        return put(**arguments)

    archive.backend.put_stream = disturbed
    archive.manager.pool.size = 1  # no two writers at once
    with pytest.raises(ConversionError, match=r"document \(id=1\): it is written again and again"):
        archive.ingest("body")
    assert archive.files() == {1: None, 2: b"quiet"}
    assert archive.objects() == archive.named()


def test_a_file_that_is_replaced_on_the_way_back_goes_back_as_it_is_then(archive):
    archive.add({"body": b"one"}, {"body": b"two"}, {"body": b"three"})
    archive.ingest("body")
    archive.set(1, body=None)
    get = archive.backend.get
    waiting = [
        lambda: give_file(archive, 1, b"replaced"),
        lambda: delete(archive, 2),
        lambda: give_file(archive, 3, b"replaced, too"),
    ]

    def disturbed(ref):
        while waiting:
            waiting.pop()()
        return get(ref)

    archive.backend.get = disturbed
    report = archive.put_back("body")
    assert archive.old("body") == {1: b"replaced", 3: b"replaced, too"}
    assert archive.files() == {1: None, 3: None}
    assert report.rows == 2


def test_rows_that_come_behind_the_end_are_left_and_told(archive):
    archive.add({"body": b"one"}, {"body": b"two"})
    with archive.engine.begin() as connection:
        connection.execute(text("UPDATE document SET id = id + 10"))

    def insert(progress):
        archive.add({"body": b"late"})

    with pytest.raises(ConversionError, match="1 row is left"):
        archive.ingest("body", progress=insert)
    archive.ingest("body")
    assert archive.files() == {1: b"late", 11: b"one", 12: b"two"}
