"""Backends by URL scheme: those of this library, those of the entry-point group, and those registered by hand.

A distribution offers a backend for a scheme through an entry point whose name is the scheme::

    [project.entry-points."granite_storage.backends"]
    gs = "my_package:GoogleStorageBackend.from_url"

What it names is called with a :class:`~granite_storage.backends.urls.BackendURL` and returns the backend. It is loaded
when its scheme is asked for and not before. No entry point can take over a scheme of this library.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TypeAlias

from granite_storage.backends.base import StorageBackend
from granite_storage.backends.urls import BackendURL
from granite_storage.exceptions import ConfigurationError

__all__ = ["ENTRY_POINT_GROUP", "BackendFactory", "backend_from_url", "known_schemes", "register_backend"]

ENTRY_POINT_GROUP = "granite_storage.backends"

BackendFactory: TypeAlias = Callable[[BackendURL], StorageBackend]
"""Makes a backend from its URL; raises ConfigurationError."""

_BUILT_IN = {
    "file": ("granite_storage.backends.local", "LocalStorageBackend"),
    "memory": ("granite_storage.backends.memory", "MemoryStorageBackend"),
    "s3": ("granite_storage.backends.s3", "S3StorageBackend"),
}
_registered: dict[str, BackendFactory] = {}


def register_backend(scheme: str, factory: BackendFactory) -> None:
    """Let URLs of a scheme make a backend, in this process; an entry point does so for every process.

    :param scheme: such as ``"gs"``; an earlier registration is replaced.
    :param factory: called with the :class:`~granite_storage.backends.urls.BackendURL`.

    >>> from granite_storage.backends.memory import MemoryStorageBackend
    >>> register_backend("scratch", lambda url: MemoryStorageBackend())
    >>> backend_from_url("scratch://")
    MemoryStorageBackend()
    """
    _registered[scheme.lower()] = factory


def known_schemes() -> tuple[str, ...]:
    """The schemes that :func:`backend_from_url` knows, sorted."""
    found = {point.name.lower() for point in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(found.union(_BUILT_IN, _registered)))


def backend_from_url(url: str) -> StorageBackend:
    """Make the backend that a URL names.

    :param url: such as ``"file:///var/uploads"``, ``"memory://"`` or ``"s3://bucket/prefix?region=eu-west-1"``.
    :raises ConfigurationError: if the scheme is unknown, the URL or an option makes no sense, or what the
        backend needs is not installed. No error shows a secret of the URL.

    >>> backend_from_url("memory://")
    MemoryStorageBackend()
    """
    parsed = BackendURL.parse(url)
    backend = _factory(parsed)(parsed)
    if not isinstance(backend, StorageBackend):
        raise ConfigurationError(
            f"what the scheme {parsed.scheme!r} stands for made a {type(backend).__name__} from {parsed.masked!r}, "
            "which lacks a part of the StorageBackend protocol"
        )
    return backend


def _factory(url: BackendURL) -> BackendFactory:
    scheme = url.scheme
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN:
        module, name = _BUILT_IN[scheme]
        factory: BackendFactory = getattr(import_module(module), name).from_url
        return factory
    points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name.lower() == scheme]
    if not points:
        raise ConfigurationError(
            f"no backend is known for the scheme {scheme!r} of {url.masked!r}; known are {', '.join(known_schemes())}. "
            f"Install the distribution that has an entry point {scheme!r} in the group {ENTRY_POINT_GROUP!r}, "
            "or call register_backend()"
        )
    if len({point.value for point in points}) > 1:
        raise ConfigurationError(
            f"the scheme {scheme!r} has several backends: {', '.join(sorted(map(_origin, points)))}; "
            "uninstall all but one, or choose with register_backend()"
        )
    try:
        loaded: BackendFactory = points[0].load()
    except (ImportError, AttributeError) as error:
        message = f"the backend for the scheme {scheme!r} cannot be loaded: {_origin(points[0])}: {error}"
        raise ConfigurationError(message) from error
    return loaded


def _origin(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name}" if point.dist else point.value
