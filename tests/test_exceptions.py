"""Errors and the HTTP statuses they carry."""

from __future__ import annotations

import pickle

import pytest

from granite_storage import exceptions
from granite_storage.exceptions import ConfigurationError, StorageError

ERRORS = [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_storage_error_with_an_http_status(error: type[StorageError]) -> None:
    assert issubclass(error, StorageError)
    assert 400 <= error.http_status < 600
    assert error.__doc__


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("BackendError", 503),
        ("ContentTooLargeError", 413),
        ("ContentTooSmallError", 422),
        ("ContentTypeNotAllowedError", 415),
        ("InvalidLocationError", 422),
        ("NotSupportedError", 501),
        ("ObjectExistsError", 409),
        ("ObjectNotFoundError", 404),
        ("UnassignableError", 422),
        ("UploadConsumedError", 422),
        ("ValidationError", 422),
    ],
)
def test_a_web_framework_can_answer_with_the_status(name: str, status: int) -> None:
    assert getattr(exceptions, name)("why").http_status == status


@pytest.mark.parametrize(
    ("name", "builtin"),
    [("UnassignableError", TypeError), ("InvalidRefError", ValueError), ("InvalidUploadError", ValueError)],
)
def test_errors_are_also_what_python_programmers_expect(name: str, builtin: type[Exception]) -> None:
    assert issubclass(getattr(exceptions, name), builtin)


def test_a_configuration_error_lists_every_problem() -> None:
    error = ConfigurationError("two mistakes:", ["one", "another"])
    assert error.problems == ("one", "another")
    assert str(error) == "two mistakes:\n  - one\n  - another"


@pytest.mark.parametrize("error", [kind for kind in ERRORS if kind is not ConfigurationError])
def test_an_error_pickles(error: type[StorageError]) -> None:
    assert str(pickle.loads(pickle.dumps(error("why")))) == "why"


def test_a_configuration_error_pickles_with_its_problems() -> None:
    copied = pickle.loads(pickle.dumps(ConfigurationError("mistakes:", ["one"])))
    assert str(copied) == "mistakes:\n  - one"
    assert copied.problems == ("one",)
