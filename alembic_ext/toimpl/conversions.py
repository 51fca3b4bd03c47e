"""Old columns that become file columns, batch by batch, each committed.

A batch can be committed only with all that the migration's transaction did before it. A revision that was stamped
meanwhile is safe: its stamp is committed with it. What the *same* script did before is not: a run that is cut off
afterwards would begin with it again. So a file column that this very script made is refused, before anything is
committed; a conversion is a revision of its own.

The commit is what ``MigrationContext.autocommit_block()`` does at its beginning and its end: Alembic's transaction is
committed, and another takes its place. The block itself would set the isolation level twice a batch, and SQLAlchemy
keeps what resets it for as long as the connection lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from alembic.operations import Operations

from alembic_ext.operations.conversions import ConvertFromFileColumnOp, ConvertToFileColumnOp, FileConversionOp
from alembic_ext.toimpl.managers import manager_for
from alembic_ext.toimpl.place import Place

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

    from granite_storage.maintenance.ingest import ConversionReport

__all__ = ["note_made"]

_made: WeakKeyDictionary[MigrationContext, dict[tuple[str | None, str, str], tuple[str, ...]]] = WeakKeyDictionary()
"""The file columns that scripts made, each with the revisions that the database was at: these tell the script."""


def note_made(place: Place, schema: str | None, table: str, column: str) -> None:
    """Note that a script made a file column."""
    if place.connection is not None:
        context = place.operations.migration_context
        made = _made.setdefault(context, {})
        made[None if place.is_default(schema) else schema, table, column] = tuple(sorted(context.get_current_heads()))


@Operations.implementation_for(ConvertToFileColumnOp)
def _convert(operations: Operations, op: ConvertToFileColumnOp) -> ConversionReport:
    from granite_storage.maintenance.ingest import ingest

    _check_registered(Place(operations), op)
    return _run(operations, op, ingest)


@Operations.implementation_for(ConvertFromFileColumnOp)
def _convert_back(operations: Operations, op: ConvertFromFileColumnOp) -> ConversionReport:
    from granite_storage.maintenance.ingest import put_back

    return _run(operations, op, put_back)


def _run(operations: Operations, op: FileConversionOp, direction: Callable[..., ConversionReport]) -> ConversionReport:
    place = Place(operations)
    _check_online(place, op)
    conversion = op.conversion()
    _check_own_revision(place, op)
    manager = manager_for(operations.migration_context, op)
    commit = _commit_of(place, op)
    return direction(operations.get_bind(), manager, conversion, progress=op.progress, commit=commit)


def _check_online(place: Place, op: FileConversionOp) -> None:
    from granite_storage.exceptions import ConfigurationError

    if place.connection is None:
        raise ConfigurationError(
            f"op.{op.name}({op.table_name!r}, ...) reads rows and stores files, which no SQL script can do: run its "
            "revision online (alembic upgrade or downgrade without --sql), and print those before and after it as "
            "ranges (alembic upgrade FROM:TO --sql)"
        )


def _check_registered(place: Place, op: FileConversionOp) -> None:
    from granite_storage.exceptions import ConfigurationError
    from granite_storage.maintenance.ingest.opening import policies_of, registry_in

    connection = place.connection
    if connection is None:
        return
    registry = registry_in(connection, op.conversion())
    if registry is not None and not policies_of(connection, op.conversion(), registry):
        raise ConfigurationError(
            f"{op.table_name}.{op.new_column} is no file field in this database: {op.registry!r} does not list it. Add "
            f"it in the revision before, with op.add_file_column() or op.register_file_column({op.table_name!r}, "
            f"{op.new_column!r}, policy={op.policy!r})"
        )


def _check_own_revision(place: Place, op: FileConversionOp) -> None:
    from granite_storage.exceptions import ConfigurationError

    context = place.operations.migration_context
    schema = None if place.is_default(op.schema) else op.schema
    made = _made.get(context, {}).get((schema, op.table_name, op.new_column))
    if made is not None and made == tuple(sorted(context.get_current_heads())):
        raise ConfigurationError(
            f"{op.table_name}.{op.new_column} was made by this very script, and op.{op.name}() commits batch by batch: "
            "if it were cut off, the script would begin anew with a column that is there already. Make the column in "
            "one revision, and convert in the next (both may run in one upgrade)"
        )


def _commit_of(place: Place, op: FileConversionOp) -> Callable[[], object]:
    """What commits a batch, with all that came before it."""
    from granite_storage.exceptions import ConfigurationError

    context = place.operations.migration_context
    held = getattr(context.connection, "_trans_context_manager", None)  # a `with connection.begin():` around Alembic's
    if context._in_external_transaction or held is not None:
        raise ConfigurationError(
            f"op.{op.name}() commits batch by batch, and env.py gave Alembic a connection that is in a transaction "
            "already: give it one that is in none (engine.connect(), not engine.begin() or connection.begin())"
        )
    if context._transaction is None:  # nobody called begin_transaction()
        return place.operations.get_bind().commit

    def commit() -> None:
        transaction, connection = context._transaction, context.connection
        assert transaction is not None
        assert connection is not None
        transaction.commit()
        context._transaction = connection.begin()

    return commit
