"""A stored object as a file on this machine: whole or not at all, and compared with its ref."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from granite_storage.backends.base import Ability, ParallelReadBackend, has_ability
from granite_storage.intake.stopping import check_stop
from granite_storage.verifying import check_digest, check_size, digest_of

if TYPE_CHECKING:
    from granite_storage.files import StoredFile

__all__ = ["save"]

_CHUNK = 256 * 1024


def save(file: StoredFile, path: str | os.PathLike[str], *, verify: bool) -> Path:
    """:meth:`.StoredFile.save_to`."""
    target = Path(path)
    digest = digest_of(file.ref) if verify else None
    with _whole(target) as part:
        written = _fill(file, part, None if digest is None else digest.update)
        if not file.staged:
            check_size(file.ref, written)
        if digest is not None:
            check_digest(file.ref, digest)
    return target


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A new file, that takes the target's place if the block ends well, and else is gone."""
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "x+b", buffering=0) as file:
            yield cast("BinaryIO", file)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _fill(file: StoredFile, part: BinaryIO, follow: Callable[[bytes], object] | None) -> int:
    if not file.staged:
        backend = file.manager.backend_of(file.ref)
        if has_ability(backend, Ability.PARALLEL_READ):
            return cast("ParallelReadBackend", backend).read_into(file.ref, part, follow=follow)
    for chunk in file.iter_bytes(_CHUNK):
        check_stop()
        _write_all(part, chunk)
        if follow is not None:
            follow(chunk)
    return part.tell()


def _write_all(part: BinaryIO, chunk: bytes) -> None:
    written = part.write(chunk)
    while written < len(chunk):
        written += part.write(memoryview(chunk)[written:])
