"""Pickled models: their files find the manager again.

A file does not know its owner, and when SQLAlchemy's ``unpickle`` event fires the object's attributes are not there
yet. So the pickled state names the files itself: pickle keeps identity, and what the event gives a home to is what
the object holds a moment later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.orm import Mapper

from granite_storage.files import StoredFile
from granite_storage.orm.fields import file_fields

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState

__all__ = ["find_homes", "name_files"]

_FILES = "granite_storage.files"


def name_files(state: InstanceState[Any], state_dict: dict[str, Any]) -> None:
    """``pickle``: note the files that an object holds, or held since its last flush, by field."""
    state_dict[_FILES] = {
        one.key: [
            value
            for values in (state.dict, state.committed_state)
            if isinstance(value := values.get(one.key), StoredFile)
        ]
        for one in file_fields(state.mapper)
    }


def find_homes(state: InstanceState[Any], state_dict: dict[str, Any]) -> None:
    """``unpickle``: bring them home."""
    homes = {one.key: one.home for one in file_fields(state.mapper)}
    for key, files in state_dict.get(_FILES, {}).items():
        for file in files:
            file._home = homes.get(key, file._home)


@event.listens_for(Mapper, "after_mapper_constructed")
def _serve(mapper: Mapper[Any], class_: type[Any]) -> None:
    event.listen(class_, "pickle", name_files, raw=True)
    event.listen(class_, "unpickle", find_homes, raw=True)
