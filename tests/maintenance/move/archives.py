"""The small world with a second backend and a policy there, and what must be true of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self

from sqlalchemy import Engine, select

from granite_storage import StoragePolicy
from granite_storage.move import MoveReport, StorageMover
from tests.orm.worlds import FaultyBackend, World

__all__ = ["ArchiveWorld"]


class ArchiveWorld(World):
    """Documents whose reports are moved from policy ``documents`` to policy ``archive``, at a backend of its own."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.archive = FaultyBackend()

    @contextmanager
    def with_archive(self, **options: Any) -> Iterator[Self]:
        """The policy, with these options."""
        policy = StoragePolicy("archive", options.pop("backend_key", "archive"), key_prefix="kept", **options)
        backends = {"memory": self.backend, "archive": self.archive}
        with self.manager.override(backends, {**self.manager.policies, "archive": policy}):
            yield self

    def mover(self, *models: Any, **options: Any) -> StorageMover:
        return StorageMover(self.manager, models or None, engine=self.engine, **options)

    def move(self, **options: Any) -> MoveReport:
        return self.mover().move("documents", to="archive", **options)

    def fill(self, count: int = 5) -> dict[int, bytes]:
        """Commit documents, each with a report; gives the contents by id."""
        return {self.add(report=b"report %d" % number): b"report %d" % number for number in range(count)}

    def read(self) -> dict[int, bytes]:
        """The content of each report, by id; an error if one is missing."""
        with self.session() as session:
            found = session.scalars(select(self.Document).where(self.Document.report.is_not(None)))
            return {document.id: document.report.read() for document in found}

    def policies_of(self) -> dict[int, str]:
        """Of which policy each report is, by id."""
        with self.session() as session:
            found = session.scalars(select(self.Document).where(self.Document.report.is_not(None)))
            return {document.id: document.report.storage_key for document in found}

    def check_both(self) -> None:
        """Rows and the objects of both backends agree: none is missing, none is left over, none is shared."""
        named = self.named()
        assert len(named) == len(set(named)), "two fields share an object"
        assert self.objects() | set(self.archive.iter_locations()) == set(named)

    def sweep_all(self) -> None:
        """Sweep, with no grace, what is left over now."""
        assert self.manager.sweep(self.engine, grace=timedelta(0), force=True).complete
