from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import IntegrityError, SADeprecationWarning
from sqlalchemy.orm import Session, defer, make_transient

from granite_storage import (
    ContentTooLargeError,
    ObjectNotFoundError,
    Upload,
    UploadConsumedError,
)
from tests.orm.worlds import OneShot, World, in_thread


@pytest.fixture
def world(engine: Engine) -> World:
    return World(engine)


# Storing


def test_a_commit_stores_the_bytes_and_writes_the_row(world: World) -> None:
    key = world.add(title="a", report=b"report", cover=io.BytesIO(b"cover"))
    with world.session() as session:
        document = session.get_one(world.Document, key)
        assert document.report.read() == b"report"
        assert document.cover.read() == b"cover"
        assert document.scan is None
    world.check()


def test_assigning_reads_and_stores_nothing(world: World) -> None:
    stream = io.BytesIO(b"abc")
    world.Document(report=stream)
    assert stream.tell() == 0
    assert world.objects() == set()


def test_a_flush_promotes_the_staged_file_in_place(world: World) -> None:
    with world.session() as session:
        document = world.Document(report=b"abc")
        file = document.report
        assert file.staged and file.read() == b"abc" and file.size == 3
        session.add(document)
        session.flush()
        assert document.report is file and not file.staged and file.read() == b"abc"
        assert world.objects() == {file.location}


def test_a_stream_is_stored_from_where_it_stands(world: World) -> None:
    stream = io.BytesIO(b"0123456789")
    stream.seek(4)
    world.add(report=stream)
    assert world.contents() == [b"456789"]


def test_uploads_of_one_flush_are_stored_side_by_side_in_a_bounded_pool(world: World) -> None:
    together = threading.Barrier(4)  # passes only if four puts are under way at once
    running, most, lock = 0, 0, threading.Lock()

    def before_put(key: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(30)
        with lock:
            running -= 1

    world.backend.before_put = before_put
    with world.session() as session:
        session.add_all(world.Document(report=b"a", cover=b"b") for _ in range(4))  # 8 uploads
        session.commit()
    assert most == 4  # max_workers
    assert len(world.objects()) == 8
    world.check()


def test_one_stream_in_two_fields_is_read_once_and_gives_two_objects(world: World) -> None:
    stream = OneShot(b"only once")
    world.add(report=stream, scan=stream, cover=stream)
    assert world.contents() == [b"only once"] * 3
    world.check()


def test_one_stream_under_two_names_keeps_both(world: World) -> None:
    stream = OneShot(b"only once")
    with world.session() as session:
        document = world.Document(report=Upload(stream, "a.txt"), scan=Upload(stream, "b.csv", extra={"n": 1}))
        session.add(document)
        session.commit()
        assert (document.report.filename, document.scan.filename) == ("a.txt", "b.csv")
        assert (document.report.content_type, document.scan.content_type) == ("text/plain", "text/csv")
        assert document.scan.extra == {"n": 1} and document.report.read() == document.scan.read() == b"only once"
    world.check()


def test_a_staged_file_assigned_to_a_second_field_is_an_object_of_its_own(world: World) -> None:
    with world.session() as session:
        one = world.Document(report=OneShot(b"abc"))
        other = world.Document(report=one.report, scan=one.report)
        session.add_all([one, other])
        session.commit()
        assert one.report != other.report
        session.delete(one)
        session.commit()
        assert other.report.read() == b"abc"
    world.check()


def test_only_the_last_of_two_assignments_before_a_flush_is_stored(world: World) -> None:
    with world.session() as session:
        document = world.Document(report=b"first")
        document.report = b"second"
        session.add(document)
        session.commit()
    assert world.contents() == [b"second"]
    world.check()


def test_no_row_is_locked_while_bytes_travel(world: World) -> None:
    key = world.add(report=b"old")
    free = []

    def before_put(location: str) -> None:
        lock = "" if world.engine.dialect.name == "sqlite" else " FOR UPDATE NOWAIT"
        with world.engine.connect() as connection:
            free.append(connection.execute(text(f"SELECT id FROM document WHERE id = {key}{lock}")).one())

    with world.session() as session:
        document = session.get_one(world.Document, key)
        session.commit()
        world.backend.before_put = before_put
        document.report = b"new"
        session.commit()
    assert len(free) == 1
    world.check()


# Replacing, clearing, deleting


def test_a_replaced_object_goes_with_the_commit_and_not_before(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.report = b"new"
        session.flush()
        assert world.contents() == [b"new", b"old"]
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


@pytest.mark.parametrize("how", ["none", "empty form field"])
def test_a_cleared_object_goes_with_the_commit(world: World, how: str) -> None:
    key = world.add(report=b"old", cover=b"cover")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        if how == "none":
            document.report = None
        else:
            document.report = type("UploadFile", (), {"filename": "", "file": io.BytesIO(), "content_type": None})()
        session.commit()
        assert document.report is None
    assert world.contents() == [b"cover"]
    world.check()


def test_the_objects_of_a_deleted_row_go_with_the_commit(world: World) -> None:
    key = world.add(report=b"report", cover=b"cover")
    world.add(report=b"other")
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.flush()
        assert len(world.objects()) == 3
        session.commit()
    assert world.contents() == [b"other"]
    world.check()


@pytest.mark.parametrize("state", ["expired", "deferred", "never loaded"])
def test_replacing_a_value_that_is_not_loaded_frees_the_old_object(world: World, state: str) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        options = [defer(world.Document.report)] if state == "deferred" else []
        document = session.get_one(world.Document, key, options=options)
        if state == "expired":
            session.expire(document)
        if state == "never loaded":
            session.expunge(document)
            document = session.merge(world.Document(id=key, report=b"new"))
        document.report = b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_what_the_session_had_loaded_is_not_trusted(world: World) -> None:
    key = world.add(report=b"first")
    with world.session(expire_on_commit=False) as stale:
        document = stale.get_one(world.Document, key)
        stale.commit()
        with world.session() as other:
            other.get_one(world.Document, key).report = b"second"
            other.commit()
        document.report = b"third"
        stale.commit()
    assert world.contents() == [b"third"]
    world.check()


@pytest.mark.databases("postgresql", "mariadb")
def test_of_two_transactions_that_replace_one_field_only_the_winners_object_stays(world: World) -> None:
    key = world.add(report=b"first")
    stored = threading.Event()
    with world.session() as one:
        one.get_one(world.Document, key).report = b"second"
        one.flush()  # holds the row lock

        def replace() -> None:
            with world.session() as other:
                other.get_one(world.Document, key).report = b"third"
                world.backend.before_put = lambda location: stored.set()
                other.commit()  # reads the ref under the lock, once the first has committed

        join = in_thread(replace)
        assert stored.wait(30)
        one.commit()
        join()
    assert world.contents() == [b"third"]
    world.check()


def test_cascades_and_orphans_free_their_objects(world: World) -> None:
    with world.session() as session:
        folder = world.Folder(documents=[world.Document(report=f"{n}".encode()) for n in range(4)])
        session.add(folder)
        session.commit()
        del folder.documents[0]  # a delete-orphan, which session.deleted does not list before the flush
        session.commit()
        assert world.contents() == [b"1", b"2", b"3"]
        session.delete(folder)
        session.commit()
    assert world.objects() == set()
    world.check()


def test_a_row_switch_frees_what_the_row_stops_naming_and_no_more(world: World) -> None:
    key = world.add(report=b"old", cover=b"cover")
    with world.session() as session:
        session.delete(session.get_one(world.Document, key))
        session.add(world.Document(id=key, report=b"new"))  # SQLAlchemy makes an UPDATE of the two: cover stays
        session.commit()
    assert world.contents() == [b"cover", b"new"]
    world.check()


def test_a_changed_primary_key_frees_by_the_row_that_it_was(world: World) -> None:
    key = world.add(report=b"old")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.id, document.report = key + 100, b"new"
        session.commit()
    assert world.contents() == [b"new"]
    world.check()


def test_composite_keys_and_joined_inheritance_free_the_fields_of_every_table(world: World) -> None:
    with world.session() as session:
        author = world.Author(country="at", number=1, photo=b"photo", contract=b"contract")
        person = world.Person(country="at", number=2, photo=b"other")
        session.add_all([author, person])
        session.commit()
        author.photo, author.contract, person.photo = b"photo 2", b"contract 2", None
        session.commit()
        assert world.contents() == [b"contract 2", b"photo 2"]
        session.delete(author)
        session.commit()
    assert world.objects() == set()
    world.check()


# Assigning files: copies, moves, swaps, adoption


def test_a_file_assigned_to_another_row_is_copied(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        other = world.Document(report=document.report)
        session.add(other)
        session.commit()
        assert other.report != document.report
        session.delete(document)
        session.commit()
        assert other.report.read() == b"abc"
    world.check()


def test_a_file_that_its_field_gives_up_in_the_same_flush_moves(world: World) -> None:
    key = world.add(report=b"abc")
    (location,) = world.objects()
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.scan, document.report = document.report, None
        session.commit()
        assert document.scan.location == location and document.report is None
    assert world.objects() == {location}
    world.check()


def test_a_file_of_a_row_that_is_deleted_in_the_same_flush_moves(world: World) -> None:
    key = world.add(report=b"abc")
    before = world.objects()
    with world.session() as session:
        document = session.get_one(world.Document, key)
        session.add(world.Document(report=document.report))
        session.delete(document)
        session.commit()
    assert world.objects() == before
    world.check()


def test_files_can_be_swapped_between_rows_and_fields(world: World) -> None:
    one, other = world.add(report=b"a", scan=b"b"), world.add(report=b"c")
    before = world.objects()
    with world.session() as session:
        first, second = session.get_one(world.Document, one), session.get_one(world.Document, other)
        first.report, first.scan, second.report = first.scan, second.report, first.report
        session.commit()
        assert [first.report.read(), first.scan.read(), second.report.read()] == [b"b", b"c", b"a"]
    assert world.objects() == before
    world.check()


def test_of_two_claimants_of_a_given_up_file_one_gets_it_and_the_other_a_copy(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        session.add_all([world.Document(report=document.report), world.Document(report=document.report)])
        document.report = None
        session.commit()
    assert world.contents() == [b"abc", b"abc"]
    world.check()


def test_a_file_of_another_policy_is_copied_under_the_fields_own(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        document.cover, document.report = document.report, None
        session.commit()
        assert document.cover.storage_key == "covers" and document.cover.location.startswith("covers/")
        document.report = bytes(2000)
        session.commit()
        document.cover = document.report
        with pytest.raises(ContentTooLargeError, match="covers"):
            session.commit()
        session.rollback()
        assert document.cover.read() == b"abc"
    world.check()


@pytest.mark.parametrize("expired", [False, True])
def test_assigning_the_object_that_a_field_holds_is_no_change(world: World, expired: bool) -> None:
    key = world.add(report=b"abc")
    before = world.objects()
    with world.session() as session:
        document = session.get_one(world.Document, key)
        file = document.report
        if expired:
            session.expire(document)
        document.report = None
        document.report = file
        session.commit()
        assert document.report == file
        document.report = file.ref
        session.commit()
    assert world.objects() == before
    world.check()


def test_the_field_that_holds_an_object_keeps_it_though_another_claims_it_first(world: World) -> None:
    key = world.add(report=b"abc")
    (location,) = world.objects()
    with world.session() as session:
        document = session.get_one(world.Document, key)
        file = document.report
        session.add(world.Document(report=file))
        document.report = None
        document.report = file
        session.commit()
        assert document.report.location == location
    assert world.contents() == [b"abc", b"abc"]
    world.check()


def test_a_file_stored_outside_of_the_transaction_is_adopted_once_and_then_copied(world: World) -> None:
    stored = world.manager.store("documents", b"abc")
    with world.session() as session:
        one, other = world.Document(report=stored), world.Document(report=stored)
        session.add_all([one, other])
        session.commit()
        assert {one.report.location, other.report.location} > {stored.location}
        third = world.Document(report=stored.ref)
        session.add(third)
        session.commit()
        assert third.report.location != stored.location
    assert world.contents() == [b"abc"] * 3
    world.check()


def test_an_adopted_file_is_still_there_to_be_assigned_again_after_a_rollback(world: World) -> None:
    stored = world.manager.store("documents", b"abc")
    with world.session() as session:
        document = world.Document(report=stored)
        session.add(document)
        session.flush()
        session.rollback()
        session.add(document)
        session.commit()
        assert document.report.location == stored.location
    world.check()


def test_a_file_of_the_wrong_policy_is_not_adopted_but_copied(world: World) -> None:
    stored = world.manager.store("documents", b"abc")
    with world.session() as session:
        document = world.Document(cover=stored)
        session.add(document)
        session.commit()
        assert document.cover.location.startswith("covers/")
    assert stored.exists()  # it is the caller's


def test_a_ref_whose_object_is_missing_is_not_adopted(world: World) -> None:
    stored = world.manager.store("documents", b"abc")
    world.manager.delete(stored.ref)
    with world.session() as session:
        session.add(world.Document(report=stored))
        with pytest.raises(ObjectNotFoundError, match=r"document\.report"):
            session.commit()
        session.rollback()
    assert world.named() == []


def test_a_row_that_was_made_transient_and_added_again_shares_no_object(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        session.refresh(document)
        session.expunge(document)
        make_transient(document)
        document.id = key + 1
        session.add(document)
        session.commit()
    assert world.contents() == [b"abc", b"abc"]
    world.check()


def test_a_merge_takes_a_detached_value_over_without_a_copy(world: World) -> None:
    key = world.add(report=b"abc")
    before = world.objects()
    with world.session() as session:
        detached = session.get_one(world.Document, key)
        session.expunge(detached)
    with world.session() as session:
        session.merge(detached)
        session.commit()
    with world.session() as session:
        merged = session.merge(detached, load=False)
        merged.title = "changed"
        session.commit()
    assert world.objects() == before
    world.check()


# Failures


def test_a_refused_upload_leaves_nothing_and_the_retry_stores_all(world: World) -> None:
    with world.session() as session:
        document = world.Document(report=b"good", cover=bytes(1001))
        session.add(document)
        with pytest.raises(ContentTooLargeError):
            session.commit()
        session.rollback()
        assert world.objects() == set()
        document.cover = b"small"
        session.add(document)
        session.commit()
        assert document.report.read() == b"good"
    world.check()


def test_an_upload_refused_by_a_flush_that_is_not_rolled_back_is_discarded_by_the_commit(world: World) -> None:
    with world.session() as session:
        document = world.Document(report=b"good", cover=bytes(1001))
        session.add(document)
        with pytest.raises(ContentTooLargeError):
            session.flush()
        document.cover = None
        session.commit()
    assert world.contents() == [b"good"]
    world.check()


def test_a_failed_flush_can_be_retried_with_the_same_objects(world: World) -> None:
    world.add(title="taken")
    with world.session() as session:
        document = world.Document(title="taken", report=io.BytesIO(b"abc"), cover=Upload(b"cover"))
        session.add(document)
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert world.objects() == set() and document.report.staged
        document.title = "free"
        session.add(document)
        session.commit()
    assert world.contents() == [b"abc", b"cover"]
    world.check()


def test_a_one_shot_source_says_clearly_that_it_cannot_be_read_again(world: World) -> None:
    with world.session() as session:
        document = world.Document(report=Upload(OneShot(b"abc"), filename="a.txt"))
        session.add(document)
        session.flush()
        session.rollback()
        session.add(document)
        with pytest.raises(UploadConsumedError, match=r"a\.txt"):
            session.commit()
        session.rollback()
    assert world.objects() == set()


def test_a_storage_that_is_down_fails_the_flush_and_not_the_session(world: World) -> None:
    def down(key: str) -> None:
        raise ConnectionError("storage is down")

    world.backend.before_put = down
    with world.session() as session:
        document = world.Document(report=b"abc")
        session.add(document)
        with pytest.raises(ConnectionError):
            session.commit()
        world.backend.before_put = lambda key: None
        session.rollback()
        session.add(document)
        session.commit()
    world.check()


# Objects that before_flush cannot see


def test_objects_that_a_later_listener_adds_and_changes_are_stored_too(world: World) -> None:
    key = world.add(report=b"old")

    def add_more(session: Session, context: Any, instances: Any) -> None:
        if not session.info.setdefault("added", False):
            session.info["added"] = True
            session.add(world.Document(report=b"added"))
            session.get_one(world.Document, key).report = b"changed"

    with world.session() as session:
        event.listen(session, "before_flush", add_more)
        session.add(world.Document(title="first"))
        session.commit()
    assert world.contents() == [b"added", b"changed"]
    world.check()


def test_a_flush_of_some_objects_stores_only_theirs(world: World) -> None:
    with world.session() as session:
        one, other = world.Document(report=b"one"), world.Document(report=b"other")
        session.add_all([one, other])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SADeprecationWarning)  # since 2.1
            session.flush([one])
        assert world.contents() == [b"one"] and other.report.staged
        session.commit()
    assert world.contents() == [b"one", b"other"]
    world.check()


# What it costs


def test_a_flush_that_changes_no_persistent_ref_adds_no_statement(world: World) -> None:
    key = world.add(report=b"abc")
    with world.session() as session:
        document = session.get_one(world.Document, key)
        with world.statements() as sent:
            document.title = "changed"
            session.add(world.Document(title="new", report=b"new"))
            session.flush()
        assert [statement.split()[0] for statement in sent] == ["INSERT", "UPDATE"] or [
            statement.split()[0] for statement in sent
        ] == ["UPDATE", "INSERT"]


def test_a_flush_that_gives_up_refs_adds_one_locking_select_a_mapper(world: World) -> None:
    keys = [world.add(report=b"abc") for _ in range(20)]
    with world.session() as session:
        documents = session.scalars(select(world.Document).where(world.Document.id.in_(keys))).all()
        for document in documents[:10]:
            document.report = b"new"
        for document in documents[10:]:
            session.delete(document)
        with world.statements() as sent:
            session.flush()
        selects = [statement for statement in sent if statement.startswith("SELECT")]
        assert len(selects) == 1
        if world.engine.dialect.name != "sqlite":
            assert "FOR UPDATE" in selects[0]
        session.commit()
    world.check()
