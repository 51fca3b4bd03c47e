"""The database's own clock in SQL, in UTC, with fractions of a second: what several machines can agree on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

__all__ = ["as_utc", "database_time", "instant_type", "later_than"]


def as_utc(instant: datetime) -> datetime:
    """An instant as a database gives it, some without a time zone, in UTC."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def instant_type() -> TypeEngine[Any]:
    """The type of a column that holds what :class:`database_time` gives."""
    from sqlalchemy.dialects import mysql  # not before a field is declared

    return DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


class database_time(FunctionElement[Any]):  # noqa: N801 - a function of SQL
    """Now, by the database's clock; with an argument that many seconds later (a number, may be negative).

    >>> from sqlalchemy import select
    >>> print(select(database_time()))
    SELECT CURRENT_TIMESTAMP AS anon_1
    """

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(database_time)
def _standard(element: Any, compiler: Any, **kw: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(database_time, "postgresql")
def _postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    # not now(), which is the start of a transaction, however long ago that was
    later = [f"CAST({compiler.process(one, **kw)} AS DOUBLE PRECISION)" for one in element.clauses]
    return f"clock_timestamp() + make_interval(secs => {later[0]})" if later else "clock_timestamp()"


@compiles(database_time, "sqlite")
def _sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    later = [f", ({compiler.process(one, **kw)}) || ' seconds'" for one in element.clauses]
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now'{''.join(later)})"  # as SQLAlchemy writes a DateTime


@compiles(database_time, "mysql")
@compiles(database_time, "mariadb")
def _mysql(element: Any, compiler: Any, **kw: Any) -> str:
    later = [f" + INTERVAL {compiler.process(one, **kw)} SECOND" for one in element.clauses]
    if not later and getattr(compiler.dialect, "is_mariadb", False):
        return "utc_timestamp(6)"  # as MariaDB tells a column's default, so that autogenerate finds no difference
    return f"(utc_timestamp(6){''.join(later)})"  # in parentheses, as MySQL wants a column's default


class later_than(FunctionElement[Any]):  # noqa: N801 - a function of SQL
    """So many seconds after an instant: ``later_than(column, seconds)``."""

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(later_than, "postgresql")
def _postgresql_later(element: Any, compiler: Any, **kw: Any) -> str:
    instant, seconds = (compiler.process(one, **kw) for one in element.clauses)
    return f"{instant} + make_interval(secs => CAST({seconds} AS DOUBLE PRECISION))"


@compiles(later_than, "sqlite")
def _sqlite_later(element: Any, compiler: Any, **kw: Any) -> str:
    instant, seconds = (compiler.process(one, **kw) for one in element.clauses)
    return f"strftime('%Y-%m-%d %H:%M:%f000', {instant}, ({seconds}) || ' seconds')"


@compiles(later_than, "mysql")
@compiles(later_than, "mariadb")
def _mysql_later(element: Any, compiler: Any, **kw: Any) -> str:
    instant, seconds = (compiler.process(one, **kw) for one in element.clauses)
    return f"({instant} + INTERVAL {seconds} SECOND)"
