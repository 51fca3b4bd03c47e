"""The ground of a history: database, store and what must be true of the two. One test makes it once, since making
models and tables costs more than a history; each history starts on an empty one.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, select, text, update

from granite_storage import StoredFile, StoredObjectRef
from granite_storage.orm.outbox import outbox_of
from tests.histories.faults import delete_fails
from tests.histories.model import FIELDS, Rows
from tests.orm.worlds import World

__all__ = ["Ground"]

_ROWS = text("SELECT id, folder_id, report, cover FROM document")


class Ground:
    """A world with memory: which objects committed rows have ever named, and which leftovers a fault explains."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.world = World(engine)
        self.backend, self.manager = self.world.backend, self.world.manager
        outbox = outbox_of(self.world.Base.metadata)
        assert outbox is not None
        self.outbox = outbox
        self.histories = 0
        self.clear()

    @property
    def is_sqlite(self) -> bool:
        """Whether a write of a second session has to wait for the first one's transaction."""
        return self.engine.dialect.name == "sqlite"

    def clear(self) -> None:
        """Start on nothing; the mark at the prefixes and the database's id stay."""
        self.backend.before_delete = self.backend.before_put = lambda location: None
        with self.engine.begin() as connection:
            for table in (self.world.Document.__table__, self.world.Folder.__table__, self.outbox):
                connection.execute(delete(table))
        for location in list(self.backend.iter_locations()):
            self.backend.delete(_ref(location))
        self.named: set[str] = set()
        self.ever_named: set[str] = set()
        self.owed: set[str] = set()  # in the outbox, since their delete failed or was cut off
        self.excused: set[str] = set()  # never named, and left over by what went wrong
        self.shelf: dict[str, StoredFile] = {}  # stored outside of any session
        self.assigned: set[str] = set()  # of those, what the open transaction has assigned

    @property
    def deletes_fail(self) -> bool:
        """Whether the storage refuses deletes at present."""
        return self.backend.before_delete is delete_fails

    def objects(self) -> set[str]:
        """The locations of all that is stored."""
        return set(self.backend.iter_locations())

    def owing(self) -> set[str]:
        """The locations in the outbox."""
        with self.engine.connect() as connection:
            return set(connection.scalars(select(self.outbox.c.location)))

    def put_on_shelf(self, content: bytes) -> None:
        """Store a file that no field holds yet."""
        file = self.manager.store("documents", content)
        self.shelf[file.location] = file

    def check_rows(
        self, connection: Connection, rows: Rows, unsure: set[int] | frozenset[int] = frozenset()
    ) -> set[str]:
        """Rows are what the model says, each with an object of its own, whole and unaltered; gives the locations.

        :param unsure: documents that this connection may see in an older state.
        """
        found = {row.id: row for row in connection.execute(_ROWS)}
        assert found.keys() == rows.docs.keys(), "there are other rows than there must be"
        locations: list[str] = []
        for key, doc in rows.docs.items():
            row = found[key]
            assert row.folder_id == doc.folder
            for name in FIELDS:
                ref = _value(row, name)
                if ref is not None:
                    locations.append(ref["location"])
                if key not in unsure:
                    self._check_object(f"document {key}, {name}", ref, getattr(doc, name))
        assert len(locations) == len(set(locations)), "two fields share an object"
        return set(locations)

    def check_committed(self, rows: Rows) -> None:
        """A committed row names what it must, whoever is in the midst of what."""
        with self.engine.connect() as connection:
            self.named = self.check_rows(connection, rows)
        self.ever_named |= self.named

    def check_settled(self, rows: Rows, *, fault: bool, committed: bool) -> None:
        """No transaction is open: what is stored is what rows name, and what is known to be left over.

        :param fault: whether an answer was lost in the transaction that ended.
        :param committed: whether it may have committed.
        """
        self.check_committed(rows)
        objects, owing = self.objects(), self.owing()
        self._judge_shelf(objects, committed=committed)
        extra = objects - self.named - self.shelf.keys()
        assert not owing & self.named, "the outbox holds what a row names"
        assert extra & self.ever_named <= owing, "what a row has named was left over, and is not in the outbox"
        if fault or self.deletes_fail:
            self.owed |= owing
            self.excused |= extra - owing
        assert owing <= self.owed, "the outbox was not worked off"
        assert extra <= owing | self.excused, "an object is nobody's"

    def check_swept(self, rows: Rows) -> None:
        """After a sweep with no grace, and storage that works, exactly what rows name is left."""
        self.check_committed(rows)
        assert self.owing() == set(), "the sweep did not finish the outbox"
        assert self.objects() == self.named, "the sweep left over what no row names"
        for left in (self.owed, self.excused, self.shelf, self.assigned):
            left.clear()

    def make_due(self) -> None:
        """Time passes: what failed is to be tried again."""
        with self.engine.begin() as connection:
            connection.execute(update(self.outbox).values(not_before=None))

    def _judge_shelf(self, objects: set[str], *, committed: bool) -> None:
        for location in list(self.shelf):
            if location in self.named:
                del self.shelf[location]  # adopted
            elif location not in objects:
                assert committed and location in self.assigned, "a file that nobody gave up was deleted"
                del self.shelf[location]  # adopted and given up again
        self.assigned.clear()

    def _check_object(self, where: str, ref: dict[str, Any] | None, content: bytes | None) -> None:
        if ref is None or content is None:
            assert ref is content is None, f"{where} holds {ref}, and must hold {content!r}"
            return
        assert ref["location"] in self.objects(), f"{where} names a missing object"
        stored = self.backend.get(_ref(ref["location"]))
        assert stored == content, f"{where} names {stored!r}, and must name {content!r}"
        assert ref["size"] == len(content)
        assert ref["checksum"] == f"sha256:{sha256(content).hexdigest()}"


def _value(row: Row[Any], name: str) -> dict[str, Any] | None:
    value = getattr(row, name)
    ref: dict[str, Any] | None = json.loads(value) if isinstance(value, str) else value
    return ref


def _ref(location: str) -> StoredObjectRef:
    return StoredObjectRef("", "memory", location, 0, "")
