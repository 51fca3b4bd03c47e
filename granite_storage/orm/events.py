"""Where SQLAlchemy's events about mapped classes meet the rest: which classes have file fields, and what is assigned.

With the first class that has some, :mod:`.session_events` joins, and with it the whole lifecycle: a program that
only imports this package does not load it.
"""

from __future__ import annotations

import sys
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import ColumnProperty, InstrumentedAttribute, Mapper

from granite_storage.files import StoredFile
from granite_storage.orm.fields import file_fields, forget_fields
from granite_storage.orm.home import FieldHome
from granite_storage.orm.hybrids import add_hybrids
from granite_storage.orm.staging import stage
from granite_storage.orm.type import StoredObjectRefType


@event.listens_for(Mapper, "after_mapper_constructed")
def _after_mapper_constructed(mapper: Mapper[Any], class_: type[Any]) -> None:
    _serve(mapper)


@event.listens_for(object, "attribute_instrument")
def _attribute_instrument(class_: type[Any], key: str, attribute: InstrumentedAttribute[Any]) -> None:
    """Once for every attribute of every mapped class, subclasses too; attributes that are added later as well."""
    home = _home_of(attribute)
    if home is not None:

        def staged(target: object, value: Any, old: Any, initiator: object) -> StoredFile | None:
            return stage(home, value, old)

        event.listen(attribute, "set", staged, retval=True)
        mapper = inspect(class_)
        forget_fields(mapper)
        _serve(mapper)


def _home_of(attribute: InstrumentedAttribute[Any]) -> FieldHome | None:
    if isinstance(attribute.prop, ColumnProperty):
        type_ = attribute.prop.columns[0].type
        if isinstance(type_, StoredObjectRefType) and type_.policy is not None:
            return type_.home
    return None


def _serve(mapper: Mapper[Any]) -> None:
    """Give a mapped class that has file fields its hybrids now, and its listeners with the next flush."""
    fields = file_fields(mapper)
    if fields:
        from granite_storage.orm.session_events import hear_later

        add_hybrids(mapper, fields)
        hear_later(mapper)


if "alembic" in sys.modules:  # before 1.18 Alembic has no plugins; but every env.py imports it before the models
    import alembic_ext

    alembic_ext.register()
