"""``FileColumn``, which declares a file field, and ``FileMapped``, its annotation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, Union, overload

from sqlalchemy.orm import Mapped, mapped_column

from granite_storage.exceptions import ConfigurationError
from granite_storage.files import StoredFile
from granite_storage.intake.upload import Upload
from granite_storage.orm.hybrids import DEFAULT_HYBRIDS, HYBRIDS_KEY
from granite_storage.orm.member_index import MEMBERS
from granite_storage.orm.type import StoredObjectRefType
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy import SQLColumnExpression
    from sqlalchemy.orm import InstrumentedAttribute

    from granite_storage.orm.members import ExtraMembers

__all__ = ["Assignable", "FileColumn", "FileMapped"]

_F = TypeVar("_F")


class SupportsRead(Protocol):
    """A binary stream."""

    def read(self, size: int = ..., /) -> bytes: ...


class FormFile(Protocol):
    """An upload object as Starlette, FastAPI and Litestar have it."""

    @property
    def file(self) -> Any: ...
    @property
    def filename(self) -> str | None: ...


class FormStream(Protocol):
    """An upload object as Werkzeug and Flask have it."""

    @property
    def stream(self) -> Any: ...
    @property
    def filename(self) -> str | None: ...


class FormChunks(Protocol):
    """An upload object as Django has it."""

    @property
    def name(self) -> str | None: ...
    def chunks(self, chunk_size: int | None = ...) -> Iterable[bytes]: ...


Assignable = Union[
    bytes, bytearray, memoryview, str, "os.PathLike[str]", SupportsRead, FormFile, FormStream, FormChunks,
    Upload, StoredFile, StoredObjectRef,
]  # fmt: skip
"""Everything that can be assigned to a file field, besides None where the field may be empty."""


if TYPE_CHECKING:

    class FileAttribute(InstrumentedAttribute[_F]):  # pyright: ignore[reportIncompatibleVariableOverride]
        # The class side of a file field: Document.report.size and its like are SQL expressions.
        @property
        def size(self) -> SQLColumnExpression[int]: ...
        @property
        def content_type(self) -> SQLColumnExpression[str]: ...
        @property
        def filename(self) -> SQLColumnExpression[str]: ...
        @property
        def location(self) -> SQLColumnExpression[str]: ...
        @property
        def checksum(self) -> SQLColumnExpression[str]: ...
        @property
        def created_at(self) -> SQLColumnExpression[datetime]: ...
        @property
        def storage_key(self) -> SQLColumnExpression[str]: ...
        @property
        def backend(self) -> SQLColumnExpression[str]: ...
        @property
        def extra(self) -> ExtraMembers: ...


class FileMapped(Mapped[_F]):
    """The annotation of a file field: ``Mapped``, with a typed SQL side and every assignable value on assignment.

    ``FileMapped[StoredFile | None]`` for a field that may be empty, ``FileMapped[StoredFile]`` with ``nullable=False``.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> FileAttribute[_F]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> _F: ...
        def __get__(self, instance: object | None, owner: Any) -> FileAttribute[_F] | _F: ...

        # Mapped would take SQL expressions too; a file field refuses them
        def __set__(self, instance: Any, value: Assignable | _F) -> None: ...  # type: ignore[override]


if TYPE_CHECKING:

    @overload
    def FileColumn(
        policy: str,
        *,
        nullable: Literal[False],
        name: str | None = ...,
        location_index: bool = ...,
        indexes: Iterable[str] = ...,
        trigger: bool | None = ...,
        hybrids: Iterable[str] = ...,
        default: Any = ...,
        default_factory: Any = ...,
        init: bool = ...,
        repr: bool = ...,
        compare: bool = ...,
        kw_only: bool = ...,
        deferred: bool = ...,
        deferred_group: str | None = ...,
        deferred_raiseload: bool | None = ...,
        use_existing_column: bool = ...,
        sort_order: int = ...,
        comment: str | None = ...,
        info: Mapping[Any, Any] | None = ...,
    ) -> FileMapped[StoredFile]: ...
    @overload
    def FileColumn(
        policy: str,
        *,
        nullable: Literal[True] = ...,
        name: str | None = ...,
        location_index: bool = ...,
        indexes: Iterable[str] = ...,
        trigger: bool | None = ...,
        hybrids: Iterable[str] = ...,
        default: Any = ...,
        default_factory: Any = ...,
        init: bool = ...,
        repr: bool = ...,
        compare: bool = ...,
        kw_only: bool = ...,
        deferred: bool = ...,
        deferred_group: str | None = ...,
        deferred_raiseload: bool | None = ...,
        use_existing_column: bool = ...,
        sort_order: int = ...,
        comment: str | None = ...,
        info: Mapping[Any, Any] | None = ...,
    ) -> FileMapped[StoredFile | None]: ...


def FileColumn(  # noqa: N802 - a declaration, capitalised as Column is
    policy: str,
    *,
    name: str | None = None,
    location_index: bool = True,
    indexes: Iterable[str] = (),
    trigger: bool | None = None,
    hybrids: Iterable[str] = DEFAULT_HYBRIDS,
    info: Mapping[Any, Any] | None = None,
    **options: Any,
) -> Any:
    """Declare a file field.

    :param policy: the name of the storage policy that its files are stored under.
    :param name: the column's name, if it is not the attribute's.
    :param location_index: whether the table gets an index on the objects' locations. Without one, every check whether
        a row names an object scans the table.
    :param indexes: further members that get an index, such as ``("size", "created_at")``; an expression index, on
        MariaDB and MySQL that of a generated column, which :func:`indexed_member` searches.
    :param trigger: whether triggers of the database write the outbox, so that raw SQL, other programs and cascades of
        the database free objects, too; by default what ``metadata_options(triggers=...)`` of the MetaData says, and no
        without it. ``create_all`` makes them (:mod:`granite_storage.orm.triggers`). MariaDB and MySQL fire none for
        ``ON DELETE CASCADE`` and TRUNCATE, SQLite none for ``INSERT OR REPLACE`` unless ``recursive_triggers`` is on.
    :param hybrids: the members that get a flat name beside the field: by default ``("size", "content_type",
        "filename")`` give ``report_size``, ``report_content_type`` and ``report_filename``; ``()`` gives none.
    :param nullable: whether it may be empty; by default as the annotation says, and yes without one.
    :param info: for ``Column.info``.
    :param options: as :func:`sqlalchemy.orm.mapped_column` takes them: ``nullable``, ``default``, ``init``, ``repr``,
        ``kw_only``, ``deferred``, ``comment``, ``use_existing_column``, ``sort_order``, ...
    :returns: what ``mapped_column()`` returns; to type checkers a :class:`FileMapped`.
    :raises ConfigurationError: if the policy is no name, or a hybrid or an index is of no member.

    >>> from sqlalchemy.orm import DeclarativeBase, mapped_column
    >>> class Base(DeclarativeBase):
    ...     pass
    >>> class Document(Base):
    ...     __tablename__ = "document"
    ...     id: Mapped[int] = mapped_column(primary_key=True)
    ...     report: FileMapped[StoredFile | None] = FileColumn("documents")
    >>> document = Document(report=b"%PDF-1.7")
    >>> document.report
    <StoredFile staged>
    >>> document.report_size
    8
    """
    if not isinstance(policy, str) or not policy:  # type: ignore[redundant-expr]
        raise ConfigurationError(f"FileColumn takes the name of a storage policy, not {policy!r}")
    chosen = (hybrids,) if isinstance(hybrids, str) else tuple(hybrids)
    unknown = [member for member in chosen if member not in MEMBERS]
    if unknown:
        raise ConfigurationError(
            f"FileColumn({policy!r}): hybrids names {unknown[0]!r}, which is no member; there are {', '.join(MEMBERS)}"
        )
    type_ = StoredObjectRefType(policy, location_index=location_index, indexes=indexes, trigger=trigger)
    about = {**(info or {}), HYBRIDS_KEY: chosen}
    return mapped_column(name, type_, info=about, **options) if name else mapped_column(type_, info=about, **options)
