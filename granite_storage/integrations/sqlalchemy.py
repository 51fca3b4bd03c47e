"""References of a model, as granite-storage 0.1.0's garbage collector takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from granite_storage.files import StoredFile
from granite_storage.refs import StoredObjectRef

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["iter_model_storage_refs"]


def iter_model_storage_refs(session: Session, model: type[Any], attribute: str) -> Iterator[StoredObjectRef]:
    """The refs of one attribute of a model, those of all rows, streamed.

    :param attribute: the attribute's name, such as ``"report"``.
    :raises InvalidRefError: at a value that is not a ref.
    """
    statement = select(getattr(model, attribute)).execution_options(yield_per=1000)
    with session.scalars(statement) as values:  # closed whenever its reader leaves: it is a cursor on the server
        for value in values:
            if value is not None:
                yield value.ref if isinstance(value, StoredFile) else value
