"""INSERT of a mapped class: what is given for file fields is stored first, and refs are written in its place.

The values may stand in the parameters, in ``.values()`` or in several VALUES rows; they may be all that can be assigned
to a file field. The statement and the parameters of the caller are left as they are, so that both can be used again
after a rollback::

    session.execute(insert(Document), [{"report": Path("a.pdf")}, {"report": b"..."}])
    session.scalars(insert(Document).values(report=upload).returning(Document))

A stored file, or a bare ref, is adopted or copied, as in a flush (:mod:`.claims`). ``insert(M).from_select()`` and SQL
expressions are written as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, ClauseElement, bindparam
from sqlalchemy.util import immutabledict

from granite_storage.orm.bulk_conflict import check_conflict, may_skip_rows
from granite_storage.orm.changes import Rewind
from granite_storage.orm.claims import settle_claims
from granite_storage.orm.fields import FileField
from granite_storage.orm.freeing import Freeing
from granite_storage.orm.ledger import Ledger, ledger_of
from granite_storage.orm.pending import Pending, default_of, store_uploads
from granite_storage.orm.staging import Claim, stage, staged_upload
from granite_storage.orm.watching import note_site, watch

if TYPE_CHECKING:
    from sqlalchemy import Result

    from granite_storage.orm.bulk_target import Target
    from granite_storage.orm.changes import Store
    from granite_storage.refs import StoredObjectRef

__all__ = ["run_insert"]

_Row = MutableMapping[Any, Any]


@dataclass(slots=True)
class _Rewritten:
    """Copies of what the caller gave, in which refs take the place of files."""

    target: Target
    values: _Row = field(init=False)
    groups: list[list[_Row]] = field(init=False)
    parameters: list[_Row] = field(init=False)
    pending: dict[Pending, tuple[_Row, Any]] = field(default_factory=dict)
    """Where the ref of each staged file goes: a row and a key in it."""
    changed: bool = False

    def __post_init__(self) -> None:
        statement: Any = self.target.statement
        columns = [column.key for column in statement.table.c]
        self.values = dict(statement._values or {})
        self.groups = [
            [dict(row) if hasattr(row, "keys") else dict(zip(columns, row, strict=False)) for row in group]
            for group in statement._multi_values
        ]
        self.parameters = [dict(row) for row in self.target.parameters]
        self._stage()

    def put(self, one: Pending, ref: StoredObjectRef) -> None:
        """Write the ref of what was stored."""
        row, key = self.pending[one]
        row[key] = bindparam(None, ref, one.field.column.type) if row is self.values else ref

    def run(self) -> Result[Any]:
        """Run the statement with what was put."""
        statement: Any = self.target.statement._clone()
        if self.values:
            statement._values = immutabledict(self.values)
        statement._multi_values = tuple(self.groups)
        parameters: Any = self.parameters
        if parameters and not self.target.execution.is_executemany:
            (parameters,) = parameters
        return self.target.execution.invoke_statement(statement, params=parameters or None)

    def _stage(self) -> None:
        field_of = self.target.field
        bound: dict[Any, FileField | None] = {  # .values(report=bindparam("upload"))
            value.key: field_of(key) for key, value in self.values.items() if isinstance(value, BindParameter)
        }
        rows = [row for group in self.groups for row in group] or self.parameters or [self.values]
        self._fill_in(rows)
        for row in (self.values, *(row for row in rows if row is not self.values)):
            for key, value in row.items():
                field = bound.get(key) if isinstance(key, str) and key in bound else field_of(key)
                if field is not None:
                    self._stage_one(row, key, field, value)

    def _fill_in(self, rows: Iterable[_Row]) -> None:
        """What Python's side has by default for a field that is not given, is stored, too."""
        field_of = self.target.field
        with_default = {one for one in self.target.by_key.values() if one.column.default is not None}
        with_default -= {field_of(key) for key in self.values}
        for row in rows if with_default else ():
            for one in with_default - {field_of(key) for key in row}:
                value = default_of(one)
                if value is not None:
                    row[one.key if self.target.by_attributes else one.column.key] = value

    def _stage_one(self, row: _Row, key: Any, one: FileField, value: Any) -> None:
        if isinstance(value, BindParameter):
            value = value.effective_value
        if value is None or isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            return
        file = stage(one.home, value, None)
        self.changed = True
        if file is None:  # no file was chosen
            row[key] = None if row is not self.values else bindparam(None, None, one.column.type)
            return
        upload = staged_upload(file)
        assert upload is not None
        self.pending[Pending(one, file, upload, self.target.bind_arguments)] = row, key


def run_insert(target: Target) -> Result[Any] | None:
    """Run an INSERT that gives files; None if SQLAlchemy is to run it, since it gives none.

    :raises BulkStatementError: if it may take objects out of rows that are there already.
    :raises UnassignableError: if a value is none that can be assigned to a file field.
    """
    statement: Any = target.statement
    check_conflict(target)
    if statement.select is not None:
        return None
    rewritten = _Rewritten(target)
    if not rewritten.changed:
        return None
    session = target.execution.session
    connection = target.connection()
    ledger = ledger_of(session)
    mine: list[Store] = []
    try:
        refs = _stored(target, ledger, rewritten.pending, mine)
        fields = {one.field for one in refs}
        watch(session, connection, target.mapper.tables, fields)
        for one, ref in refs.items():
            note_site(ledger, connection, one)
            rewritten.put(one, ref)
            ledger.promotions.append(Rewind(one.upload))
        result = rewritten.run()
    except BaseException:  # it rolls nothing back: what was stored for it is nobody's
        for one in rewritten.pending:
            one.upload.rewind()
        ledger.stored = [one for one in ledger.stored if one not in mine]
        ledger.doomed += mine
        raise
    if may_skip_rows(target):  # then the end of the transaction asks which of them a row names
        freeing = Freeing(session)
        for one, ref in refs.items():
            freeing.add(target.mapper, one.field, ref, in_row=False, connection=connection)
        freeing.write()
    ledger.check_ages()
    return result


def _stored(
    target: Target, ledger: Ledger, pending: Iterable[Pending], mine: list[Store]
) -> dict[Pending, StoredObjectRef]:
    """Store the uploads before the flush takes locks; judge the claims after it, on the rows that it wrote."""
    session = target.execution.session
    with _noting(ledger, mine):
        refs = store_uploads(ledger, [one for one in pending if not isinstance(one.upload, Claim)])
    target.autoflush()
    with _noting(ledger, mine):
        claims = [one for one in pending if isinstance(one.upload, Claim)]
        return refs | settle_claims(session, ledger, claims, {}, [])


@contextmanager
def _noting(ledger: Ledger, mine: list[Store]) -> Iterator[None]:
    """Collect what is stored meanwhile, be it cut off."""
    before = len(ledger.stored)
    try:
        yield
    finally:
        mine += ledger.stored[before:]
