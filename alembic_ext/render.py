"""How our operations look in a script."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from alembic.autogenerate.render import render_op, renderers
from alembic.operations import ops

from alembic_ext.operations import AddLocationColumnOp, DropLocationColumnOp, KeepIndexOp

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext


@renderers.dispatch_for(AddLocationColumnOp)
@renderers.dispatch_for(DropLocationColumnOp)
def _location_column(context: AutogenContext, op: AddLocationColumnOp | DropLocationColumnOp) -> str:
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
