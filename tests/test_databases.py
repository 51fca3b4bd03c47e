"""The test databases themselves: without these, the lifecycle's tests would prove nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Unicode, insert, inspect, make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.databases import Database, probe

metadata = MetaData()
parent = Table("parent", metadata, Column("id", Integer, primary_key=True), Column("name", Unicode(20)))
child = Table("child", metadata, Column("id", ForeignKey(parent.c.id), primary_key=True))


def test_a_savepoint_that_comes_first_rolls_back_with_its_transaction(engine):
    metadata.create_all(engine)
    with Session(engine) as session:
        with session.begin_nested():
            session.execute(insert(parent).values(id=1))
        session.rollback()
        assert session.scalars(select(parent.c.id)).all() == []


def test_a_savepoint_rolls_back_alone(engine):
    metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(parent).values(id=1))
        savepoint = session.begin_nested()
        session.execute(insert(parent).values(id=2))
        savepoint.rollback()
        session.commit()
        assert session.scalars(select(parent.c.id)).all() == [1]


def test_foreign_keys_are_enforced(engine):
    metadata.create_all(engine)
    with engine.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(insert(child).values(id=7))


def test_any_unicode_character_is_kept(engine):
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(parent).values(id=1, name="résumé 🪨"))
        assert connection.scalar(select(parent.c.name)) == "résumé 🪨"


def test_clearing_leaves_nothing_even_where_a_connection_was_forgotten(database: Database):
    forgetful = database.engine()
    metadata.create_all(forgetful)
    with forgetful.connect() as connection:
        connection.execute(select(parent.c.id))
        database.clear()
        connection.invalidate()
    forgetful.dispose()
    engine = database.engine()
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_each_worker_has_a_database_of_its_own(database: Database, worker_id: str):
    assert f"granite_test_{worker_id}_" in database.url.database


def test_a_database_in_memory_has_real_savepoints_too(memory_engine):
    metadata.create_all(memory_engine)
    with Session(memory_engine) as session:
        with session.begin_nested():
            session.execute(insert(parent).values(id=1))
        session.rollback()
        assert session.scalars(select(parent.c.id)).all() == []


def test_a_server_that_does_not_answer_is_told_with_its_address():
    reason = probe(make_url("mariadb+pymysql://root@127.0.0.1:1/mysql"))
    assert reason is not None
    assert reason.startswith("127.0.0.1:1 does not answer: ")


def test_a_bucket_keeps_what_is_put_into_it(s3_bucket):
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key="a", Body=b"bytes")
    assert s3_bucket.client.get_object(Bucket=s3_bucket.name, Key="a")["Body"].read() == b"bytes"
