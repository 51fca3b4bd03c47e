"""Indexes on members of a file column, its location's too, made and dropped without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Index

    from alembic_ext.toimpl.place import Place

__all__ = ["create", "drop"]


def create(place: Place, table: str, column: str, members: Iterable[str], schema: str | None) -> None:
    """Make the indexes on members of a column; on MariaDB and MySQL the generated columns, too."""
    from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS, generated_column_ddl

    for member in members:
        if place.dialect.name in GENERATED_COLUMN_DIALECTS:
            place.run(_plain(place, generated_column_ddl(place.dialect, table, column, member, schema)))
        else:
            place.operations.impl.create_index(_index(table, column, member, schema))


def drop(place: Place, table: str, column: str, members: Iterable[str], schema: str | None) -> None:
    """Drop the indexes on members of a column; on MariaDB and MySQL the generated columns, too."""
    from granite_storage.orm.member_index import GENERATED_COLUMN_DIALECTS, drop_generated_column_ddl

    for member in members:
        if place.dialect.name in GENERATED_COLUMN_DIALECTS:
            place.run(_plain(place, drop_generated_column_ddl(place.dialect, table, column, member, schema)))
        else:
            place.operations.impl.drop_index(_index(table, column, member, schema))


def _index(table: str, column: str, member: str, schema: str | None) -> Index:
    from sqlalchemy import Column, MetaData, Table

    from granite_storage.orm.member_index import add_member_index
    from granite_storage.orm.type import StoredObjectRefType

    model = Table(table, MetaData(), Column(column, StoredObjectRefType()), schema=schema)
    add_member_index(model, model.columns[column], member)
    (index,) = model.indexes
    return index


def _plain(place: Place, ddl: str) -> str:
    """A statement that was prepared for a driver's parameters, as it is without any."""
    doubled = getattr(place.dialect.identifier_preparer, "_double_percents", False)
    return ddl.replace("%%", "%") if doubled else ddl
