"""A statement of DDL as it is, without the % formatting of ``DDL`` and the parameters of ``text``."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement

__all__ = ["statement"]


class _Statement(ExecutableDDLElement):
    def __init__(self, sql: str) -> None:
        self.sql = sql


@compiles(_Statement)
def _as_it_is(element: _Statement, compiler: Any, **kw: Any) -> str:
    return element.sql


def statement(sql: str) -> ExecutableDDLElement:
    """What a connection executes, or a migration prints, as it is: colons, backslashes, percent signs and all."""
    # with no parameters, or drivers would look for them behind every %
    return _Statement(sql).execution_options(no_parameters=True)
