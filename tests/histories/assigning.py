"""Rules that give a document another file."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import inspect
from sqlalchemy.orm import Session, make_transient

from granite_storage import Upload
from granite_storage.exceptions import ObjectNotFoundError, UploadConsumedError
from tests.histories.model import FIELDS, Doc
from tests.histories.under_test import FIELD, NTH, SessionUnderTest
from tests.orm.worlds import OneShot

__all__ = ["Assigning"]

ONE_SHOT = "one-shot"
SOURCE = st.sampled_from(["bytes", "stream", "upload", ONE_SHOT])


def source_of(kind: str, content: bytes) -> Any:
    """Something assignable."""
    if kind == "bytes":
        return content
    if kind == "upload":
        return Upload(content, filename="a.txt", content_type="text/plain")
    return io.BytesIO(content) if kind == "stream" else OneShot(content)


class Assigning(SessionUnderTest):
    """Assign, clear, add, copy, move, swap, adopt, merge."""

    @rule(n=NTH, name=FIELD, kind=SOURCE)
    @precondition(lambda self: self.documents())
    def assign(self, n: int, name: str, kind: str) -> None:
        key, content = self.nth(n), self.content()
        if kind == ONE_SHOT:
            self.fragile.add(key)
        self.put(key, name, source_of(kind, content), content)

    @rule(n=NTH, name=FIELD)
    @precondition(lambda self: self.fresh())
    def clear(self, n: int, name: str) -> None:
        self.put(self.nth(n, self.fresh()), name, None, None)

    @rule(kind=SOURCE, both=st.booleans(), folder=st.booleans())
    @precondition(lambda self: len(self.documents()) < 5)
    def add_document(self, kind: str, both: bool, folder: bool) -> None:
        key, contents = self.next_id(), [self.content() for _ in FIELDS[: 1 + both]]
        document = self.world.Document(id=key)
        for name, content in zip(FIELDS, contents, strict=False):
            setattr(document, name, source_of(kind, content))
        if kind == ONE_SHOT:
            self.fragile.add(key)
        if folder:
            self.flush_all()
            self.forget_collections()
            parent = self.session.get(self.world.Folder, 1)
            if parent is None:
                parent = self.world.Folder(id=1)
                self.session.add(parent)
                self.model.shown.folders.add(1)
            parent.documents.append(document)
        else:
            self.session.add(document)
        self.added(key, document, Doc(1 if folder else None, *contents))

    @rule(n=NTH)
    @precondition(lambda self: self.lost and len(self.documents()) < 5)
    def add_again(self, n: int) -> None:
        """What a rollback threw out of the session is added once more, as a retry does: its uploads are there again."""
        document, exact, fragile = self.lost.pop(n % len(self.lost))
        if exact is None or inspect(document).detached:
            make_transient(document)
        self.flush_all()
        try:
            if "folder" in inspect(document).dict:  # SQLAlchemy may take it for an orphan
                document = self.world.Document(report=document.report, cover=document.cover)
            key = document.id = self.next_id()
            document.title = document.folder_id = None
            files = {name: getattr(document, name) for name in FIELDS}
            contents = [None if file is None else file.read() for file in files.values()]
            self.session.add(document)
            self.added(key, document, Doc(None, *contents))
            self.flush_all()
        except (UploadConsumedError, ObjectNotFoundError):
            assert fragile, "an upload that can be read again was lost with a rollback"
            if document in self.session:
                self.session.expunge(document)
                self.removed(key)
            return
        if exact is not None:
            assert contents == [exact.report, exact.cover], "a rollback has put another upload back"

    @rule(source=NTH, source_field=FIELD, n=NTH, name=FIELD)
    @precondition(lambda self: self.fresh())
    def copy(self, source: int, source_field: str, n: int, name: str) -> None:
        self._take(self.nth(source, self.fresh()), source_field, self.nth(n, self.fresh()), name)

    @rule(source=NTH, source_field=FIELD, n=NTH, name=FIELD, how=st.sampled_from(["before", "after", "delete"]))
    @precondition(lambda self: len(self.fresh()) > 1)
    def move(self, source: int, source_field: str, n: int, name: str, how: str) -> None:
        """The giver is cleared, before or after the other takes its file, or deleted; all in one flush."""
        giver, taker = self.nth(source, self.fresh()), self.nth(n, self.fresh())
        if giver == taker and (how == "delete" or name == source_field):
            return
        if how == "delete":
            self.written(giver)
        file, content = self._file(giver, source_field)
        if how == "before":
            self.put(giver, source_field, None, None)
        self._claims(taker)
        self.put(taker, name, file, content)
        if how == "after":
            self.put(giver, source_field, None, None)
        if how == "delete":
            self.session.delete(self.document(giver))
            self.removed(giver)
        self.flush_all()

    @rule(source=NTH, name=FIELD)
    @precondition(lambda self: len(self.fresh()) > 2)
    def contest(self, source: int, name: str) -> None:
        """Two documents want what a third one gives up: one of them gets it, and the other a copy."""
        giver = self.nth(source, self.fresh())
        for taker in [key for key in self.fresh() if key != giver][:2]:
            self._take(giver, name, taker, name)
        self.put(giver, name, None, None)
        self.flush_all()

    @rule(one=NTH, other=NTH, name=FIELD, other_name=FIELD)
    @precondition(lambda self: self.fresh())
    def swap(self, one: int, other: int, name: str, other_name: str) -> None:
        first, second = self.nth(one, self.fresh()), self.nth(other, self.fresh())
        (a, a_content), (b, b_content) = self._file(first, name), self._file(second, other_name)
        self._claims(second)
        self._claims(first)
        self.put(first, name, b, b_content)
        self.put(second, other_name, a, a_content)

    @rule()
    def store_on_the_shelf(self) -> None:
        """A long upload happens outside of any transaction."""
        self.ground.put_on_shelf(self.content())

    @rule(which=NTH, n=NTH, name=FIELD, bare=st.booleans())
    @precondition(lambda self: self.documents() and self.ground.shelf.keys() - self.ground.assigned)
    def adopt(self, which: int, n: int, name: str, bare: bool) -> None:
        """Assign what was stored before, as a file or as a bare ref."""
        free = [location for location in self.ground.shelf if location not in self.ground.assigned]
        file = self.ground.shelf[free[which % len(free)]]
        key = self.nth(n)
        self.ground.assigned.add(file.location)
        self.fragile.add(key)  # the file may be swept before the document is added again
        self.put(key, name, file.ref if bare else file, file.read())

    @rule(n=NTH, name=FIELD, change=st.sampled_from(["nothing", "assign", "clear"]), load=st.booleans())
    @precondition(lambda self: self._mergeable())
    def merge(self, n: int, name: str, change: str, load: bool) -> None:
        """What another session has loaded, and perhaps changed, comes in."""
        key = self.nth(n, self._mergeable())
        with Session(self.ground.engine) as other:
            detached = other.get_one(self.world.Document, key)
        doc = self.model.committed.docs[key]
        self.flush_all()
        untouched = key not in self.model.touched
        if not load:
            if untouched:  # else its values would hide those of the row
                self.held[key] = self.session.merge(detached, load=False)
            return
        if change != "nothing":
            content = self.content() if change == "assign" else None
            setattr(detached, name, content)
            doc = doc.holding(name, content)
        self.held[key] = self.session.merge(detached)
        self.touch(key)
        for one in FIELDS:
            self.model.shown.put(key, one, getattr(doc, one))

    def _mergeable(self) -> list[int]:
        shown, committed = self.model.shown.docs, self.model.committed.docs
        return [key for key in self.fresh() if key in committed and shown[key].folder == committed[key].folder]

    def _file(self, key: int, name: str) -> tuple[Any, bytes | None]:
        return getattr(self.document(key), name), getattr(self.model.shown.docs[key], name)

    def _take(self, giver: int, giver_name: str, taker: int, name: str) -> None:
        file, content = self._file(giver, giver_name)
        self._claims(taker)
        self.put(taker, name, file, content)

    def _claims(self, taker: int) -> None:
        """What is assigned from another document depends on that document's file, should it be added again."""
        self.fragile.add(taker)
