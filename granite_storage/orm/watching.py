"""What a flush, or a bulk statement, tells the ledger: where to ask, once the transaction has ended, who names what."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from granite_storage.orm.ledger import Ledger, ledger_of
from granite_storage.orm.references import sources_of
from granite_storage.orm.sites import Site

if TYPE_CHECKING:
    from sqlalchemy import Connection, FromClause
    from sqlalchemy.orm import Session

    from granite_storage.orm.fields import FileField
    from granite_storage.orm.pending import Pending

__all__ = ["note_site", "watch"]


def watch(session: Session, connection: Connection, tables: Iterable[FromClause], fields: Iterable[FileField]) -> None:
    """Watch a connection over which rows with some file fields are written, and remember whom to ask about them."""
    ledger = ledger_of(session)
    ledger.watch(connection)
    ledger.written.update(tables)
    for manager in {one.home.manager for one in fields}:
        ledger.sources |= dict.fromkeys(sources_of(session, connection, manager))


def note_site(ledger: Ledger, connection: Connection, one: Pending) -> None:
    """Remember in which database the row is that names what was stored for it."""
    ledger.sites[one.manager, one.policy, Site.of(connection, one.metadata)] = None
