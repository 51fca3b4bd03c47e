"""Operations on file fields, for scripts: importing this module makes them attributes of ``alembic.op``.

Scripts that autogenerate writes import it, so that they run wherever Alembic does: before 1.18 it has no plugins, and
a program that migrates at its start may have imported its models before Alembic. It needs neither models nor policies,
and imports nothing of granite_storage before an operation runs.

======================================  ===========================================================================
``op.add_file_column``                  a column, its location index, its row in the registry, its triggers
``op.drop_file_column``                 the same the other way; its objects are freed first, or kept
``op.rename_file_column``               index, registry and triggers follow
``op.rename_file_table``                the same for all file columns of a table
``op.register_file_column``             only the registry's row; ``op.unregister_file_column`` frees or keeps objects
``op.rebind_file_column``               another policy
``op.create_file_triggers``             triggers; ``op.drop_file_triggers``
``op.create_storage_outbox``            the outbox; ``op.drop_storage_outbox``
``op.create_storage_registry``          the registry; ``op.drop_storage_registry``
``op.convert_to_file_column``           what an old column holds becomes files; ``op.convert_from_file_column`` back
======================================  ===========================================================================

All take ``schema=`` for the table's schema; those on file fields take ``registry=``, ``outbox=`` and
``storage_schema=`` where the names are not the usual ones. They work on SQLite, PostgreSQL, MariaDB and MySQL, online
and in ``--sql`` mode; the last, which read rows, online only.
"""

from __future__ import annotations

import alembic_ext.toimpl  # noqa: F401 - how they are done
from alembic_ext.operations.columns import AddFileColumnOp, DropFileColumnOp, RenameFileColumnOp
from alembic_ext.operations.conversions import ConvertFromFileColumnOp, ConvertToFileColumnOp
from alembic_ext.operations.fields import RebindFileColumnOp, RegisterFileColumnOp, UnregisterFileColumnOp
from alembic_ext.operations.storage_tables import (
    CreateStorageOutboxOp,
    CreateStorageRegistryOp,
    DropStorageOutboxOp,
    DropStorageRegistryOp,
)
from alembic_ext.operations.tables import RenameFileTableOp
from alembic_ext.operations.triggers import CreateFileTriggersOp, DropFileTriggersOp

__all__ = [
    "AddFileColumnOp",
    "ConvertFromFileColumnOp",
    "ConvertToFileColumnOp",
    "CreateFileTriggersOp",
    "CreateStorageOutboxOp",
    "CreateStorageRegistryOp",
    "DropFileColumnOp",
    "DropFileTriggersOp",
    "DropStorageOutboxOp",
    "DropStorageRegistryOp",
    "RebindFileColumnOp",
    "RegisterFileColumnOp",
    "RenameFileColumnOp",
    "RenameFileTableOp",
    "UnregisterFileColumnOp",
]
