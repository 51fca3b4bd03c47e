"""Attaching reports every configuration mistake, all at once, with the model and field named."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from granite_storage import (
    ConfigurationError,
    FileColumn,
    FileMapped,
    LocalStorageBackend,
    MemoryStorageBackend,
    StorageManager,
    StoragePolicy,
    StoredFile,
    StoredObjectRefType,
)
from granite_storage.orm.options import metadata_options


def base() -> type[Any]:
    class Base(DeclarativeBase):
        pass

    return Base


def document(Base: type[Any], policy: str = "documents", table: str = "document") -> type[Any]:
    class Document(Base):
        __tablename__ = table
        id: Mapped[int] = mapped_column(primary_key=True)
        report: FileMapped[StoredFile | None] = FileColumn(policy)

    return Document


def manager_of(*policies: StoragePolicy, **backends: Any) -> StorageManager:
    return StorageManager(backends or {"memory": "memory://"}, {policy.storage_key: policy for policy in policies})


def problems_of(manager: StorageManager, *models: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        manager.attach(*models)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


def test_a_policy_that_names_an_unknown_backend():
    manager = manager_of(StoragePolicy("documents", "s3"))
    assert problems_of(manager, base()) == (
        "policy 'documents' names the unknown backend 's3'; the manager has 'memory'",
    )


def test_a_policy_that_promises_encryption_where_the_backend_has_none(tmp_path):
    policies = {
        name: StoragePolicy(name, name, encryption="SSE-S3", cache_control="no-store")
        for name in ("disk", "memory", "s3")
    }
    backends = {"disk": LocalStorageBackend(tmp_path), "memory": "memory://", "s3": "s3://bucket"}
    (problem,) = problems_of(StorageManager(backends, policies), base())
    assert problem.startswith("policy 'disk' says encryption='SSE-S3', and backend 'disk' cannot encrypt: ")


def test_a_policy_whose_other_settings_mean_nothing_to_its_backend(tmp_path):
    policy = StoragePolicy(
        "documents", "disk", cache_control="no-store", storage_class="STANDARD_IA", metadata={"a": "b"}, tags={"a": "b"}
    )
    manager = StorageManager({"disk": LocalStorageBackend(tmp_path)}, {"documents": policy})
    manager.attach(base())
    assert manager.store("documents", b"content").read() == b"content"


def test_a_policy_that_retains_what_no_outbox_holds():
    class Base(DeclarativeBase):
        metadata = MetaData(info=metadata_options(outbox=None))

    document(Base)
    (problem,) = problems_of(manager_of(StoragePolicy("documents", "memory", retain=timedelta(days=1))), Base)
    assert "policy 'documents' of file field Document.report retains" in problem
    manager_of(StoragePolicy("documents", "memory")).attach(Base)


def test_a_field_that_names_an_unknown_policy():
    Base = base()
    document(Base, "docments")
    manager = manager_of(StoragePolicy("documents", "memory"))
    assert problems_of(manager, Base) == (
        "file field Document.report names the unknown policy 'docments'; the manager has 'documents'",
    )


def test_an_inherited_field_is_named_by_the_class_that_declares_it():
    Base = base()

    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(String(10))
        photo: FileMapped[StoredFile | None] = FileColumn("photos")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

    for name in ("Author", "Editor", "Reader"):
        type(name, (Person,), {"__mapper_args__": {"polymorphic_identity": name}, "__module__": __name__})
    problems = problems_of(manager_of(StoragePolicy("documents", "memory")), Base)
    assert problems == ("file field Person.photo names the unknown policy 'photos'; the manager has 'documents'",)


def test_a_field_of_a_bare_table_is_named_by_table_and_column():
    metadata = MetaData()
    Table("document", metadata, Column("id", Integer), Column("report", StoredObjectRefType("nowhere")))
    assert "file field document.report names" in problems_of(manager_of(StoragePolicy("a", "memory")), metadata)[0]


@pytest.mark.parametrize(("one", "other"), [("docs", "docs/old"), ("docs", "docs"), ("a/b/c", "a")])
def test_prefixes_that_nest_in_one_backend(one, other):
    manager = manager_of(
        StoragePolicy("one", "memory", key_prefix=one), StoragePolicy("other", "memory", key_prefix=other)
    )
    (problem,) = problems_of(manager, base())
    assert "nest their prefixes" in problem
    assert "'one'" in problem
    assert "'other'" in problem
    assert "in backend 'memory'; give each a key_prefix of its own" in problem


def test_a_former_prefix_may_not_be_anothers():
    manager = manager_of(
        StoragePolicy("one", "memory", key_prefix="papers", former_prefixes=("docs",)),
        StoragePolicy("other", "memory", key_prefix="docs/new"),
    )
    assert "'one' and 'other' nest their prefixes 'docs' and 'docs/new'" in problems_of(manager, base())[0]


def test_a_storage_key_that_is_the_prefix_of_another_nests_too():
    manager = manager_of(StoragePolicy("docs", "memory"), StoragePolicy("old", "memory", key_prefix="docs/old"))
    assert len(problems_of(manager, base())) == 1


def test_one_backend_under_two_names_is_one_backend():
    backend = MemoryStorageBackend()
    manager = manager_of(
        StoragePolicy("one", "first", key_prefix="docs"), StoragePolicy("other", "second", key_prefix="docs"),
        first=backend, second=backend,
    )  # fmt: skip
    assert "nest their prefixes" in problems_of(manager, base())[0]


def test_prefixes_that_only_look_alike_do_not_nest():
    manager_of(
        StoragePolicy("one", "memory", key_prefix="docs"),
        StoragePolicy("two", "memory", key_prefix="docs-old"),
        StoragePolicy("three", "other", key_prefix="docs"),
        memory="memory://",
        other="memory://",
    ).attach(base())


def test_a_policy_under_a_name_that_is_not_its_own():
    manager = StorageManager({"memory": "memory://"}, {"documents": StoragePolicy("docs", "memory")})
    assert "policy 'docs' is listed under the name 'documents'" in problems_of(manager, base())[0]


def test_all_mistakes_are_reported_at_once_and_nothing_is_attached():
    one, other = base(), base()
    document(one, "first mistake")
    document(other, "second mistake")
    manager = manager_of(
        StoragePolicy("a", "nowhere"),
        StoragePolicy("b", "memory", key_prefix="p"),
        StoragePolicy("c", "memory", key_prefix="p/q"),
    )
    problems = problems_of(manager, one, other, "not a base", None)
    assert len(problems) == 6
    assert manager.attached == {}
    right = manager_of(StoragePolicy("first mistake", "memory", key_prefix="f"))
    right.attach(one)  # no other manager is attached yet


def test_attach_takes_bases_metadatas_and_mapped_classes(engine):
    one, other, third = base(), base(), base()
    models = [document(one, table="one"), document(other, table="other"), document(third, table="third")]
    manager = manager_of(StoragePolicy("documents", "memory"))
    manager.attach(one, other.metadata, models[2])
    for model in models:
        model.metadata.create_all(engine)
    with Session(engine) as session:
        for model in models:
            made = model(report=b"content")
            session.add(made)
            session.commit()
            assert made.report.manager is manager


@pytest.mark.parametrize("model", [object(), int, "Base", None])
def test_attach_takes_nothing_else(model):
    (problem,) = problems_of(manager_of(), model)
    assert "attach() takes declarative bases, mapped classes and MetaData, not" in problem


def test_attach_of_nothing_is_a_mistake():
    assert problems_of(manager_of()) == ("attach() was given no declarative base and no MetaData",)


def test_a_second_manager_is_a_mistake_and_the_same_one_again_is_not():
    Base = base()
    first = manager_of(StoragePolicy("documents", "memory"))
    first.attach(Base)
    first.attach(Base)
    assert "another manager attached already" in problems_of(manager_of(StoragePolicy("documents", "memory")), Base)[0]


def test_a_field_that_is_declared_later_is_checked_then():
    Base = base()
    manager_of(StoragePolicy("documents", "memory")).attach(Base)
    assert document(Base).__tablename__ == "document"
    Base.registry.dispose()
    with pytest.raises(
        ConfigurationError, match=r"file field late\.report names the unknown policy 'docments'; the manager has"
    ):
        document(Base, "docments", "late")


def test_the_engine_may_be_told(engine):
    Base = base()
    manager = manager_of(StoragePolicy("documents", "memory"))
    manager.attach(Base, engine=engine)
    assert manager.attached == {Base.metadata: engine}


def test_an_async_engine_is_known_by_its_sync_engine():
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine("sqlite+aiosqlite://")
    Base = base()
    manager = manager_of(StoragePolicy("documents", "memory"))
    manager.attach(Base, engine=engine)
    assert manager.attached == {Base.metadata: engine.sync_engine}


@pytest.mark.parametrize("other", ["{folder}", "{folder}/docs", "{folder}/link"])
def test_two_backends_on_one_store_may_not_nest_prefixes_either(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "link").symlink_to(folder)
    manager = StorageManager(
        {"a": f"file://{folder}", "b": "file://" + other.format(folder=folder)},
        {"p": StoragePolicy("p", "a", key_prefix="docs"), "q": StoragePolicy("q", "b", key_prefix="docs")},
    )
    with pytest.raises(ConfigurationError, match="'p' and 'q' nest"):
        manager.attach(MetaData())
