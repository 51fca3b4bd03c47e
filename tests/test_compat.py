"""What granite-storage 0.1.0 promised still holds: its names, its shapes, its backends, its rows."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any, BinaryIO

import pytest
from sqlalchemy import JSON, Column, Integer, MetaData, Table, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import granite_storage
from granite_storage import (
    ContentTooLargeError,
    FileColumn,
    FileMapped,
    InvalidRefError,
    ObjectNotFoundError,
    SizeLimitedStream,
    StorageBackend,
    StorageError,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    portable_storage_ref_type,
)
from granite_storage.backends.local import LocalStorageBackend
from granite_storage.backends.s3 import S3StorageBackend
from granite_storage.integrations.sqlalchemy import iter_model_storage_refs
from granite_storage.ownership import is_mark


class MinimalBackend:
    """A third party's backend, written to 0.1.0's protocol and nothing else."""

    backend_name = "minimal"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> StoredObjectRef:
        self.objects[key] = content
        return StoredObjectRef("", "minimal", key, len(content), "sha256:not computed", content_type, original_filename)

    def put_stream(
        self,
        *,
        key: str,
        stream: BinaryIO,
        size: int | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: dict[str, Any] | None = None,
    ) -> StoredObjectRef:
        return self.put_bytes(
            key=key, content=stream.read(), content_type=content_type, original_filename=original_filename, extra=extra
        )

    def get(self, ref: StoredObjectRef) -> bytes:
        if ref.location not in self.objects:
            raise ObjectNotFoundError(f"no object at {ref.location!r}")
        return self.objects[ref.location]

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        return io.BufferedReader(NotSeekable(self.get(ref)))

    def delete(self, ref: StoredObjectRef) -> None:
        self.objects.pop(ref.location, None)

    def exists(self, ref: StoredObjectRef) -> bool:
        return ref.location in self.objects

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        return (location for location in list(self.objects) if location.startswith(prefix or ""))


class NotSeekable(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self.content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken, self.content = self.content[: len(buffer)], self.content[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


OLD_ARGUMENTS = {"storage_key": "documents", "model_name": "document", "entity_id": 42, "field_name": "report"}


@pytest.fixture
def backend(tmp_path) -> LocalStorageBackend:
    return LocalStorageBackend(tmp_path / "root")


@pytest.fixture
def manager(backend) -> StorageManager:
    return StorageManager(
        {"main": backend},
        {
            "documents": StoragePolicy("documents", "main", 1000, "docs"),
            "covers": StoragePolicy("covers", "main"),
        },
    )


# Names


@pytest.mark.parametrize(
    "name",
    [
        "granite_storage.StorageManager",
        "granite_storage.StoragePolicy",
        "granite_storage.StoredObjectRef",
        "granite_storage.StoredObjectRefType",
        "granite_storage.portable_storage_ref_type",
        "granite_storage.StorageError",
        "granite_storage.ContentTooLargeError",
        "granite_storage.SizeLimitedStream",
        "granite_storage.StorageBackend",
        "granite_storage.backends.local.LocalStorageBackend",
        "granite_storage.backends.s3.S3StorageBackend",
        "granite_storage.integrations.sqlalchemy.iter_model_storage_refs",
        "granite_storage.manager.StorageManager",
        "granite_storage.policies.StoragePolicy",
        "granite_storage.exceptions.StorageError",
    ],
)
def test_what_was_imported_from_there_still_is(name):
    module, _, attribute = name.rpartition(".")
    assert attribute in getattr(import_module(module), "__all__", dir(import_module(module)))
    assert getattr(import_module(module), attribute) is not None


def test_every_public_name_is_there():
    assert len(set(granite_storage.__all__)) == len(granite_storage.__all__)
    for name in granite_storage.__all__:
        assert getattr(granite_storage, name) is not None


# Values


def test_a_policy_is_frozen_and_positional_in_its_order():
    policy = StoragePolicy("documents", "main", 5, "docs")
    assert (policy.storage_key, policy.backend_key, policy.max_size, policy.key_prefix) == (
        "documents",
        "main",
        5,
        "docs",
    )
    assert StoragePolicy("documents", "main") == StoragePolicy(
        storage_key="documents", backend_key="main", max_size=None
    )
    with pytest.raises(FrozenInstanceError):
        policy.max_size = 6
    with pytest.raises(TypeError):
        StoragePolicy("documents", "main", 5, "docs", 1)  # what came since is by keyword only


def test_a_ref_is_positional_in_its_order():
    ref = StoredObjectRef(
        "documents", "local", "docs/a", 5, "sha256:00", "text/plain", "a.txt", "2024-01-01T00:00:00+00:00", {"k": 1}
    )
    assert ref.to_dict() == {
        "storage_key": "documents",
        "backend": "local",
        "location": "docs/a",
        "size": 5,
        "checksum": "sha256:00",
        "content_type": "text/plain",
        "original_filename": "a.txt",
        "created_at": "2024-01-01T00:00:00+00:00",
        "extra": {"k": 1},
    }
    assert StoredObjectRef.from_dict(ref.to_dict()) == ref
    assert StoredObjectRef("documents", "local", "docs/a", 5, "sha256:00").extra is None


def test_errors_keep_their_family():
    assert issubclass(ContentTooLargeError, StorageError)
    assert issubclass(StorageError, Exception)


def test_a_size_limited_stream_limits():
    assert SizeLimitedStream(io.BytesIO(b"12345"), 5, 2).read() == b"12345"
    assert list(SizeLimitedStream(io.BytesIO(b"12345"), 5, 2)) == [b"12", b"34", b"5"]
    with pytest.raises(ContentTooLargeError):
        SizeLimitedStream(io.BytesIO(b"123456"), 5, 2).read()


def test_the_column_types_are_json_and_jsonb():
    for type_ in (StoredObjectRefType(), portable_storage_ref_type()):
        assert isinstance(type_.dialect_impl(sqlite.dialect()), JSON) or isinstance(type_.impl, JSON)
        assert str(type_.compile(dialect=postgresql.dialect())) == "JSONB"
        assert str(type_.compile(dialect=sqlite.dialect())) == "JSON"


# The manager


def test_put_bytes_put_stream_get_open_exists_delete(manager):
    refs = [
        manager.put_bytes(**OLD_ARGUMENTS, content=b"content"),
        manager.put_stream(**OLD_ARGUMENTS, stream=io.BytesIO(b"content")),
        manager.put_bytes(
            **OLD_ARGUMENTS, content=b"content", content_type="text/csv", original_filename="a.csv", extra={"k": "v"}
        ),
        manager.put_stream(
            **OLD_ARGUMENTS,
            stream=io.BytesIO(b"content"),
            content_type="text/csv",
            original_filename="a.csv",
            extra={"k": "v"},
        ),
    ]
    for ref in refs:
        assert type(ref) is StoredObjectRef
        assert (ref.storage_key, ref.size) == ("documents", 7)
        assert re.fullmatch("sha256:[0-9a-f]{64}", ref.checksum)
        assert datetime.fromisoformat(ref.created_at).utcoffset() == timedelta(0)
        assert manager.get(ref) == b"content"
        with manager.open(ref) as stream:
            assert stream.read() == b"content"
        assert manager.exists(ref)
    for ref in refs[2:]:
        assert (ref.content_type, ref.original_filename, ref.extra["k"]) == ("text/csv", "a.csv", "v")
    for ref in refs:
        manager.delete(ref)
        manager.delete(ref)
        assert not manager.exists(ref)


@pytest.mark.parametrize("method", ["put_bytes", "put_stream"])
def test_the_puts_take_keywords_only_and_these(method):
    signature = inspect.signature(getattr(StorageManager, method))
    content = {"put_bytes": "content", "put_stream": "stream"}[method]
    names = [
        "storage_key",
        "model_name",
        "entity_id",
        "field_name",
        content,
        "content_type",
        "original_filename",
        "extra",
    ]
    parameters = list(signature.parameters.values())[1:]
    assert [parameter.name for parameter in parameters] == names
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)
    assert [parameter.name for parameter in parameters if parameter.default is None] == names[5:]


def test_the_puts_keep_their_layout(manager):
    with_prefix = manager.put_bytes(**OLD_ARGUMENTS, content=b"%PDF-1.7", original_filename="report.pdf")
    assert re.fullmatch(r"docs/document/42-[0-9a-f]{8}\.pdf", with_prefix.location)
    without = manager.put_stream(**{**OLD_ARGUMENTS, "storage_key": "covers"}, stream=io.BytesIO(b"\x00\x01"))
    assert re.fullmatch(r"document/42-[0-9a-f]{8}", without.location)


@pytest.mark.parametrize("model_name", ["../../etc", "a/b", "..", ".incoming", "a\x00b", "ünïcode", ""])
@pytest.mark.parametrize("entity_id", [1, "../x", "a/b/../c", None, "x" * 100])
def test_no_model_name_and_no_entity_id_leaves_the_folder(manager, backend, tmp_path, model_name, entity_id):
    arguments = {**OLD_ARGUMENTS, "model_name": model_name, "entity_id": entity_id}
    try:
        ref = manager.put_bytes(**arguments, content=b"content")
    except StorageError:
        return
    assert ref.location.startswith("docs/")
    assert ref.location.count("/") == 2
    assert manager.get(ref) == b"content"
    assert (tmp_path / "root" / ref.location).resolve().is_relative_to(tmp_path / "root" / "docs")


def test_the_puts_enforce_the_policy(manager, backend):
    with pytest.raises(ContentTooLargeError):
        manager.put_bytes(**OLD_ARGUMENTS, content=bytes(1001))
    with pytest.raises(ContentTooLargeError):
        manager.put_stream(**OLD_ARGUMENTS, stream=io.BytesIO(bytes(1001)))
    assert list(backend.iter_locations()) == []


def test_the_puts_read_a_stream_from_where_it_stands(manager):
    stream = io.BytesIO(b"headerbody")
    stream.seek(6)
    ref = manager.put_stream(**OLD_ARGUMENTS, stream=stream)
    assert (manager.get(ref), ref.size) == (b"body", 4)


def test_unknown_policies_and_backends_are_named(manager):
    with pytest.raises(StorageError, match="Unknown storage policy"):
        manager.get_policy("nothing")
    with pytest.raises(StorageError, match="Unknown storage policy"):
        manager.put_bytes(**{**OLD_ARGUMENTS, "storage_key": "nothing"}, content=b"")
    with pytest.raises(StorageError, match="Unknown backend"):
        manager.get_backend_for_policy(StoragePolicy("x", "nothing"))
    with pytest.raises(StorageError, match="Unknown backend"):
        manager.get(StoredObjectRef("documents", "nothing", "docs/a", 1, ""))
    assert manager.get_policy("documents").max_size == 1000
    assert manager.get_backend_for_policy(manager.get_policy("documents")).backend_name == "local"


def test_the_local_backend_makes_its_directory_and_refuses_to_leave_it(tmp_path):
    backend = LocalStorageBackend(tmp_path / "made" / "by it")
    assert backend.backend_name == "local"
    ref = backend.put_bytes(key="a/b.txt", content=b"content")
    assert (tmp_path / "made" / "by it" / "a" / "b.txt").read_bytes() == b"content"
    assert (ref.storage_key, ref.location) == ("", "a/b.txt")
    with pytest.raises(StorageError):
        backend.put_bytes(key="../outside", content=b"")
    with pytest.raises(StorageError):
        backend.get(ref.replace(location="../../outside"))


def test_the_s3_backend_has_its_arguments(s3_bucket):
    backend = S3StorageBackend(
        bucket=s3_bucket.name, prefix="pre", client=s3_bucket.client, extra_put_kwargs={"ContentType": "text/x-old"}
    )
    assert backend.backend_name == "s3"
    ref = backend.put_bytes(key="docs/a", content=b"content")
    assert (ref.location, ref.extra["bucket"]) == ("docs/a", s3_bucket.name)
    head = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key="pre/docs/a")
    assert (head["ContentLength"], head["ContentType"]) == (7, "text/x-old")
    assert list(backend.iter_locations()) == ["docs/a"]


# A backend written for 0.1.0


def test_a_minimal_backend_satisfies_the_protocol():
    backend: StorageBackend = MinimalBackend()
    assert isinstance(backend, StorageBackend)


def test_a_minimal_backend_works_under_the_manager(tmp_path):
    backend = MinimalBackend()
    manager = StorageManager(
        {"third": backend},
        {
            "documents": StoragePolicy("documents", "third", 1000, "docs", min_size=1),
            "others": StoragePolicy("others", "third"),
        },
    )
    stored = manager.store("documents", b"%PDF-1.7 content")
    assert stored.checksum.startswith("sha256:")
    assert len(stored.checksum) == 71
    assert (stored.backend, stored.size, stored.content_type) == ("third", 16, "application/pdf")
    assert (stored.read(), stored.text(), stored.exists()) == (b"%PDF-1.7 content", "%PDF-1.7 content", True)
    with stored.open() as stream:
        stream.seek(-7, io.SEEK_END)
        assert stream.read() == b"content"
    assert b"".join(stored.iter_bytes(5)) == b"%PDF-1.7 content"
    stored.verify()
    assert stored.save_to(tmp_path / "saved").read_bytes() == b"%PDF-1.7 content"
    with stored.as_path() as path:
        assert path.read_bytes() == b"%PDF-1.7 content"
    copied = manager.copy("others", stored)
    assert copied.read() == stored.read()
    assert copied.location != stored.location
    for source, error in ((bytes(1001), ContentTooLargeError), (io.BytesIO(bytes(1001)), ContentTooLargeError)):
        with pytest.raises(error):
            manager.store("documents", source)
    assert set(backend.objects) == {stored.location, copied.location}
    manager.delete(stored.ref)
    assert not stored.exists()


def test_a_minimal_backend_works_under_a_session(memory_engine):
    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn("documents")

    backend = MinimalBackend()
    StorageManager({"third": backend}, {"documents": StoragePolicy("documents", "third")}).attach(Base)
    Base.metadata.create_all(memory_engine)
    with Session(memory_engine) as session:
        one, two = Document(report=b"one"), Document(report=b"two")
        session.add_all([one, two])
        session.commit()
        one.report = b"rolled back"
        session.flush()
        session.rollback()
        two.report = one.report
        session.commit()
        assert (one.report.read(), two.report.read()) == (b"one", b"one")
        stored = sorted(location for location in backend.objects if not is_mark(location))
        assert stored == sorted([one.report.location, two.report.location])
        session.delete(one)
        session.delete(two)
        session.commit()
    assert [location for location in backend.objects if not is_mark(location)] == []


# Rows that 0.1.0 wrote


def old_ref(location: str, content: bytes, **members: Any) -> dict[str, Any]:
    """A ref as 0.1.0 wrote it: with the backend class's name, and without what came since."""
    return {
        "storage_key": "documents",
        "backend": "local",
        "location": location,
        "size": len(content),
        "checksum": "sha256:00",
        "content_type": None,
        "original_filename": None,
        "created_at": "2023-04-05T06:07:08+00:00",
        "extra": None,
        **members,
    }


@pytest.fixture
def old_rows(engine, backend) -> None:
    """A table that 0.1.0's mixin wrote, and its objects."""
    rows: list[Mapping[str, Any] | str | None] = []
    for number in (1, 2):
        location, content = f"docs/document/{number}-0a1b2c3d.txt", f"content {number}".encode()
        backend.put_bytes(key=location, content=content)
        rows.append(old_ref(location, content))
    rows += ["null", None, {"legacy_inline_text": "inline"}]
    json_type = "JSONB" if engine.dialect.name == "postgresql" else "JSON"
    value = "CAST(:row AS JSONB)" if json_type == "JSONB" else ":row"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE document (id INTEGER PRIMARY KEY, _file_ref {json_type})"))
        for number, row in enumerate(rows, 1):
            written = json.dumps(row) if isinstance(row, dict) else row
            connection.execute(text(f"INSERT INTO document VALUES (:id, {value})"), {"id": number, "row": written})


@pytest.fixture
def Document(manager, engine, old_rows) -> type[Any]:
    """The model that takes over the table, after the migration of docs/upgrade.md, which adds two tables."""

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = "document"
        id: Mapped[int] = mapped_column(primary_key=True)
        file: FileMapped[StoredFile | None] = FileColumn("documents", name="_file_ref")

    manager.attach(Base)
    Base.metadata.create_all(engine)
    return Document


def test_its_rows_are_read_searched_replaced_and_deleted(engine, old_rows, Document, backend):
    with Session(engine) as session:
        one, two, three, four, five = session.scalars(select(Document).order_by(Document.id)).all()
        assert (one.file.read(), two.file.text()) == (b"content 1", "content 2")
        assert one.file.backend == "local"
        assert one.file.created_at.year == 2023
        assert (three.file, four.file) == (None, None)
        ids = select(Document.id).order_by(Document.id)
        assert session.scalars(ids.where(Document.file.is_(None))).all() == [3, 4]
        assert session.scalars(ids.where(Document.file.location == one.file.location)).all() == [1]
        assert session.scalars(ids.where(Document.file == one.file)).all() == [1]
        with pytest.raises(InvalidRefError, match=r"inline text of granite-storage 0\.1\.0"):
            five.file.read()
        one.file = b"new content"
        session.delete(two)
        three.file = b"was null"
        five.file = "inline"
        session.commit()
        files = {document.id: document.file and document.file.read() for document in (one, three, four, five)}
        assert files == {1: b"new content", 3: b"was null", 4: None, 5: b"inline"}
        assert sorted(backend.iter_locations()) == sorted(document.file.location for document in (one, three, five))
        assert one.file.backend == "main"


def test_a_move_between_its_rows_keeps_the_object(engine, old_rows, Document, backend):
    with Session(engine) as session:
        one, two = session.get(Document, 1), session.get(Document, 2)
        locations = one.file.location, two.file.location
        one.file, two.file = two.file, one.file
        session.commit()
        assert (two.file.location, one.file.location) == locations
        assert (one.file.read(), two.file.read()) == (b"content 2", b"content 1")


def test_iter_model_storage_refs_gives_the_refs_of_one_attribute(engine, old_rows, Document):
    with Session(engine) as session:
        session.execute(text("DELETE FROM document WHERE id = 5"))
        refs = list(iter_model_storage_refs(session, Document, "file"))
        assert sorted(ref.location for ref in refs) == ["docs/document/1-0a1b2c3d.txt", "docs/document/2-0a1b2c3d.txt"]
        assert all(type(ref) is StoredObjectRef for ref in refs)
        session.rollback()
        with pytest.raises(InvalidRefError):  # whoever deletes what is not referenced must know
            list(iter_model_storage_refs(session, Document, "file"))


def test_a_column_of_its_own_type_loads_refs(engine, old_rows, manager):
    table = Table(
        "document", MetaData(), Column("id", Integer, primary_key=True), Column("_file_ref", StoredObjectRefType())
    )
    with engine.begin() as connection:
        one, _, three = connection.scalars(select(table.c["_file_ref"]).order_by(table.c.id).limit(3)).all()
        assert type(one) is StoredObjectRef
        assert manager.get(one) == b"content 1"
        assert three is None
        connection.execute(insert(table), [{"id": 9, "_file_ref": one.to_dict()}])


def test_a_ref_that_the_manager_made_is_adopted(engine, old_rows, Document, manager, backend):
    """Its way of handing a file to a row: put first, then assign the ref."""
    ref = manager.put_bytes(**OLD_ARGUMENTS, content=b"put first")
    with Session(engine) as session:
        document = session.get(Document, 4)
        document.file = ref
        session.commit()
        assert document.file.location == ref.location
        assert document.file.read() == b"put first"
        document.file = None  # what its mixin called clearing
        session.commit()
    assert not manager.exists(ref)


def test_what_its_mixin_did_assignment_does(engine, old_rows, Document, tmp_path):
    from starlette.datastructures import UploadFile

    with Session(engine) as session:
        document = session.get(Document, 4)
        for value, content in (
            (b"bytes", b"bytes"),
            ("text", b"text"),
            (io.BytesIO(b"stream"), b"stream"),
            (UploadFile(io.BytesIO(b"uploaded"), filename="u.txt"), b"uploaded"),
        ):
            previous = document.file
            document.file = value
            session.commit()
            assert document.file.read() == content
            assert document.file != previous
            assert previous is None or not previous.exists()
            with document.file.open() as stream:
                assert stream.read() == content
