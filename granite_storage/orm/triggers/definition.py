"""What the triggers of one file column are: plain values, of which the dialects' modules make DDL."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granite_storage.orm.member_index import fitted_name

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import Dialect

__all__ = ["TRIGGER_VERSION", "FileTrigger", "literal", "quoted"]

TRIGGER_VERSION = 1
"""The version of the definitions. It is raised with every change of what the triggers do; the registry holds it."""


@dataclass(frozen=True, slots=True)
class FileTrigger:
    """The triggers of one file column, as the database has them.

    :param table: the table's name.
    :param column: the file column's name.
    :param outbox: the name of the outbox that they write.
    :param schema: the schema of the table; None for the default.
    :param outbox_schema: the schema of the outbox; None for the default (of PostgreSQL ``public``, since the function
        there has no search_path to find a table by).
    :param source: what the outbox says about who freed an object; by default ``"schema.table.column"``.

    >>> FileTrigger("document", "report", "granite_storage_outbox").delete_name
    'tr_document__report__delete'
    """

    table: str
    column: str
    outbox: str
    schema: str | None = None
    outbox_schema: str | None = None
    source: str | None = None

    @property
    def delete_name(self) -> str:
        """The name of the trigger that fires when a row is deleted."""
        return self._name("delete")

    @property
    def update_name(self) -> str:
        """The name of the trigger that fires when a row is updated."""
        return self._name("update")

    @property
    def truncate_name(self) -> str:
        """The name of the trigger that fires when the table is truncated; PostgreSQL only."""
        return self._name("truncate")

    @property
    def function_name(self) -> str:
        """The name of the function that writes the outbox; PostgreSQL only. One serves all triggers of an outbox."""
        return fitted_name(f"{self.outbox}__free")

    def _name(self, what: str) -> str:
        """A name that no other column's trigger has: on SQLite and MariaDB all of a schema share one namespace."""
        table, column = self.table, self.column
        if "__" in table or "__" in column or table.endswith("_") or column.startswith("_"):  # a__b.c is not a.b__c
            what = f"{hashlib.sha256(f'{table}.{column}'.encode()).hexdigest()[:8]}__{what}"
        return fitted_name(f"tr_{table}__{column}__{what}")

    @property
    def written_source(self) -> str:
        """The ``source`` of the outbox's rows, cut to the 255 characters that it has."""
        given = self.source or ".".join(name for name in (self.schema, self.table, self.column) if name)
        return given[:255]


def literal(text: str) -> str:
    """A text in standard SQL, in quotes."""
    return "'" + text.replace("'", "''") + "'"


def quoted(dialect: Dialect, *names: str | None) -> str:
    """A name as SQL has it, behind its schema if that is not None; plain, not prepared for a driver's parameters."""
    quote = dialect.identifier_preparer.quote
    text = ".".join(quote(name) for name in names if name)
    return text.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else text
