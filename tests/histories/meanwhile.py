"""Rules for what others do while a session is at work, or between its transactions: a second session, a sweep."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tests.histories.faults import delete_fails
from tests.histories.under_test import FIELD, NTH, SessionUnderTest

__all__ = ["Meanwhile"]


class Meanwhile(SessionUnderTest):
    """A second session commits a replacement; a sweep runs."""

    @rule(n=NTH, name=FIELD, clear=st.booleans())
    @precondition(lambda self: self._replaceable())
    def another_session_replaces(self, n: int, name: str, clear: bool) -> None:
        self.flush_all()
        if not self._replaceable():
            return
        key = self.nth(n, self._replaceable())
        content = None if clear else self.content()
        with Session(self.ground.engine) as other:
            if self.ground.engine.dialect.name == "mysql":
                other.execute(text("SET innodb_lock_wait_timeout = 0"))
            document = other.get_one(self.world.Document, key)
            setattr(document, name, content)
            try:
                other.commit()
            except OperationalError:  # MariaDB has locked more rows than those that the statements named
                other.rollback()
                assert self.ground.engine.dialect.name == "mysql"
                return
            finally:
                if self.ground.engine.dialect.name == "mysql":
                    other.execute(text("SET innodb_lock_wait_timeout = 50"))
        self.model.replaced_elsewhere(key, name, content)
        self.stale.add(key)
        if self.ground.deletes_fail:
            self.ground.owed |= self.ground.owing()
        self.ground.check_committed(self.model.committed)

    @rule(with_deletes_failing=st.booleans())
    @precondition(lambda self: not self.session.in_transaction())
    def sweep(self, with_deletes_failing: bool) -> None:
        """Long after: no upload is young any more, and what failed is due again."""
        self.ground.make_due()
        if with_deletes_failing:
            self.ground.backend.before_delete = delete_fails
            self.manager.sweep(self.ground.engine, grace=timedelta(0), force=True)
            self.ground.check_settled(self.model.committed, fault=False, committed=False)
            self.ground.make_due()
        self.ground.backend.before_delete = lambda location: None
        self.manager.sweep(self.ground.engine, grace=timedelta(0), force=True)
        self.ground.check_swept(self.model.committed)

    @rule(upload=st.booleans())
    @precondition(lambda self: not (self.ground.is_sqlite and self.session.in_transaction()))
    def sweep_meanwhile(self, upload: bool) -> None:
        """With its grace period a sweep takes nothing but what the outbox holds, whatever is under way."""
        if upload:
            self.ground.put_on_shelf(self.content())
        before, owing = self.ground.objects(), self.ground.owing()
        self.manager.sweep(self.ground.engine, force=True)
        assert before - self.ground.objects() <= owing, "a sweep has deleted a recent upload"
        self.ground.check_committed(self.model.committed)
        self.check_flushed()

    def _replaceable(self) -> list[int]:
        if self.ground.is_sqlite and self.session.in_transaction():
            return []
        committed = self.model.committed.docs
        return [key for key in self.documents() if key in committed and key not in self.model.touched]
