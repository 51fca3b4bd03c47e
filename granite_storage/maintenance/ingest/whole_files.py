"""Files that go back into columns: read whole, compared with their refs, and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granite_storage.exceptions import InvalidUploadError
from granite_storage.verifying import check_digest, check_size, digest_of

if TYPE_CHECKING:
    from granite_storage.files import StoredFile

__all__ = ["read_text", "read_whole"]


def read_whole(file: StoredFile) -> bytes:
    """A file's content.

    :raises ObjectNotFoundError: if it is missing.
    :raises ChecksumMismatchError: if it is not what its ref says.
    """
    content = file.read()
    check_size(file.ref, len(content))
    hashed = digest_of(file.ref)
    hashed.update(content)
    check_digest(file.ref, hashed)
    return content


def read_text(file: StoredFile, encoding: str, dialect: str) -> str:
    """A file's content as text that a column can hold.

    :raises InvalidUploadError: if it is none.
    """
    content = read_whole(file)
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise InvalidUploadError(
            f"its file is no text in {encoding} ({error}); encoding= says which it is in"
        ) from error
    if dialect == "postgresql" and "\0" in text:
        raise InvalidUploadError("its file has a NUL character, which PostgreSQL takes in no text")
    return text
