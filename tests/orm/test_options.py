"""What a MetaData says about its file fields."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import MetaData

from granite_storage import ConfigurationError
from granite_storage.orm.options import MetadataOptions, metadata_options, options_of


def test_a_metadata_that_says_nothing_has_the_defaults() -> None:
    assert options_of(MetaData()) == MetadataOptions("granite_storage_outbox", "granite_storage_fields", False)
    assert options_of(MetaData(info=metadata_options())) == options_of(MetaData())


def test_what_a_metadata_says_is_what_it_has() -> None:
    info = {"team": "shop", **metadata_options(outbox="freed_files", registry="file_fields", triggers=True)}
    metadata = MetaData(info=info)
    assert options_of(metadata) == MetadataOptions("freed_files", "file_fields", True)
    assert metadata.info["team"] == "shop"
    assert options_of(MetaData(info=metadata_options(outbox=None))).outbox is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"outbox": ""}, "outbox is the name of a table, not ''"),
        ({"outbox": 5}, "outbox is the name of a table, not 5"),
        ({"registry": ""}, "registry is the name of a table, not ''"),
        ({"registry": None}, "registry is the name of a table, not None"),
        ({"outbox": None, "triggers": True}, "triggers write the outbox"),
        ({"outbox": "same", "registry": "same"}, "two tables, and both are 'same'"),
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        metadata_options(**options)
