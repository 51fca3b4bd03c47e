"""The ORM side: column, type, operators, hybrids, and the lifecycle of files in a session.

Importing it registers the listeners of :mod:`granite_storage.orm.events`.
"""

from granite_storage.orm import events as events
from granite_storage.orm import pickling as pickling
from granite_storage.orm.column import Assignable, FileColumn, FileMapped
from granite_storage.orm.location_index import indexed_location
from granite_storage.orm.member_index import indexed_member
from granite_storage.orm.options import metadata_options
from granite_storage.orm.type import StoredObjectRefType, portable_storage_ref_type

__all__ = [
    "Assignable",
    "FileColumn",
    "FileMapped",
    "StoredObjectRefType",
    "indexed_location",
    "indexed_member",
    "metadata_options",
    "portable_storage_ref_type",
]
