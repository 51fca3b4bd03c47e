"""Claims, judged: what becomes of a stored file that was assigned to a field.

On the locked rows of a flush each claim is one of

* *no change*: the field's own row holds that object already;
* a *move*: a field of the same policy gives the object up in this flush, and the first claimant gets it;
* an *adoption*: the object was stored outside of any field, under the field's policy, no row names it, it was not
  freed, it is not so old that a sweep may take it for left over, and no other open transaction of this process stored
  or adopts it;
* a *copy*: everything else.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from granite_storage.exceptions import ObjectNotFoundError
from granite_storage.orm.greenlets import off_loop
from granite_storage.orm.ledger import is_too_old, ledger_of, reserve
from granite_storage.orm.outbox import is_free, outbox_of
from granite_storage.orm.pending import Pending, copy_of, make_objects
from granite_storage.orm.references import Identity, named_within, sources_of
from granite_storage.orm.staging import Claim
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from granite_storage.manager import StorageManager
    from granite_storage.orm.giving_up import Given, GivenUp
    from granite_storage.orm.ledger import Ledger

__all__ = ["settle_claims"]


def settle_claims(
    session: Session, ledger: Ledger, claims: list[Pending], given: GivenUp, moved: list[Given]
) -> dict[Pending, StoredObjectRef]:
    """Give each claim its object, and take what stays or moves out of ``given``; what moves goes to ``moved``."""
    refs: dict[Pending, StoredObjectRef] = {}
    wanted = {one: _object_of(one) for one in claims}
    for one in claims:
        got = given.get(wanted[one])
        if got is not None and got.state is one.state and got.field is one.field:
            refs[one] = given.pop(wanted[one]).ref
    for one in claims:
        got = given.get(wanted[one])
        if one not in refs and got is not None:
            same_policy = got.field.home.policy == one.policy
            if same_policy and got.field.column.table.metadata is one.metadata:
                moved.append(given.pop(wanted[one]))
                refs[one] = got.ref
    refs |= _adopted(session, {one: wanted[one] for one in claims if one not in refs})
    copies = [one for one in claims if one not in refs]
    return refs | make_objects(ledger, {one: partial(copy_of, one, _claim(one).file) for one in copies})


def _adopted(
    session: Session, claims: dict[Pending, tuple[StorageManager, Identity]]
) -> dict[Pending, StoredObjectRef]:
    adopted: dict[Pending, StoredObjectRef] = {}
    taken: set[tuple[StorageManager, Identity]] = set()
    ledger = ledger_of(session)
    for one, wanted in claims.items():
        manager, identity = wanted
        before = wanted in ledger.adopted
        if wanted in taken or not _adoptable(one, wanted) or not reserve(session, manager, identity):
            continue
        ref = _claim(one).file.ref
        if _is_nobodys(session, one, wanted):
            if not off_loop(manager.pool, partial(manager.exists, ref)):
                raise ObjectNotFoundError(
                    f"file field {one.field.home}: there is no object at {ref.location!r} to adopt"
                )
            taken.add(wanted)
            ledger.note_age(manager, identity[1])
            adopted[one] = ref.replace(storage_key=one.policy, backend=manager.get_policy(one.policy).backend_key)
        elif not before:
            ledger.adopted.discard(wanted)
    return adopted


def _is_nobodys(session: Session, one: Pending, wanted: tuple[StorageManager, Identity]) -> bool:
    """Whether no row names an object, and nobody is about to delete it."""
    manager, identity = wanted
    connection = session.connection(bind_arguments=dict(one.bind_arguments))
    if named_within(connection, manager, [identity], sources_of(session, connection, manager)):
        return False
    outbox = outbox_of(one.metadata)
    # What was freed may be deleted any moment: who does so has asked already whether a row names it.
    return outbox is None or not is_free(connection, outbox, identity[1])


def _adoptable(one: Pending, wanted: tuple[StorageManager, Identity]) -> bool:
    manager, (backend, _) = wanted
    return (
        _claim(one).adoptable
        and manager is one.manager
        and manager.same_store(backend, manager.get_policy(one.policy).backend_key)
        and _claim(one).file.ref.storage_key in ("", one.policy)
        and not is_too_old(manager, wanted[1][1])  # a sweep may be about to delete it
    )


def _object_of(one: Pending) -> tuple[StorageManager, Identity]:
    file = _claim(one).file
    return file.manager, file.manager.identity(file.ref)


def _claim(one: Pending) -> Claim:
    assert isinstance(one.upload, Claim)
    return one.upload
