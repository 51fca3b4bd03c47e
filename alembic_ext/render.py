"""How our operations look in a script."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from alembic.autogenerate.render import _alter_column, _render_column, render_op, renderers
from alembic.operations import ops
from sqlalchemy import Column

from alembic_ext import operations
from alembic_ext.operations.base import FileFieldOp
from alembic_ext.operations.column_types import AlterFileTypeOp
from alembic_ext.operations.generated_columns import AddGeneratedColumnOp, DropGeneratedColumnOp
from alembic_ext.operations.kept_indexes import KeepIndexOp
from alembic_ext.operations.member_indexes import CreateMemberIndexOp

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


@renderers.dispatch_for(AddGeneratedColumnOp)
@renderers.dispatch_for(DropGeneratedColumnOp)
def _generated_column(context: AutogenContext, op: AddGeneratedColumnOp | DropGeneratedColumnOp) -> str:
    prefix = context.opts["alembic_module_prefix"] or ""
    clauses = re.split(r"(?<=, )(?=ADD |DROP )|(?<= )(?=ADD COLUMN |GENERATED )", str(op.sqltext))
    lines = "\n".join(f"    {clause!r}" for clause in clauses)
    return f"{prefix}execute(\n{lines}\n)"


@renderers.dispatch_for(KeepIndexOp)
def _keep_index(context: AutogenContext, op: KeepIndexOp) -> list[str]:
    if not op.told:
        return []
    lines = render_op(context, ops.CreateIndexOp.from_index(op.to_index()))
    return [line.removesuffix(")") + ", if_not_exists=True)" for line in lines]  # Alembic 1.13.0 forgets it


@renderers.dispatch_for(CreateMemberIndexOp)
def _member_index(context: AutogenContext, op: CreateMemberIndexOp) -> list[str]:
    lines = render_op(context, ops.CreateIndexOp.from_index(op.to_index()))
    assert context.dialect is not None
    if not getattr(context.dialect.identifier_preparer, "_double_percents", False):
        return lines
    expression = r"""(?:literal_column|text)\((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    return [re.sub(expression, lambda found: found[0].replace("%%", "%"), line) for line in lines]


@renderers.dispatch_for(AlterFileTypeOp)
def _alter_type(context: AutogenContext, op: AlterFileTypeOp) -> str:
    assert context.dialect is not None
    text = _alter_column(context, op)
    using = op.using(context.dialect)
    return text if using is None else f"{text.removesuffix(')')},\n{' ' * 11}postgresql_using={using!r})"


@renderers.dispatch_for(FileFieldOp)
def _file_field(context: AutogenContext, op: FileFieldOp) -> list[str]:
    if not op.in_script:
        return []
    return [*(f"# {remark}" for remark in op.remarks), _call(context, op)]


def _call(context: AutogenContext, op: FileFieldOp) -> str:
    """The call of an operation: what it is about first, then what is not as usual."""
    _import_operations(context)
    written = [one for one in fields(op) if one.name not in op.unwritten]
    arguments = [_argument(context, getattr(op, one.name)) for one in written if not one.kw_only]
    named = [one for one in written if one.kw_only and one.default is MISSING]
    named += [one for one in written if one.kw_only and one.default not in (MISSING, getattr(op, one.name))]
    arguments += [f"{one.name}={_argument(context, getattr(op, one.name))}" for one in named]
    return f"{context.opts['alembic_module_prefix'] or ''}{op.name}({', '.join(arguments)})"


def _argument(context: AutogenContext, value: Any) -> str:
    if isinstance(value, Column):
        return _render_column(value, context)
    return repr(str(value) if isinstance(value, str) else value)  # a quoted_name is a name


@renderers.dispatch_for(operations.CreateStorageOutboxOp)
def _create_outbox(context: AutogenContext, op: operations.CreateStorageOutboxOp) -> str:
    return _storage_table(context, "create_storage_outbox", op)


@renderers.dispatch_for(operations.DropStorageOutboxOp)
def _drop_outbox(context: AutogenContext, op: operations.DropStorageOutboxOp) -> str:
    return _storage_table(context, "drop_storage_outbox", op)


@renderers.dispatch_for(operations.CreateStorageRegistryOp)
def _create_registry(context: AutogenContext, op: operations.CreateStorageRegistryOp) -> str:
    return _storage_table(context, "create_storage_registry", op)


@renderers.dispatch_for(operations.DropStorageRegistryOp)
def _drop_registry(context: AutogenContext, op: operations.DropStorageRegistryOp) -> str:
    return _storage_table(context, "drop_storage_registry", op)


def _storage_table(context: AutogenContext, name: str, op: ops.CreateTableOp | ops.DropTableOp) -> str:
    _import_operations(context)
    prefix = context.opts["alembic_module_prefix"] or ""
    if isinstance(op, ops.CreateTableOp) and op.columns:
        plain = ops.CreateTableOp.from_table(op.to_table(context.migration_context))
        (text,) = render_op(context, plain)
        return text.replace(f"{prefix}create_table(", f"{prefix}{name}(", 1)
    schema = f", schema={op.schema!r}" if op.schema else ""
    return f"{prefix}{name}({str(op.table_name)!r}{schema})"


def _import_operations(context: AutogenContext) -> None:
    context.imports.add("import alembic_ext.operations  # noqa: F401 - what op. has for file fields")
