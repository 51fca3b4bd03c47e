"""Declared references: what names objects and is in no file column of an attached MetaData.

Such as refs in a table of another program, in a document store, or in a column that holds plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from granite_storage.exceptions import StorageError
from granite_storage.files import StoredFile
from granite_storage.refs import StoredObjectRef

__all__ = ["IterReferences", "iter_declared"]

IterReferences = Callable[[], Iterable[StoredObjectRef | StoredFile | None]]
"""Gives all refs of one place, as they are committed now; it is called anew each time they are needed."""


def iter_declared(iterate: IterReferences) -> Iterator[StoredObjectRef]:
    """The refs that a declared source gives; None is left out.

    :raises StorageError: if it gives anything else; then nobody knows what that names.
    """
    for one in iterate():
        ref = one.ref if isinstance(one, StoredFile) else one
        if isinstance(ref, StoredObjectRef):
            yield ref
        elif ref is not None:
            raise StorageError(
                f"a declared reference is a StoredObjectRef, a StoredFile or None, not {type(ref).__name__}; "
                "StoredObjectRef.from_dict() makes one of a dict"
            )
