"""File fields at work, on SQLite and local files: ``make demo``.

Every step prints its own code, then what was checked, then the tree of stored files beside the rows that name them. The
exit status is 0 only if every check held.
"""

from __future__ import annotations

import io
import struct
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

from migrating import apply_migrations, excerpt, is_up_to_date, make_project, write_migration
from models import Document, Person, make_engine, make_manager
from sqlalchemy import func, inspect, select
from sqlalchemy.orm import Session
from stage import Stage, WrongOutcomeError, paint

from granite_storage import ContentTooLargeError, ContentTypeNotAllowedError, Upload


def png(shade: int) -> bytes:
    """A small grey picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress((b"\0" + bytes([shade]) * 32) * 32)
    header = struct.pack(">2I5B", 32, 32, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pdf(words: str, size: int = 1000) -> bytes:
    """Something that begins as a PDF does."""
    return f"%PDF-1.7\n% {words}\n".encode().ljust(size, b".")


FOLDER = Path(tempfile.mkdtemp(prefix="granite-storage-demo-"))
PORTRAIT = FOLDER / "ada.png"
SCAN = FOLDER / "scan.pdf"


def add_from_a_path(session: Session, stage: Stage) -> None:
    """Add a row with a file, from a path"""
    ada = Person(name="Ada", portrait=PORTRAIT)
    session.add(ada)
    session.commit()
    stage.check("the portrait's type was read from its bytes", ada.portrait.content_type == "image/png")
    stage.check("its filename is kept beside it", ada.portrait.filename == "ada.png")
    stage.check("its bytes are those of the path", ada.portrait.read() == PORTRAIT.read_bytes())


def add_from_a_stream(session: Session, stage: Stage) -> None:
    """Add from a stream: it is read once, from where it stands, when the session flushes"""
    ada = session.scalars(select(Person)).one()
    with SCAN.open("rb") as stream:
        report = Document(title="Notes", author=ada, report=Upload(stream, filename="notes.pdf"))
        session.add(report)
        session.commit()
    stage.check("the report is a PDF", report.report.content_type == "application/pdf")
    stage.check("its size is 20 000 bytes, also as report_size", report.report.size == report.report_size == 20_000)


def add_from_bytes(session: Session, stage: Stage) -> None:
    """Add from bytes: two files of one row, stored side by side"""
    ada = session.scalars(select(Person)).one()
    letter = Document(title="Letter", author=ada, report=pdf("Dear Charles"), cover=png(100))
    session.add(letter)
    session.commit()
    stage.check("both are stored", letter.report.exists() and letter.cover.exists())
    stage.check("both are intact", letter.report.verify() is None and letter.cover.verify() is None)


def query(session: Session, stage: Stage) -> None:
    """Query by size and type: file fields are columns, and their members are SQL"""
    large = session.scalars(select(Document.title).where(Document.report.size > 5_000)).all()
    pictured = session.scalars(select(Document.title).where(Document.cover.content_type == "image/png")).all()
    bare = session.scalars(select(Document.title).where(Document.cover.is_(None))).all()
    total = session.scalar(select(func.sum(Document.report.size)))
    stage.check("the large one is Notes", large == ["Notes"])
    stage.check("the one with a picture is Letter", pictured == ["Letter"])
    stage.check("the one without a cover is Notes", bare == ["Notes"])
    stage.check("the reports have 21 000 bytes together", total == 21_000)


def open_and_seek(session: Session, stage: Stage) -> None:
    """Open and seek: a stream that reads only what is asked for"""
    notes = session.scalars(select(Document).where(Document.title == "Notes")).one()
    with notes.report.open() as stream:
        head = stream.read(8)
        stream.seek(-5, io.SEEK_END)
        tail = stream.read()
    stage.check("the head is that of a PDF", head == b"%PDF-1.7")
    stage.check("the tail is the end of the file", tail == SCAN.read_bytes()[-5:])


def replace(session: Session, stage: Stage) -> None:
    """Replace: a new file is never written over the old one, which goes once the commit is durable"""
    notes = session.scalars(select(Document).where(Document.title == "Notes")).one()
    old = notes.report
    notes.report = Upload(pdf("second edition"), filename="notes-2.pdf")
    session.flush()
    stage.check("before the commit both are there", old.exists() and notes.report.exists())
    stage.show("before the commit")
    session.commit()
    stage.check("after it only the new one is", notes.report.exists() and not old.exists())


def roll_back(session: Session, stage: Stage) -> None:
    """Roll back: what the transaction stored goes, what it would have replaced stays"""
    letter = session.scalars(select(Document).where(Document.title == "Letter")).one()
    letter.report = pdf("Dear Mary")
    letter.cover = None
    session.flush()
    stage.show("before the rollback")
    session.rollback()
    stage.check("the letter is the old one", b"Dear Charles" in letter.report.read())
    stage.check("its cover is back", letter.cover is not None and letter.cover.exists())


def savepoint(session: Session, stage: Stage) -> None:
    """A savepoint that is rolled back inside a transaction that commits"""
    letter = session.scalars(select(Document).where(Document.title == "Letter")).one()
    letter.report = pdf("Dear Charles, kept")
    session.flush()
    inner = session.begin_nested()
    letter.report = pdf("Dear Charles, undone")
    letter.cover = png(1)
    session.flush()
    inner.rollback()
    session.commit()
    stage.check("the letter is that of the outer transaction", b"Dear Charles, kept" in letter.report.read())
    stage.check("the cover is the old one", letter.cover.read() == png(100))


def reject(session: Session, stage: Stage) -> None:
    """Reject what a policy refuses: nothing is stored, and the error has an HTTP status to answer with"""
    ada = session.scalars(select(Person)).one()
    ada.portrait = bytes(16 * 1024 + 1)
    try:
        session.flush()
    except ContentTooLargeError as error:
        too_large = error
    ada.portrait = Upload(b"#!/bin/sh\nexit\n", filename="ada.png", content_type="image/png")
    try:
        session.flush()
    except ContentTypeNotAllowedError as error:
        not_an_image = error
    session.rollback()
    stage.check(f"{too_large.http_status}: {too_large}", too_large.http_status == 413)
    stage.check(f"{not_an_image.http_status}: {not_an_image}", not_an_image.http_status == 415)
    stage.check("the portrait is as it was", ada.portrait.read() == PORTRAIT.read_bytes())


def copy_and_move(session: Session, stage: Stage) -> None:
    """Assign a stored file: it is copied, or it moves if its field gives it up; no object is ever shared"""
    notes, letter = session.scalars(select(Document).order_by(Document.id))
    picture, portrait = letter.cover.location, letter.author.portrait.location
    notes.cover = letter.cover
    session.commit()
    stage.check("the copy is an object of its own", notes.cover.location != picture and notes.cover.read() == png(100))
    letter.cover, letter.author.portrait = letter.author.portrait, letter.cover
    session.commit()
    stage.check("the portrait moved to the letter", letter.cover.location == portrait)
    stage.check("the letter's cover moved to the portrait", letter.author.portrait.location == picture)


def delete(session: Session, stage: Stage) -> None:
    """Delete, here as an orphan of its author: all files of the row go with it"""
    notes, letter = session.scalars(select(Document).order_by(Document.id))
    gone = [notes.report, notes.cover]
    notes.author.documents.remove(notes)
    session.commit()
    stage.check("both of its files are gone", not any(file.exists() for file in gone))
    stage.check("the other document has its own", letter.report.exists() and letter.cover.exists())


STEPS: tuple[Callable[[Session, Stage], None], ...] = (
    add_from_a_path,
    add_from_a_stream,
    add_from_bytes,
    query,
    open_and_seek,
    replace,
    roll_back,
    savepoint,
    reject,
    copy_and_move,
    delete,
)


def migrate(stage: Stage, url: str) -> None:
    """Write the migration of the models with a stock Alembic project, and apply it."""
    print("\n" + paint("1. Migrate: `alembic revision --autogenerate` writes a script that runs as it is", "bold"))
    config = make_project(FOLDER / "migrations", url)
    script = write_migration(config, "people and documents")
    print(textwrap.indent(paint(excerpt(script), "blue"), "    "))
    apply_migrations(config)
    tables = inspect(stage.engine).get_table_names()
    stage.check("`alembic upgrade head` made the tables", {"person", "document"} <= set(tables))
    ours = {"granite_storage_outbox", "granite_storage_fields"}
    stage.check("and the two that freed files and file fields are written down in", ours <= set(tables))
    stage.check("`alembic check` finds nothing left to migrate", is_up_to_date(config))
    stage.show("the files, and the rows that name them", committed=True)


def main() -> int:
    """Play all steps."""
    print(f"The demo's database, migrations and files are in {FOLDER}")
    print(
        "Each step shows the tree of stored files as it was and as it is: '+' marks a new file, '-' one that is gone."
    )
    PORTRAIT.write_bytes(png(200))
    SCAN.write_bytes(pdf("first edition", 20_000))
    url = f"sqlite:///{FOLDER / 'demo.db'}"
    engine = make_engine(url)
    make_manager(FOLDER / "files")
    stage = Stage(engine, FOLDER / "files")
    try:
        migrate(stage, url)
        for number, step in enumerate(STEPS, start=2):
            stage.play(number, step)
    except WrongOutcomeError as error:
        print(paint(f"  WRONG    {error}", "red"))
        return 1
    finally:
        engine.dispose()
    print(f"\nAll {stage.checks} checks held. Look around in {FOLDER}, then remove it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
