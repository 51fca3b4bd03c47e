"""On SQLite, SQLAlchemy and Alembic warn that they skip indexes on expressions; those compared here are not skipped."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from alembic_ext.compare.member_indexes import member_indexes
from granite_storage.orm.member_index import MEMBERS

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

__all__ = ["ignore_foreseen_warnings"]


def ignore_foreseen_warnings(context: AutogenContext) -> None:
    """Ignore, by their exact words and for good, the warnings about indexes that are compared after all."""
    assert context.dialect is not None
    if context.dialect.name != "sqlite":
        return
    # of fields that are in the models no more
    members = "|".join(MEMBERS)
    warnings.filterwarnings("ignore", f"Skipped unsupported reflection of expression-based index ix_.*__({members})$")
    for table in context.sorted_tables:
        for index in member_indexes(table):
            name, shown = re.escape(str(index.name)), re.escape(repr(str(index.name)))
            warnings.filterwarnings("ignore", f"Skipped unsupported reflection of expression-based index {name}$")
            warnings.filterwarnings(
                "ignore", f"autogenerate skipping metadata-specified expression-based index {shown}"
            )
