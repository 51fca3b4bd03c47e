"""File fields beside SQLAlchemy-Utils: its coercion of every attribute, its reprs, its types."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy_utils
from sqlalchemy import event, select
from sqlalchemy.orm import Mapped, Mapper, mapped_column
from sqlalchemy_utils import EmailType, UUIDType, generic_repr
from sqlalchemy_utils.listeners import coercion_listener

from granite_storage import FileColumn, FileMapped, StoredFile, UnassignableError, Upload


@pytest.fixture
def coercion():
    """``force_auto_coercion()`` for the length of a test."""
    sqlalchemy_utils.force_auto_coercion()
    yield
    event.remove(Mapper, "mapper_configured", coercion_listener)


@pytest.fixture
def User(Base) -> type[Any]:
    @generic_repr
    class User(Base):
        __tablename__ = "user_account"
        id: Mapped[uuid.UUID] = mapped_column(UUIDType, primary_key=True, default=uuid.uuid4)
        email: Mapped[str] = mapped_column(EmailType(100))
        photo: FileMapped[StoredFile | None] = FileColumn("documents")

    return User


def test_force_auto_coercion_leaves_file_fields_alone(coercion, User, open_session):
    User.registry.configure()
    session = open_session()
    key = uuid.uuid4()
    user = User(id=str(key), email="Someone@Example.COM", photo=Upload(b"a face", filename="face.txt"))
    assert user.id == key  # coerced at assignment
    assert user.photo.staged
    session.add(user)
    session.commit()
    session.expunge_all()
    loaded = session.scalars(select(User).where(User.email == "SOMEONE@example.com", User.photo.size == 6)).one()
    assert isinstance(loaded.id, uuid.UUID)
    assert loaded.photo.read() == b"a face"
    loaded.photo = b"another"
    session.commit()
    assert loaded.photo.read() == b"another"
    with pytest.raises(UnassignableError):
        loaded.photo = {"location": "docs/other"}


def test_generic_repr_shows_a_file_and_no_filename(User, open_session):
    session = open_session()
    user = User(email="a@b.c", photo=Upload(b"a face", filename="secret-name.txt"))
    assert "photo=<StoredFile staged>" in repr(user)
    session.add(user)
    session.commit()
    session.refresh(user)
    assert "photo=<StoredFile documents memory:docs/" in repr(user)
    assert "secret-name" not in repr(user)


def test_its_mapper_lookups_know_a_file_field(User, open_session):
    session = open_session()
    user = User(email="a@b.c", photo=b"a face")
    session.add(user)
    session.commit()
    assert not sqlalchemy_utils.has_changes(user, "photo")
    user.photo = b"another"
    assert sqlalchemy_utils.has_changes(user, "photo")
    assert "photo" in sqlalchemy_utils.get_columns(User)
    assert str(sqlalchemy_utils.get_type(User.photo)) == "JSON"
    assert sqlalchemy_utils.get_mapper(User.__table__).class_ is User
