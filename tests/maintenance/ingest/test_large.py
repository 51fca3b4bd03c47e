"""Large values: read piece by piece, in batches that are bounded by bytes."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from sqlalchemy import text, update

MIB = 2**20


def test_a_value_of_several_pieces_is_whole(archive, monkeypatch):
    monkeypatch.setattr("granite_storage.maintenance.ingest.old_values.PIECE", 1000)
    content = hashlib.shake_256(b"content").digest(10_500)
    note = "".join("añ日🎉"[n % 4] * (1 + n % 7) for n in range(3000))
    archive.add({"body": content, "note": note}, {"body": content[:2000], "note": note[:2000]})
    archive.ingest("body")
    assert archive.files() == {1: content, 2: content[:2000]}
    archive.put_back("body")
    archive.ingest("note", kind="text", encoding="utf-16-le")
    assert archive.files() == {1: note.encode("utf-16-le"), 2: note[:2000].encode("utf-16-le")}
    archive.set(1, note=None)
    archive.put_back("note", kind="text", encoding="utf-16-le")
    assert archive.old("note") == {1: note, 2: note[:2000]}


@pytest.mark.databases("sqlite", "postgresql")
def test_memory_is_bounded(archive):
    archive.add({"body": b""}, {"body": b""})
    made = "zeroblob(67108864)" if archive.engine.dialect.name == "sqlite" else "decode(repeat('00', 67108864), 'hex')"
    with archive.engine.begin() as connection:
        connection.execute(text(f"UPDATE document SET body = {made}"))
    tracemalloc.start()
    try:
        archive.ingest("body")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert archive.file(2).size == 64 * MIB
    limit = 24 if archive.engine.dialect.name == "postgresql" else 100  # sqlite3 hands a function its whole argument
    assert peak < limit * MIB


def test_batches_are_bounded_by_bytes_and_by_rows(archive):
    archive.add(*({"body": bytes(size)} for size in (60, 60, 250, 10, 10, 10, 10, 10, 10)))
    batches = []
    archive.ingest("body", batch_size=4, batch_bytes=130, progress=lambda done: batches.append(done.rows))
    assert batches == [2, 3, 7, 9]


@pytest.mark.databases("mariadb")
def test_what_no_statement_of_the_server_can_hold_is_an_error_by_row(archive):
    archive.add({"body": None}, {"body": b"small"})
    with archive.engine.connect() as connection:
        limit = connection.scalar(text("SELECT @@max_allowed_packet"))
    archive.ingest("body")
    stored = archive.manager.store("documents", b"'" * (limit // 2 + 1000))
    with archive.engine.begin() as connection:
        table = archive.Document.__table__
        connection.execute(update(table).where(table.c.id == 1).values(report=stored.ref))
    report = archive.put_back("body", on_error="skip")
    assert f"max_allowed_packet={limit}" in str(report.failures[0])
    assert archive.old("body") == {1: None, 2: b"small"}
    assert archive.files()[1] == b"'" * (limit // 2 + 1000)
