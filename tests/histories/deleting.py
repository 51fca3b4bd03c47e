"""Rules that delete documents, and bulk statements."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import delete, insert, update

from granite_storage import Upload
from tests.histories.model import FIELDS, TAKEN, Doc
from tests.histories.under_test import FIELD, NTH, SessionUnderTest

__all__ = ["Deleting"]

Synchronize = Literal["auto", "evaluate", "fetch", False]
SYNCHRONIZE: st.SearchStrategy[Synchronize] = st.sampled_from(["auto", "evaluate", "fetch", False])
ROWS = st.sampled_from(["one", "all"])


class Deleting(SessionUnderTest):
    """Delete through the session, through a relationship, and in bulk."""

    @rule(n=NTH)
    @precondition(lambda self: self.documents())
    def delete_document(self, n: int) -> None:
        key = self.nth(n)
        self.session.delete(self.written(key))
        self.removed(key)

    @rule(n=NTH)
    @precondition(lambda self: self._in_folder())
    def delete_orphan(self, n: int) -> None:
        """A document leaves its folder, and is deleted for it."""
        key = self.nth(n, self._in_folder())
        self.flush_all()
        self.forget_collections()
        document = self.document(key)
        folder = self.session.get_one(self.world.Folder, 1)
        folder.documents.remove(document)
        self.orphaned.append(document)
        self.removed(key)
        self.flush_all()

    @rule()
    @precondition(lambda self: 1 in self.model.shown.folders)
    def delete_folder(self) -> None:
        """A folder takes its documents along."""
        self.flush_all()
        self.forget_collections()
        self.session.delete(self.session.get_one(self.world.Folder, 1))
        for key in self._in_folder():
            self.removed(key)
        self.model.shown.folders.discard(1)
        self.flush_all()

    @rule(n=NTH, rows=ROWS, mode=SYNCHRONIZE, query=st.booleans())
    @precondition(lambda self: self.documents())
    def bulk_delete(self, n: int, rows: str, mode: Synchronize, query: bool) -> None:
        keys = self._chosen(n, rows)
        Document = self.world.Document
        if query:
            self.session.query(Document).where(Document.id.in_(keys)).delete(synchronize_session=mode)
        else:
            self._execute(delete(Document).where(Document.id.in_(keys)), mode)
        for key in keys:
            document = self.session.identity_map.get(self.session.identity_key(Document, key))
            if document is not None:  # nobody told the session, or "evaluate" could not judge an expired object
                self.session.expunge(document)
            self.removed(key)
        self.forget_collections()
        self._after()

    @rule(n=NTH, rows=ROWS, mode=SYNCHRONIZE, names=st.sampled_from([FIELDS, FIELDS[:1], FIELDS[1:]]))
    @precondition(lambda self: self.documents())
    def bulk_clear(self, n: int, rows: str, mode: Synchronize, names: tuple[str, ...]) -> None:
        keys = self._chosen(n, rows)
        Document = self.world.Document
        statement = update(Document).where(Document.id.in_(keys)).values(dict.fromkeys(names))
        self._execute(statement, mode)
        for key in keys:
            for name in names:
                self.model.shown.put(key, name, None)
            self._changed_in_bulk(key, told=mode is not False)
        self._after()

    @rule(n=NTH, name=FIELD)
    @precondition(lambda self: self.documents())
    def bulk_clear_by_key(self, n: int, name: str) -> None:
        key = self._chosen(n, "one")[0]
        self.session.execute(update(self.world.Document), [{"id": key, name: None}])
        self.model.shown.put(key, name, None)
        self._changed_in_bulk(key, told=False)
        self._after()

    @rule(rows=st.integers(1, 2), values=st.booleans())
    @precondition(lambda self: len(self.documents()) < 4)
    def bulk_insert(self, rows: int, values: bool) -> None:
        self.flush_all()
        parameters: list[dict[str, Any]] = []
        for _ in range(rows):
            key, report, cover = self.next_id(), self.content(), self.content()
            parameters.append({"id": key, "report": report, "cover": Upload(cover)})
            self.model.shown.docs[key] = Doc(None, report, cover)
            self.touch(key)
        statement = insert(self.world.Document)
        if values:
            self.session.execute(statement.values(parameters))
        else:
            self.session.execute(statement, parameters)
        self._after()

    def _in_folder(self) -> list[int]:
        return [key for key in self.documents() if self.model.shown.docs[key].folder is not None]

    def _chosen(self, n: int, rows: str) -> list[int]:
        self.flush_all()
        assert TAKEN not in self.documents()
        return self.documents() if rows == "all" else [self.nth(n)]

    def _execute(self, statement: Any, mode: Synchronize) -> None:
        self.session.execute(statement, execution_options={"synchronize_session": mode})

    def _changed_in_bulk(self, key: int, *, told: bool) -> None:
        self.touch(key)
        self.loose.add(key)
        document = self.held.get(key)
        if not told and document is not None:
            self.session.expire(document)
            self.stale.add(key)  # a rollback to a savepoint does not expire it again

    def _after(self) -> None:
        self.model.flush()
        self.check_flushed()
