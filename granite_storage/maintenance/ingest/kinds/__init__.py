"""What an old column may hold; a module a kind, each with both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import LargeBinary
from sqlalchemy.dialects import mysql

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.ingest.kinds.base import Kind, Row
from granite_storage.maintenance.ingest.kinds.binary import Binary
from granite_storage.maintenance.ingest.kinds.inline import Inline
from granite_storage.maintenance.ingest.kinds.paths import Paths
from granite_storage.maintenance.ingest.kinds.textual import Textual

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.conversion import Conversion
    from granite_storage.maintenance.ingest.keyed_table import KeyedTable

__all__ = ["Kind", "Row", "kind_for"]

_KINDS: dict[str, type[Kind]] = {"bytes": Binary, "text": Textual, "paths": Paths, "inline": Inline}
_BINARY = (LargeBinary, mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB, mysql.VARBINARY, mysql.BINARY)


def kind_for(table: KeyedTable, conversion: Conversion) -> Kind:
    """What reads and writes an old column.

    :raises ConfigurationError: if its type does not tell what it holds, or tells something else than ``kind=`` says.
    """
    type_ = table.types[conversion.old]
    binary = isinstance(type_, _BINARY)
    if conversion.kind is not None:
        if conversion.kind == "bytes" and not binary and table.dialect != "sqlite":  # which keeps bytes in any column
            raise ConfigurationError(f"{conversion.source} is {type_}, which holds no bytes: kind='text' or 'paths'")
        if conversion.kind != "bytes" and binary:
            raise ConfigurationError(f"{conversion.source} is {type_}, which holds bytes: kind='bytes'")
        return _KINDS[conversion.kind](table, conversion)
    if conversion.old == conversion.new:
        return Inline(table, conversion)
    if not binary:
        raise ConfigurationError(
            f"{conversion.source} is {type_}, which does not tell what it holds: say kind='text' if the text is to be "
            "the file, kind='paths' with root= if it names files, or kind='bytes'"
        )
    return Binary(table, conversion)
