"""The model of a history: which rows there are and what their files hold, as a user would say it.

Three levels, each a :class:`Rows`: what is committed, what the session has flushed, and what the session's objects
show. A savepoint is a copy of the second. No location, no object, no outbox: what those must be follows from the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["FIELDS", "TAKEN", "Doc", "Model", "Rows"]

FIELDS = ("report", "cover")
TAKEN = 1
"""The id of a document that no rule touches; its title is unique, so that a second one with it fails a flush."""


@dataclass(frozen=True, slots=True)
class Doc:
    """A document's row: its folder, and what its file fields hold."""

    folder: int | None = None
    report: bytes | None = None
    cover: bytes | None = None

    def holding(self, name: str, content: bytes | None) -> Doc:
        """The document with another content in a field."""
        return replace(self, **{name: content})


@dataclass(slots=True)
class Rows:
    """Documents by id, and the ids of folders."""

    docs: dict[int, Doc] = field(default_factory=dict)
    folders: set[int] = field(default_factory=set)

    def copy(self) -> Rows:
        """A copy that later changes leave alone."""
        return Rows(dict(self.docs), set(self.folders))

    def put(self, key: int, name: str, content: bytes | None) -> None:
        """Let a field hold something else."""
        self.docs[key] = self.docs[key].holding(name, content)


@dataclass(slots=True)
class Model:
    """What must be in the rows, now and after whatever ends the transaction."""

    committed: Rows = field(default_factory=Rows)
    flushed: Rows = field(default_factory=Rows)
    shown: Rows = field(default_factory=Rows)
    savepoints: list[Rows] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    """Documents that the transaction has changed or locked, or is about to."""

    def flush(self) -> None:
        """What the session's objects show is written."""
        self.flushed = self.shown.copy()

    def begin_savepoint(self) -> None:
        """A savepoint flushes first."""
        self.flush()
        self.savepoints.append(self.flushed.copy())

    def release(self, index: int) -> None:
        """Release a savepoint and those inside of it."""
        self.flush()
        del self.savepoints[index:]

    def roll_back_to(self, index: int) -> list[int]:
        """Roll back a savepoint and those inside of it; gives the documents that are not there any more."""
        return self._restore(self.savepoints[index], index)

    def commit(self) -> None:
        """Everything that was shown is durable."""
        self.flush()
        self.committed = self.flushed.copy()
        self._ended()

    def roll_back(self) -> list[int]:
        """Nothing but what was committed is left; gives the documents that are not there any more."""
        gone = self._restore(self.committed, 0)
        self._ended()
        return gone

    def replaced_elsewhere(self, key: int, name: str, content: bytes | None) -> None:
        """Another session has committed a change of a row that this one has not touched."""
        for rows in (self.committed, self.flushed, self.shown, *self.savepoints):
            rows.put(key, name, content)

    def _restore(self, rows: Rows, index: int) -> list[int]:
        gone = [key for key in self.shown.docs if key not in rows.docs]
        self.flushed, self.shown = rows.copy(), rows.copy()
        del self.savepoints[index:]
        return gone

    def _ended(self) -> None:
        self.savepoints.clear()
        self.touched.clear()
