"""A copy of a stream that can seek: in memory, and beyond 8 MiB in a temporary file."""

from __future__ import annotations

import shutil
import tempfile
from typing import BinaryIO, cast

__all__ = ["spooled"]

_IN_MEMORY = 8 * 2**20  # bytes
_CHUNK = 256 * 1024


def spooled(stream: BinaryIO) -> BinaryIO:
    """What ``stream`` still gives, from its beginning; the caller closes it.

    :raises Exception: what reading raises; nothing is left open then.
    """
    spool = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115
    try:
        shutil.copyfileobj(stream, spool, _CHUNK)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool
