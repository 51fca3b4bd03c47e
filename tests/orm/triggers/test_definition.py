"""The definitions are plain values and texts, which migrations can use."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import mysql, postgresql, sqlite

from granite_storage.orm.triggers import FileTrigger, definitions_for

DIALECTS = {"sqlite": sqlite.dialect(), "postgresql": postgresql.dialect(), "mysql": mysql.dialect()}
PLAIN = FileTrigger("document", "report", "granite_storage_outbox")


def test_long_names_are_cut_and_told_apart():
    one = FileTrigger("t" * 60, "c" * 60 + "1", "o" * 60)
    other = FileTrigger("t" * 60, "c" * 60 + "2", "o" * 60)
    names = [one.delete_name, one.update_name, one.truncate_name, other.delete_name, one.function_name]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 60 for name in names)


def test_no_two_columns_have_triggers_of_one_name():
    columns = [("a__b", "c"), ("a", "b__c"), ("a_", "b"), ("a", "_b")]
    assert len({FileTrigger(table, column, "outbox").delete_name for table, column in columns}) == 4


def test_the_source_is_the_column_unless_it_is_given():
    assert PLAIN.written_source == "document.report"
    assert FileTrigger("document", "report", "o", schema="shop").written_source == "shop.document.report"
    assert FileTrigger("document", "report", "o", source="x" * 300).written_source == "x" * 255


@pytest.mark.parametrize("name", DIALECTS)
def test_the_same_definition_gives_the_same_statements(name):
    definitions, dialect = definitions_for(name), DIALECTS[name]
    made = definitions.create(dialect, PLAIN)
    assert made == definitions.create(dialect, FileTrigger("document", "report", "granite_storage_outbox"))
    dropped = definitions.drop(dialect, PLAIN)
    for trigger in (PLAIN.delete_name, PLAIN.update_name):
        assert any(f"CREATE TRIGGER {trigger} " in one for one in made)
        assert any(f"DROP TRIGGER IF EXISTS {trigger}" in one for one in dropped)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_text_with_a_quotation_mark_is_quoted(name):
    trigger = FileTrigger("document", "report", "granite_storage_outbox", source="o'clock")
    assert any("'o''clock'" in one for one in definitions_for(name).create(DIALECTS[name], trigger))


def test_a_database_without_definitions_has_none():
    assert definitions_for("oracle") is None
