"""Versions of an application's models as plain values, and their data: what changes between two is up to chance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import Integer, MetaData, String, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from granite_storage import FileColumn, StorageManager, StoragePolicy

TABLES = ("document", "Note Book")
FIELDS = ("report", "cover", "the scan", "_file_ref")
POLICIES = ("documents", "images")


@dataclass(frozen=True)
class Field:
    policy: str
    nullable: bool
    trigger: bool
    location_index: bool
    indexes: tuple[str, ...]
    comment: str | None


@dataclass(frozen=True)
class TableVersion:
    fields: dict[str, Field]
    title_length: int
    """Of an ordinary column, whose change makes a batch rebuild the table."""


Version = dict[str, TableVersion]
"""The tables of one version of the models by their names."""

_field = st.builds(
    Field,
    policy=st.sampled_from(POLICIES),
    nullable=st.booleans(),
    trigger=st.booleans(),
    location_index=st.sampled_from([True, True, False]),
    indexes=st.sampled_from([(), (), ("size",), ("filename", "created_at")]),
    comment=st.sampled_from([None, None, "it's 100%"]),
)
_table = st.builds(
    TableVersion,
    fields=st.dictionaries(st.sampled_from(FIELDS), _field, max_size=3),
    title_length=st.sampled_from([50, 80]),
)
versions: st.SearchStrategy[Version] = st.dictionaries(st.sampled_from(TABLES), _table, max_size=2)


def comparable(first: Version, second: Version) -> tuple[Version, Version]:
    """Two versions with no step that no database could take: a new column of a table with rows may be empty."""

    def eased(one: Version, other: Version) -> Version:
        return {
            name: TableVersion(
                {
                    column: field
                    if name not in other or column in other[name].fields
                    else replace(field, nullable=True)
                    for column, field in table.fields.items()
                },
                table.title_length,
            )
            for name, table in one.items()
        }

    return eased(first, second), eased(second, first)


def survivors(first: Version, second: Version) -> dict[tuple[str, str], str]:
    """The fields of the first version whose data the second still has: (table, column) to the column's new name."""
    found: dict[tuple[str, str], str] = {}
    for name in first.keys() & second.keys():
        old, new = first[name].fields, second[name].fields
        found |= {(name, column): column for column in old.keys() & new.keys()}
        for policy in POLICIES:
            gone = [column for column in old.keys() - new.keys() if old[column].policy == policy]
            came = [column for column in new.keys() - old.keys() if new[column].policy == policy]
            if len(gone) == len(came) == 1:
                found[name, gone[0]] = came[0]
    return found


def declared(version: Version) -> Any:
    """The models of a version, on a MetaData of their own, with a class for each table in ``Base.classes``."""

    class Base(DeclarativeBase):
        metadata = MetaData()
        classes: dict[str, Any] = {}

    for number, (name, table) in enumerate(version.items()):
        body: dict[str, Any] = {
            "__tablename__": name,
            "id": mapped_column(Integer, primary_key=True),
            "title": mapped_column(String(table.title_length)),
        }
        for column, field in table.fields.items():
            body[attribute(column)] = FileColumn(
                field.policy,
                name=column,
                nullable=field.nullable,
                trigger=field.trigger,
                location_index=field.location_index,
                indexes=field.indexes,
                comment=field.comment,
            )
        Base.classes[name] = type(f"Model{number}", (Base,), body)
    return Base


def attribute(column: str) -> str:
    """The attribute that a column is mapped to."""
    return f"file_{FIELDS.index(column)}"


def manager() -> StorageManager:
    policies = {name: StoragePolicy(name, backend_key="memory", key_prefix=name) for name in POLICIES}
    return StorageManager(backends={"memory": "memory://"}, policies=policies)


def fill(session: Session, Base: Any, version: Version) -> None:
    """A row in each table, with a file in each field that says where it was stored."""
    for name, table in version.items():
        files = {attribute(column): f"{name}.{column}".encode() for column in table.fields}
        session.add(Base.classes[name](id=1, title="one", **files))
    session.commit()


def contents(session: Session, Base: Any, version: Version) -> dict[tuple[str, str], bytes | None]:
    """What the files of all rows hold."""
    found: dict[tuple[str, str], bytes | None] = {}
    for name, table in version.items():
        for row in session.scalars(select(Base.classes[name])):
            for column in table.fields:
                file = getattr(row, attribute(column))
                found[name, column] = None if file is None else file.read()
    return found
