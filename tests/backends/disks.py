"""Disks that are small, and folders that refuse, for root and for others."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["limited_files", "read_only", "small_disk"]


@contextmanager
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A folder where 1 MiB fits and 4 MiB do not, and the error number that tells so.

    It is a tmpfs of 2 MiB. Where none can be mounted (that takes root), a limit on the size of files stands in for it.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield folder, errno.ENOSPC
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    with limited_files():
        yield folder, errno.EFBIG


@contextmanager
def limited_files() -> Iterator[None]:
    """No file of this process can grow beyond 2 MiB meanwhile: a write fails in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024**2, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing in a folder can be deleted or made meanwhile by this thread, root's or not."""
    mode = folder.stat().st_mode
    folder.chmod(0o500)
    try:
        with _bound_by_permissions():
            yield
    finally:
        folder.chmod(mode)


_DAC_OVERRIDE = 1 << 1  # linux/capability.h: CAP_DAC_OVERRIDE, by which root passes over permissions
_VERSION_3 = 0x20080522


@contextmanager
def _bound_by_permissions() -> Iterator[None]:
    """Where this thread passes over permissions, as root does, it lays that down for a while (capget(2))."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    before, now = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    _checked(libc.capget(header, before))
    ctypes.memmove(now, before, ctypes.sizeof(before))
    now[0] &= ~_DAC_OVERRIDE
    _checked(libc.capset(header, now))
    try:
        yield
    finally:
        _checked(libc.capset(header, before))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
