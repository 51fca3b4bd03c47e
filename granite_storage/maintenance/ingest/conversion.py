"""What is converted into what: the plain description that both directions share."""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granite_storage.exceptions import ConfigurationError

__all__ = ["KINDS", "Conversion"]

KINDS = ("bytes", "text", "paths", "inline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """An old column of a table, the file column that its values go to, and how they are read.

    :param table: the table's name.
    :param old: the old column.
    :param new: the file column; for ``kind="inline"`` the same.
    :param policy: the policy that the files are stored under.
    :param kind: what the old column holds: ``"bytes"`` (BYTEA, BLOB), ``"text"``, ``"paths"`` of files below ``root``,
        or ``"inline"``: the ``{"legacy_inline_text": ...}`` that granite-storage 0.1.0 wrote into ref columns. None:
        told by the column's type where that is certain.
    :param schema: the table's schema; None for the default.
    :param filename_column: a column that holds the files' names.
    :param content_type_column: a column that holds the media types that are claimed; the bytes have the last word.
    :param content_type: the media type that is claimed where no column tells.
    :param encoding: how text is encoded in the files.
    :param root: the folder that paths are relative to, and may not leave, for ``kind="paths"``.
    :param batch_size: how many rows are converted at once, at most.
    :param batch_bytes: how many bytes of values are read at once, at most; a larger value goes by itself.
    :param on_error: what a row that cannot be converted does: ``"stop"`` raises once its batch is committed without
        it; ``"skip"`` leaves it as it is, and the report names it.
    :param verify: read each object again, and compare its checksum, before its row is changed. Its size is compared
        in any case.
    :param registry: the name of the registry.
    :param outbox: the name of the outbox; None if there is none.
    :param storage_schema: the schema of registry and outbox; None for the default.
    :raises ConfigurationError: naming the option that cannot be.

    >>> Conversion(table="document", old="body", new="file", policy="documents", kind="paths")
    Traceback (most recent call last):
    ...
    granite_storage.exceptions.ConfigurationError: document.body: kind='paths' needs root=, the folder that ...
    """

    table: str
    old: str
    new: str
    policy: str
    kind: str | None = None
    schema: str | None = None
    filename_column: str | None = None
    content_type_column: str | None = None
    content_type: str | None = None
    encoding: str = "utf-8"
    root: str | os.PathLike[str] | None = None
    batch_size: int = 100
    batch_bytes: int = 16 * 2**20
    on_error: str = "stop"
    verify: bool = False
    registry: str = "granite_storage_fields"
    outbox: str | None = "granite_storage_outbox"
    storage_schema: str | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem is not None:
            raise ConfigurationError(f"{self.source}: {problem}")

    @property
    def source(self) -> str:
        """The old column with its table, for messages."""
        return ".".join(name for name in (self.schema, self.table, self.old) if name)

    @property
    def target(self) -> str:
        """The file column with its table, as the outbox names it."""
        return ".".join(name for name in (self.schema, self.table, self.new) if name)

    def _problem(self) -> str | None:
        if self.kind is not None and self.kind not in KINDS:
            return f"kind={self.kind!r} is none of {', '.join(map(repr, KINDS))}"
        if self.kind == "inline" and self.old != self.new:
            return f"inline text becomes a file in its own column, and {self.new!r} is another"
        if self.kind not in ("inline", None) and self.old == self.new:
            return "the old column and the file column are the same; only kind='inline' is converted in its place"
        if self.kind == "paths" and self.root is None:
            return "kind='paths' needs root=, the folder that the paths are relative to and may not leave"
        if self.kind != "paths" and self.root is not None:
            return "root= is for kind='paths' only"
        if self.on_error not in ("stop", "skip"):
            return f"on_error={self.on_error!r} is neither 'stop' nor 'skip'"
        limits: tuple[tuple[str, Any], ...] = (("batch_size", self.batch_size), ("batch_bytes", self.batch_bytes))
        for name, limit in limits:
            if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
                return f"{name} is a number, 1 or more, not {limit!r}"
        try:
            codecs.lookup(self.encoding)
        except (LookupError, TypeError):
            return f"encoding={self.encoding!r} is no encoding that Python has"
        if self.root is not None and not Path(self.root).is_dir():
            return f"root={os.fspath(self.root)!r} is no folder here; is its disk mounted?"
        return None
