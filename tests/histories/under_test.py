"""The session that a history drives, side by side with its model."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from sqlalchemy import inspect
from sqlalchemy.orm import Session, SessionTransaction

from granite_storage import StoredFile
from tests.histories.ground import Ground
from tests.histories.model import FIELDS, TAKEN, Doc, Model

__all__ = ["FIELD", "NTH", "SessionUnderTest"]

NTH = st.integers(0, 4)
FIELD = st.sampled_from(FIELDS)


class SessionUnderTest(RuleBasedStateMachine):
    """A session, its model, and what every rule does with the two."""

    session: Session

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground, self.world, self.manager = ground, ground.world, ground.manager
        self.model = Model()
        self.savepoints: list[SessionTransaction] = []
        self.held: dict[int, Any] = {}  # documents stay in the session, loaded or not, as an application holds them
        self.new: set[int] = set()  # added by the open transaction
        self.loose: set[int] = set()  # of those, what lost its loaded values in between
        self.fragile: set[int] = set()  # of those, what may hold a source that cannot be read again
        self.orphaned: list[Any] = []
        self.stale: set[int] = set()  # what the session shows of them may be older than the row
        self.lost: list[tuple[Any, Doc | None, bool]] = []
        self._contents = (str(n).encode() for n in itertools.count())
        self._ids = itertools.count(TAKEN)
        ground.clear()
        ground.histories += 1

    @initialize(expire_on_commit=st.booleans(), documents=st.integers(2, 3))
    def begin(self, expire_on_commit: bool, documents: int) -> None:
        """A few committed rows, and a session that has loaded none of them.

        It flushes when a rule says so, so that the model knows what an ``expire`` throws away.
        """
        self.session = Session(self.ground.engine, autoflush=False, expire_on_commit=expire_on_commit)
        with Session(self.ground.engine) as session:
            session.add(self.world.Folder(id=1))
            for n in range(1 + documents):
                key, content = self.next_id(), self.content()
                title = "taken" if key == TAKEN else None
                folder = 1 if n == 1 else None
                session.add(self.world.Document(id=key, title=title, folder_id=folder, report=content))
                self.model.committed.docs[key] = Doc(folder, content)
            session.commit()
        self.model.committed.folders.add(1)
        self.model.roll_back()
        self.ground.check_settled(self.model.committed, fault=False, committed=True)

    @invariant()
    def committed_rows_name_objects_that_are_there(self) -> None:
        assert self.ground.named <= self.ground.objects(), "a committed row names a missing object"

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()

    # Choosing

    def content(self) -> bytes:
        """Bytes that no other upload has."""
        return next(self._contents)

    def next_id(self) -> int:
        """An id that no other document has."""
        return next(self._ids)

    def documents(self, among: Collection[int] | None = None) -> list[int]:
        """The documents that the session shows and rules may touch."""
        return sorted(key for key in self.model.shown.docs if key != TAKEN and (among is None or key in among))

    def nth(self, n: int, among: Collection[int] | None = None) -> int:
        """One of them."""
        keys = self.documents(among)
        return keys[n % len(keys)]

    def fresh(self) -> list[int]:
        """Those that the session shows as they are."""
        return [key for key in self.documents() if key not in self.stale]

    def document(self, key: int) -> Any:
        """The session's object; loaded if it has none."""
        if key not in self.held:
            self.held[key] = self.session.get_one(self.world.Document, key)
        return self.held[key]

    def written(self, key: int) -> Any:
        """The session's object, flushed if it is pending."""
        if key not in self.model.flushed.docs:
            self.flush_all()
        return self.document(key)

    # Doing

    def touch(self, *keys: int) -> None:
        """The transaction changes, or locks, these documents."""
        self.model.touched.update(keys)

    def put(self, key: int, name: str, value: Any, content: bytes | None) -> None:
        """Assign to a field."""
        setattr(self.document(key), name, value)
        self.touch(key)
        self.model.shown.put(key, name, content)

    def added(self, key: int, document: Any, doc: Doc) -> None:
        """A document was added to the session."""
        self.held[key] = document
        self.new.add(key)
        self.touch(key)
        self.model.shown.docs[key] = doc

    def removed(self, key: int) -> None:
        """A document is, or will be, deleted."""
        self.touch(key)
        self.held.pop(key, None)
        self.new.discard(key)
        del self.model.shown.docs[key]

    def flush_all(self) -> None:
        """Flush, and compare the rows of the transaction with the model's."""
        self.session.flush()
        self.model.flush()
        self.check_flushed()

    def check_flushed(self) -> None:
        """The rows that the open transaction sees."""
        if self.session.in_transaction():
            self.ground.check_rows(self.session.connection(), self.model.flushed, self.stale)

    def check_shown(self, key: int) -> None:
        """What an object of the session shows, read through it."""
        document = self.document(key)
        for name in FIELDS:
            file: StoredFile | None = getattr(document, name)
            content = getattr(self.model.shown.docs[key], name)
            if key not in self.stale:
                assert (None if file is None else file.read()) == content

    def forget_collections(self) -> None:
        """What the session holds of folders is read again; nothing is pending."""
        for one in list(self.session.identity_map.values()):
            if isinstance(one, self.world.Folder):
                self.session.expire(one, ["documents"])

    def undone(self, gone: list[int]) -> None:
        """A rollback restored the model: let go of what is not in the session any more, and keep what was new."""
        for key in gone:
            document = self.held.pop(key, None)
            if document is not None and key in self.new:
                exact = None if key in self.loose else self._gone[key]
                self.lost.append((document, exact, key in self.fragile))
            elif document is not None and document in self.session:
                self.session.expunge(document)  # a row of a bulk INSERT, which a session does not take back
            self.new.discard(key)
        for document in self.orphaned:  # SQLAlchemy goes on to take them for orphans
            if document in self.session and inspect(document).persistent:
                self.session.expunge(document)
                self.held = {key: held for key, held in self.held.items() if held is not document}
        self.loose |= self.new  # a savepoint expires what it has changed

    def before_undoing(self, to: int = -1) -> None:
        """Remember what is shown, for what is about to be lost; savepoints inside of ``to`` expire what is new."""
        self._gone = dict(self.model.shown.docs)
        if len(self.savepoints) > to + 1:
            self.loose |= self.new

    def ended(self) -> None:
        """The root transaction is over."""
        for left in (self.savepoints, self.new, self.loose, self.fragile, self.orphaned):
            left.clear()
