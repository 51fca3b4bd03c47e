"""A sweep removes direct uploads that nobody claimed, and takes none for an orphan, nor another application's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import FileColumn, FileMapped, StorageManager, StoragePolicy, StoredFile
from granite_storage.exceptions import ObjectNotFoundError, TokenUsedError
from tests.browsers import KEY, send
from tests.databases import make_engine

NOW = timedelta(0)


class Application:
    """An application with a database of its own, and a bucket and a backend prefix that others have, too."""

    def __init__(self, bucket: Any, path: Path, prefix: str) -> None:
        class Base(DeclarativeBase):
            pass

        class Document(Base):
            __tablename__ = "document"
            id: Mapped[int] = mapped_column(primary_key=True)
            report: FileMapped[StoredFile | None] = FileColumn("documents")

        self.bucket, self.Document = bucket, Document
        self.engine = make_engine(f"sqlite:///{path / prefix}.db")
        policies = {
            "documents": StoragePolicy("documents", "s3", 1000, prefix),
            "pictures": StoragePolicy("pictures", "s3", 1000, f"{prefix}-pictures"),
        }
        self.manager = StorageManager({"s3": bucket.url("app")}, policies, secret_keys=KEY)
        self.manager.attach(Base, engine=self.engine)
        Base.metadata.create_all(self.engine)

    def upload(self, policy: str, content: bytes) -> str:
        """The token of an upload that was made."""
        upload = self.manager.presign_upload(policy)
        assert send(upload, content) == 204
        return upload.token

    def waiting(self) -> list[str]:
        """The keys of all that waits in the bucket, marks included."""
        found = self.bucket.client.list_objects_v2(Bucket=self.bucket.name, Prefix="app/.incoming/")
        return [one["Key"] for one in found.get("Contents", ())]


@pytest.fixture
def applications(s3_bucket: Any, tmp_path: Path) -> Iterator[tuple[Application, Application]]:
    pair = Application(s3_bucket, tmp_path, "docs"), Application(s3_bucket, tmp_path, "docs-old")
    yield pair
    for one in pair:
        one.engine.dispose()


def test_only_old_uploads_of_its_own_policies_go(applications: tuple[Application, Application]) -> None:
    mine, other = applications
    used = mine.upload("documents", b"claimed")
    with Session(mine.engine) as session:
        session.add(mine.Document(id=1, report=mine.manager.claim(used)))
        session.commit()
    late, picture = mine.upload("documents", b"late"), mine.upload("pictures", b"picture")
    others = other.upload("documents", b"another's")
    before = mine.waiting()
    assert len(before) == 4

    young = mine.manager.sweep()
    assert (young.leftovers, young.orphans, young.complete) == (0, 0, True) and mine.waiting() == before

    planned = mine.manager.sweep(grace=NOW, dry_run=True)
    assert planned.leftovers == 3 and mine.waiting() == before

    swept = mine.manager.sweep(grace=NOW)
    # No upload that waits is scanned for orphans: the one that is, is the claimed one, and a row names it.
    assert (swept.leftovers, swept.scanned, swept.orphans, swept.complete) == (3, 1, 0, True)
    for token in (late, picture):
        with pytest.raises(ObjectNotFoundError):
            mine.manager.claim(token)
    assert other.manager.claim(others).read() == b"another's"
    with Session(mine.engine) as session:
        assert session.get_one(mine.Document, 1).report.read() == b"claimed"


def test_a_claimed_file_that_no_row_adopts_is_an_orphan(applications: tuple[Application, Application]) -> None:
    mine, _ = applications
    token = mine.upload("documents", b"claimed")
    file = mine.manager.claim(token)
    assert mine.manager.sweep().orphans == 0
    assert file.exists()
    with pytest.raises(TokenUsedError):
        mine.manager.claim(token)
    assert mine.manager.sweep(grace=NOW, force=True).orphans == 1
    assert not file.exists()
