"""Rules that flush, end transactions and savepoints, well or badly."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy.exc import IntegrityError, OperationalError

from granite_storage.exceptions import BackendError, ContentTooLargeError
from tests.histories.assigning import ONE_SHOT, SOURCE, Assigning, source_of
from tests.histories.faults import delete_fails, lost_commit, put_fails
from tests.histories.model import Doc
from tests.histories.under_test import FIELD, NTH

__all__ = ["Ending"]

_SAVEPOINTS = 3


class Ending(Assigning):
    """Flush, savepoints, commit, rollback, close, faults."""

    @rule()
    def flush(self) -> None:
        self.flush_all()

    @rule(n=NTH)
    @precondition(lambda self: self.documents())
    def look(self, n: int) -> None:
        self.check_shown(self.nth(n))

    @rule(n=NTH, refresh=st.booleans())
    @precondition(lambda self: self.documents())
    def expire(self, n: int, refresh: bool) -> None:
        """What was assigned and not flushed is forgotten; a refresh flushes first."""
        key = self.nth(n)
        document = self.written(key)
        if refresh:
            self.flush_all()
            self.session.refresh(document)
        else:
            self.session.expire(document)
            row = self.model.flushed.docs[key]
            self.model.shown.docs[key] = row
        self.loose.add(key)

    @rule()
    @precondition(lambda self: len(self.savepoints) < _SAVEPOINTS)
    def begin_savepoint(self) -> None:
        self.savepoints.append(self.session.begin_nested())
        self.model.begin_savepoint()
        self.check_flushed()

    @rule(n=NTH)
    @precondition(lambda self: self.savepoints)
    def release_savepoint(self, n: int) -> None:
        index = n % len(self.savepoints)
        self.savepoints[index].commit()
        del self.savepoints[index:]
        self.model.release(index)
        self.check_flushed()

    @rule(n=NTH)
    @precondition(lambda self: self.savepoints)
    def roll_back_to_savepoint(self, n: int) -> None:
        index = n % len(self.savepoints)
        self.before_undoing(index)
        self.savepoints[index].rollback()
        del self.savepoints[index:]
        self.undone(self.model.roll_back_to(index))
        self.check_flushed()

    @rule(n=NTH, name=FIELD, before=st.booleans(), release=st.booleans(), commit=st.booleans())
    @precondition(lambda self: self.documents())
    def change_in_a_savepoint(self, n: int, name: str, before: bool, release: bool, commit: bool) -> None:
        """A replacement in a short savepoint, and one before it: only long histories would put them together."""
        key, content = self.nth(n), self.content()
        if before:
            self.put(key, name, content, content)
        self.begin_savepoint()
        content = self.content()
        self.put(key, name, content, content)
        self.flush_all()
        index = len(self.savepoints) - 1
        (self.release_savepoint if release else self.roll_back_to_savepoint)(index)
        if commit:
            self.commit_while_all_is_well()

    @rule()
    def commit_while_all_is_well(self) -> None:
        """Nothing is left over then."""
        self.storage_refuses_deletes(False)
        self.commit(False)

    @rule(n=NTH, name=FIELD)
    @precondition(lambda self: self.documents())
    def commit_while_deletes_fail(self, n: int, name: str) -> None:
        """What was freed stays in the outbox; the storage works again after it."""
        content = self.content()
        self.put(self.nth(n), name, content, content)
        self.storage_refuses_deletes(True)
        self.commit(False)
        self.storage_refuses_deletes(False)

    @rule(cut_off=st.booleans())
    def commit(self, cut_off: bool) -> None:
        """In one of two cases the library's own COMMIT, after it, is lost: the objects are gone, their rows are not."""
        in_doubt = cut_off and self.session.in_transaction()
        if in_doubt:
            self.flush_all()
            with lost_commit(self.ground.engine, durable=False, after=1):
                self.session.commit()
        else:
            self.session.commit()
        self.model.commit()
        self._settled(fault=in_doubt, committed=True)
        if self.session.expire_on_commit:
            self.stale.clear()

    @rule()
    def roll_back(self) -> None:
        self.before_undoing()
        self.session.rollback()
        self._undone()
        self._settled(fault=False, committed=False)

    @rule()
    def close(self) -> None:
        self.before_undoing()
        self.session.close()
        self._undone()
        self._settled(fault=False, committed=False)
        self.held.clear()

    @rule(kind=SOURCE, close=st.booleans())
    @precondition(lambda self: len(self.documents()) < 5)
    def try_again(self, kind: str, close: bool) -> None:
        """A transaction comes to nothing, and its new document is added once more."""
        self.add_document(kind, True, False)
        self.flush_all()
        (self.close if close else self.roll_back)()
        self.add_again(len(self.lost) - 1)

    # What goes wrong

    @rule(n=NTH, name=FIELD, kind=SOURCE, retry=st.booleans(), policy=st.booleans())
    @precondition(lambda self: self.documents())
    def upload_fails(self, n: int, name: str, kind: str, retry: bool, policy: bool) -> None:
        """The storage is down for a moment, or the policy refuses; the flush is tried again, or all rolled back."""
        key = self.nth(n)
        content: bytes | None = self.content()
        self.flush_all()
        document = self.document(key)
        self.touch(key)
        setattr(document, name, source_of(kind, content))
        if policy:
            document.cover = b"x" * 1001
            with pytest.raises(ContentTooLargeError):
                self.session.flush()
        else:
            with put_fails(self.ground.backend), pytest.raises(BackendError):
                self.session.flush()
        if policy and name != "cover":
            document.cover = None
            self.model.shown.put(key, "cover", None)
        if not retry:
            if policy and name == "cover":
                document.cover = content = None
            self.model.shown.put(key, name, content)
            if kind == ONE_SHOT:
                self.fragile.add(key)
            self._undo_innermost()
            return
        if policy or kind == ONE_SHOT:  # it was refused, or has been read
            content = self.content()
            setattr(document, name, content)
        self.model.shown.put(key, name, content)
        self.flush_all()

    @rule(kind=SOURCE)
    def sql_fails(self, kind: str) -> None:
        """A flush meets a constraint after its uploads were stored."""
        content = self.content()
        key = self.next_id()
        document = self.world.Document(id=key, title="taken", report=source_of(kind, content))
        self.session.add(document)
        with pytest.raises(IntegrityError):
            self.session.flush()
        self.added(key, document, Doc(None, content))
        if kind == ONE_SHOT:
            self.fragile.add(key)
        self._undo_innermost()

    @rule(durable=st.booleans(), close=st.booleans())
    def answer_is_lost(self, durable: bool, close: bool) -> None:
        """COMMIT is sent, and carried out or not; nobody knows."""
        for key in self.documents()[:1]:
            content = self.content()
            self.put(key, "report", content, content)
        self.flush_all()
        self.session.connection()
        self.before_undoing()
        with lost_commit(self.ground.engine, durable=durable), pytest.raises(OperationalError):
            self.session.commit()
        (self.session.close if close else self.session.rollback)()
        if durable:
            self.model.commit()
        gone = [key for key in self._gone if key in self.new or key not in self.model.committed.docs]
        self.model.roll_back()
        self.undone(gone)
        self.session.expunge_all()
        self.held.clear()
        self.ended()
        self.stale.clear()
        self.ground.check_settled(self.model.committed, fault=True, committed=durable)

    @rule(fail=st.booleans())
    def storage_refuses_deletes(self, fail: bool) -> None:
        self.ground.backend.before_delete = delete_fails if fail else lambda location: None

    def _undo_innermost(self) -> None:
        if self.savepoints:
            self.roll_back_to_savepoint(len(self.savepoints) - 1)
        else:
            self.roll_back()

    def _undone(self) -> None:
        self.undone(self.model.roll_back())
        self.stale.clear()

    def _settled(self, *, fault: bool, committed: bool) -> None:
        self.ended()
        self.ground.check_settled(self.model.committed, fault=fault, committed=committed)
