"""Counting in the database: one statement a file column, whose groups are added up here."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, case, cast, collate, func, select, type_coerce

from granite_storage.exceptions import ConfigurationError
from granite_storage.maintenance.places import check_tables, file_columns_at
from granite_storage.maintenance.stats.report import SIZE_LIMITS, UNKNOWN, Amount, FieldStats, StorageStats, size_label
from granite_storage.maintenance.unasked import unasked_fields
from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS
from granite_storage.orm.members import WholeSize
from granite_storage.orm.operators import FileComparator

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.engine.interfaces import Dialect

    from granite_storage.orm.sites import Site

__all__ = ["count_files"]

_FETCHED = 1000
_log = logging.getLogger("granite_storage")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


def count_files(sites: Collection[Site]) -> StorageStats:
    """Count the files of every file column at these sites."""
    check_tables(sites)
    with suppress(ConfigurationError):  # there is no registry, and nobody needs one to count
        for unasked in unasked_fields(sites):
            _log.warning("not counted: %s", unasked)
    fields: dict[tuple[str, str, str, str], FieldStats] = {}
    unreadable = 0
    for at in file_columns_at(sites):
        with at.site.desk() as desk:
            statement = _statement(at.column, desk.connection.dialect)
            groups: Any
            with desk.connection.execute(statement.execution_options(yield_per=_FETCHED)) as groups:
                for readable, policy, backend, content_type, month, size, count, total, largest in groups:
                    if readable is None:  # JSON's null, which is no file
                        continue
                    if not readable:
                        unreadable += count
                        continue
                    key = at.table, at.column.name, policy or "", backend or ""
                    known = fields.setdefault(key, FieldStats(*key))
                    stored = month if month and _MONTH.fullmatch(month) else UNKNOWN
                    amount = Amount(count, int(total))
                    known.add(amount, int(largest), content_type or UNKNOWN, stored, size_label(size))
    return StorageStats(tuple(fields[key] for key in sorted(fields)), unreadable)


def _statement(column: Column[Any], dialect: Dialect) -> Any:
    """What is counted: groups of files that have policy, backend, type, month and class of sizes in common."""
    file = FileComparator(column)

    def exact(member: ColumnElement[str]) -> ColumnElement[str]:
        """Two texts that differ in case, or in blanks at the end, are two; what is no text is written as one."""
        if dialect.name in GENERATED_COLUMN_DIALECTS:  # utf8mb4_bin does not see blanks at the end
            return collate(member, "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin")
        return cast(member, String()) if dialect.name == "sqlite" else member

    size: ColumnElement[int] = WholeSize(column)
    rows = (
        select(
            case(
                (file.location.is_not(None) & size.is_not(None), 1),
                (file.is_(None), None),
                else_=0,
            ).label("readable"),
            exact(file.storage_key).label("policy"),
            exact(file.backend).label("backend"),
            exact(file.content_type).label("type"),
            func.substr(type_coerce(file.created_at, String()), 1, 7, type_=String()).label("month"),
            size.label("size"),
        )
        .where(column.is_not(None))
        .subquery()
    )
    sizes = case(*((rows.c.size < limit, number) for number, limit in enumerate(SIZE_LIMITS)), else_=len(SIZE_LIMITS))
    groups = [rows.c.readable, rows.c.policy, rows.c.backend, rows.c.type, rows.c.month, sizes.label("sizes")]
    sums = [func.count(), func.sum(rows.c.size), func.max(rows.c.size)]
    return select(*groups, *sums).group_by(*groups)
