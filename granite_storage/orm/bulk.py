"""Bulk statements: what ``session.execute(delete(M))``, ``update(M)``, ``insert(M)``, ``Query.delete()`` do to files.

Around an UPDATE or DELETE that takes objects out of rows:

1. the session flushes what is pending, where the statement itself would;
2. the refs that it will free are read under a row lock, with one SELECT of the statement's own criteria (a bulk UPDATE
   by primary key: with one for each thousand rows);
3. the statement runs, as SQLAlchemy runs it;
4. only then what was read is freed (:mod:`.freeing`): one INSERT into the outbox.

More may be read than the statement frees, if a listener that comes later narrows it down: before an object is deleted
the database is asked whether a row names it. An INSERT is the matter of :mod:`.bulk_insert`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CTE,
    BindParameter,
    ClauseElement,
    Column,
    ColumnClause,
    Delete,
    FromClause,
    Insert,
    Null,
    Select,
    Update,
    select,
)
from sqlalchemy.sql.visitors import iterate

from granite_storage.exceptions import BulkStatementError
from granite_storage.orm.bulk_insert import run_insert
from granite_storage.orm.bulk_target import Target, target_of
from granite_storage.orm.fields import FileField, field_of
from granite_storage.orm.freeing import Freeing
from granite_storage.orm.giving_up import known_ref, locked_rows
from granite_storage.orm.triggers import triggers_stand
from granite_storage.orm.watching import watch

if TYPE_CHECKING:
    from sqlalchemy import Connection, Result
    from sqlalchemy.orm import ORMExecuteState

    from granite_storage.refs import StoredObjectRef

__all__ = ["run_bulk"]

_Freed = list[tuple[FileField, "StoredObjectRef"]]


def run_bulk(execution: ORMExecuteState) -> Result[Any] | None:
    """Run a bulk statement that touches file fields; None if SQLAlchemy is to run it, since it does not.

    :raises BulkStatementError: if it cannot be made safe, saying why and what to do instead.
    """
    target = target_of(execution)
    if target is None:
        return None
    if isinstance(target.statement, Insert):
        return run_insert(target)
    if isinstance(target.statement, Update) and target.by_primary_key:
        return _update_by_key(target)
    fields = _deleted_from(target) if isinstance(target.statement, Delete) else _set_to_null(target)
    return _run(target, fields) if fields else None


def _run(target: Target, fields: dict[Column[Any], FileField]) -> Result[Any]:
    """An UPDATE or DELETE with criteria."""
    connection = target.connection()
    by_triggers = all(triggers_stand(connection, column) for column in fields)
    if _changes_rows(target.statement) and not by_triggers:
        raise BulkStatementError(
            f"{target}: its criteria contain a CTE that changes rows itself, so that they cannot be read before it "
            "runs, and the objects it frees would be left over; run the two statements one after the other, or "
            "declare the file field with a trigger: FileColumn(..., trigger=True), with its triggers in the database"
        )
    target.autoflush()
    connection = target.connection()
    freed: _Freed = []
    keys, read = len(list(target.table.primary_key)), 0
    for parameters in target.parameters or [{}]:
        locking = _locking_select(target, connection, list(fields), parameters)
        rows = {row[:keys] or n: row[keys:] for n, row in enumerate(connection.execute(locking, parameters))}
        read += len(rows)  # a join with a second table finds a row more than once
        for files in rows.values():
            for field, file in zip(fields.values(), files, strict=True):
                ref = known_ref(field, file)
                if ref is not None:
                    freed.append((field, ref))
    result = _free_after(target, connection, list(fields.values()), freed)
    if not by_triggers and len(_tables_of(fields)) == 1 and getattr(result, "rowcount", -1) > read:
        raise BulkStatementError(
            f"{target}: it met rows that another transaction committed after its rows were read and locked, and whose "
            "objects nobody would know of; roll back and try again, or use REPEATABLE READ, or declare the file field "
            "with a trigger: FileColumn(..., trigger=True)"
        )
    return result


def _tables_of(columns: Iterable[Column[Any]]) -> set[FromClause]:
    return {column.table for column in columns}


def _update_by_key(target: Target) -> Result[Any] | None:
    """``session.execute(update(M), [{"id": 1, "report": None}, ...])``."""
    mapper = target.mapper
    always = set(_set_to_null(target).values())
    primary = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    rows: dict[tuple[Any, ...], set[FileField]] = {}
    for parameters in target.parameters:
        given = {key: field for key in parameters if (field := target.field(key)) is not None}
        for key, field in given.items():
            _check_null(target, field, parameters[key])
        fields = always.union(given.values())
        if fields and all(parameters.get(key) is not None for key in primary):
            rows.setdefault(tuple(parameters[key] for key in primary), set()).update(fields)
    if not rows:
        return None
    target.autoflush()
    connection = target.connection()
    touched = {field for fields in rows.values() for field in fields}
    freed: _Freed = []
    for identity, files in locked_rows(connection, mapper, rows):
        for field in rows.get(identity, touched):  # a key that the database spells in another way may be any of them
            ref = known_ref(field, files[field.key])
            if ref is not None:
                freed.append((field, ref))
    return _free_after(target, connection, list(touched), freed)


def _free_after(target: Target, connection: Connection, fields: list[FileField], freed: _Freed) -> Result[Any]:
    """Run the statement and, once it has succeeded, write down what it freed."""
    session = target.execution.session
    watch(session, connection, target.mapper.tables, fields)
    result = target.execution.invoke_statement()
    freeing = Freeing(session)
    for field, ref in freed:
        freeing.add(target.mapper, field, ref, connection=connection)
    freeing.write()
    return result


# Which fields


def _deleted_from(target: Target) -> dict[Column[Any], FileField]:
    """Every file field of the table, those that only a subclass has (single-table inheritance) as well."""
    return {field.column: field for column in target.table.columns if (field := field_of(column)) is not None}


def _set_to_null(target: Target) -> dict[Column[Any], FileField]:
    """The file fields that an UPDATE sets in all its rows, to NULL."""
    statement: Any = target.statement
    ordered = getattr(statement, "_ordered_values", None)  # SQLAlchemy 2.0
    values = [*(ordered or ()), *dict(statement._values or {}).items()]
    if not target.by_primary_key:
        values += [item for parameters in target.parameters for item in parameters.items()]
    fields: dict[Column[Any], FileField] = {}
    for key, value in values:
        field = target.field(key)
        if field is not None:
            for meant in _meant(target, value):
                _check_null(target, field, meant)
            fields[field.column] = field
    return fields


def _meant(target: Target, value: Any) -> Iterator[Any]:
    """What is bound to a parameter, by each of the caller's parameters if it is named there; else the value itself."""
    if not isinstance(value, BindParameter):
        yield value
        return
    named = [parameters[value.key] for parameters in target.parameters if value.key in parameters]
    yield from named or [value.effective_value]


def _check_null(target: Target, field: FileField, value: Any) -> None:
    if value is None or isinstance(value, Null):
        return
    if isinstance(value, ColumnClause):
        what = "another column"
    elif isinstance(value, ClauseElement):
        what = "an SQL expression"
    else:
        what = f"a value of {type(value).__name__}"
    raise BulkStatementError(
        f"{target}: file field {field.home} cannot be set to {what}, since each row needs an object of its own; "
        "load the objects, assign a file to each and flush; a bulk UPDATE sets a file field to None only"
    )


# What the rows hold


def _locking_select(
    target: Target, connection: Connection, columns: list[Column[Any]], parameters: Mapping[str, Any]
) -> Select[Any]:
    """What reads and locks the rows that a statement is about to change.

    The criteria are those that SQLAlchemy's compiler arrives at: the statement's own, its ``with_loader_criteria``,
    those of single-table inheritance. It is a Core SELECT, so that no criteria that the application adds to ORM
    queries can hide a row.
    """
    statement = target.statement._annotate({"dml_strategy": target.strategy}) if target.is_core else target.statement
    compiled: Any = statement.compile(dialect=connection.dialect, column_keys=list(parameters) or None)
    final: Any = compiled.compile_state.statement
    chosen = [_of(final.table, column) for column in columns]
    keys = [_of(final.table, column) for column in target.table.primary_key]
    # of no type that tells how many columns: their number is known only now
    read: Any = select(*keys, *chosen).select_from(final.table).with_for_update(of=[one.table for one in chosen])
    read._where_criteria = final._where_criteria
    ordered: Select[Any] = read.order_by(*keys)
    return ordered


def _of(table: Any, column: Any) -> Any:
    """A column as a statement's table, maybe an alias, has it; or that of another table, which MySQL may set, too."""
    own = table.corresponding_column(column)
    return column if own is None else own


def _changes_rows(statement: Any) -> bool:
    """Whether a statement has a CTE that is an INSERT, UPDATE or DELETE."""
    return any(isinstance(part, CTE) and part.element.is_dml for part in iterate(statement))
