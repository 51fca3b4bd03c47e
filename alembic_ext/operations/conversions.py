"""Old columns that become file columns: ``op.convert_to_file_column``, and ``op.convert_from_file_column`` back.

They are for revisions of their own, since they commit batch by batch; see :mod:`alembic_ext.toimpl.conversions`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from alembic_ext.operations.base import FileFieldOp, operation

if TYPE_CHECKING:
    from granite_storage import StorageManager
    from granite_storage.maintenance.ingest import Conversion

__all__ = ["ConvertFromFileColumnOp", "ConvertToFileColumnOp", "FileConversionOp"]


@dataclass(eq=False)
class FileConversionOp(FileFieldOp):
    """What both directions are told; see :class:`granite_storage.maintenance.ingest.Conversion`.

    :param manager: the manager, or where it is: ``"package.module:manager"``. By default what env.py gave to
        ``context.configure(granite_storage_manager=...)``, or the one that is attached to its ``target_metadata``.
    :param progress: called with a :class:`~granite_storage.maintenance.ingest.Progress` after each batch.
    """

    table_name: str
    old_column: str
    new_column: str
    policy: str = field(kw_only=True)
    kind: str | None = field(default=None, kw_only=True)
    filename_column: str | None = field(default=None, kw_only=True)
    content_type_column: str | None = field(default=None, kw_only=True)
    content_type: str | None = field(default=None, kw_only=True)
    encoding: str = field(default="utf-8", kw_only=True)
    root: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    batch_size: int = field(default=100, kw_only=True)
    batch_bytes: int = field(default=16 * 2**20, kw_only=True)
    on_error: str = field(default="stop", kw_only=True)
    verify: bool = field(default=False, kw_only=True)
    manager: StorageManager | str | None = field(default=None, kw_only=True)
    progress: Callable[[Any], object] | None = field(default=None, kw_only=True)

    unwritten = ("progress",)

    def __post_init__(self) -> None:
        self.root = None if self.root is None else os.fspath(self.root)  # as a script can say it

    def conversion(self) -> Conversion:
        """What is converted, in the library's own words.

        :raises ConfigurationError: naming the option that cannot be.
        """
        from granite_storage.maintenance.ingest import Conversion

        same = {one.name for one in fields(Conversion)} & {one.name for one in fields(self)}
        options = {name: getattr(self, name) for name in same}
        return Conversion(table=self.table_name, old=self.old_column, new=self.new_column, **options)

    def _all(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def to_diff_tuple(self) -> tuple[Any, ...]:
        return (self.name, self.schema, self.table_name, self.old_column, self.new_column)


@operation("convert_to_file_column")
@dataclass(eq=False)
class ConvertToFileColumnOp(FileConversionOp):
    """Store what an old column holds as files, and write their refs into a file column, which is there already.

    ``op.convert_to_file_column("document", "body", "report", policy="documents")``

    The old column stays as it is: drop it in a later revision.
    """

    def reverse(self) -> ConvertFromFileColumnOp:
        return ConvertFromFileColumnOp(**self._all())


@operation("convert_from_file_column")
@dataclass(eq=False)
class ConvertFromFileColumnOp(FileConversionOp):
    """The way back: write files into the old column, give their objects up, and empty the file column.

    ``op.convert_from_file_column("document", "body", "report", policy="documents")``, with the arguments of the way up
    """

    def reverse(self) -> ConvertToFileColumnOp:
        return ConvertToFileColumnOp(**self._all())
