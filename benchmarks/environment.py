"""Where figures were taken: they mean nothing without."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.case import Settings

__all__ = ["describe"]

_DISTRIBUTIONS = ("SQLAlchemy", "psycopg", "advanced-alchemy", "obstore", "sqlalchemy-file", "apache-libcloud")


def describe(settings: Settings) -> dict[str, str]:
    """Machine, versions and workload, for people."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    found = {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load:.1f} at the start",
        "disk": f"{settings.directory} ({_file_system(settings.directory)})",
        "commit": _commit(),
        "rounds": f"{settings.rounds}{', quick: a small workload' if settings.quick else ''}",
    }
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _file_system(directory: str) -> str:
    """The type of the file system that holds a directory (Linux)."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = os.path.realpath(directory)
    within = [(point, kind) for point, kind in mounts if os.path.commonpath([point, path]) == point]
    return max(within, key=lambda mount: len(mount[0]))[1] if within else "unknown"


def _commit() -> str:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
