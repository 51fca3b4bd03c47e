"""Outbox and registry are made first and dropped last; an outbox that still has rows is left alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alembic.operations import ops
from sqlalchemy import func, select, table

from alembic_ext.compare.storages import key_of
from alembic_ext.operations import CreateStorageOutboxOp, DropStorageOutboxOp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.autogenerate.api import AutogenContext

    from alembic_ext.compare.storages import Storage

__all__ = ["note_made", "ordered"]

log = logging.getLogger(__name__)


def note_made(operations: Sequence[ops.MigrateOperation], storages: Sequence[Storage]) -> None:
    """Note which of the tables the migration makes."""
    for op in operations:
        if isinstance(op, ops.CreateTableOp):
            for storage in storages:
                if op.schema == storage.schema and op.table_name in (storage.registry, storage.outbox):
                    storage.makes.add(op.table_name)


def ordered(
    context: AutogenContext, operations: Sequence[ops.MigrateOperation], storages: Sequence[Storage]
) -> list[ops.MigrateOperation]:
    """The operations, with those on our two tables where they belong."""
    formers = [one.former for one in storages if one.former is not None]
    every = [*formers, *storages]
    outboxes = {key_of(context, one.schema, one.outbox): one for one in every if one.outbox is not None}
    tables = {key_of(context, one.schema, one.registry) for one in every if one.has_registry or one.makes}
    tables |= {key for key, one in outboxes.items() if one.has_outbox or one.makes}
    dropped = {_key(context, op) for op in operations if isinstance(op, ops.DropTableOp)} & tables
    replaced = [one.former for one in storages if one.former is not None and one.makes]
    left = {
        key
        for key, one in outboxes.items()
        if key in dropped
        and not (one in replaced or (one.has_registry and one not in formers))
        and _has_rows(context, one)
    }
    first: list[ops.MigrateOperation] = []
    middle: list[ops.MigrateOperation] = []
    last: list[ops.MigrateOperation] = []
    for op in operations:
        key = _key(context, op)
        if key is None or key not in tables:
            middle.append(op)
        elif key not in left:
            (last if key in dropped else first).append(_outbox_op(op) if key in outboxes else op)
    return [*first, *middle, *last]


def _outbox_op(op: ops.MigrateOperation) -> ops.MigrateOperation:
    if isinstance(op, ops.CreateTableOp):
        return CreateStorageOutboxOp.of(op)
    if isinstance(op, ops.DropTableOp):
        return DropStorageOutboxOp.of(op)
    return op


def _has_rows(context: AutogenContext, storage: Storage) -> bool:
    """Whether an outbox stayed when the last file field went, or when it was to have another name, since it had rows.

    It goes when it has none.
    """
    assert context.connection is not None
    assert storage.outbox is not None
    rows = context.connection.scalar(select(func.count()).select_from(table(storage.outbox, schema=storage.schema)))
    if rows:
        log.info("Left table %r alone: it has %s rows for a sweep", storage.outbox, rows)
    return bool(rows)


def _key(context: AutogenContext, op: ops.MigrateOperation) -> tuple[str | None, str] | None:
    if isinstance(op, (ops.CreateTableOp, ops.DropTableOp, ops.ModifyTableOps)):
        return key_of(context, op.schema, op.table_name)
    return None
