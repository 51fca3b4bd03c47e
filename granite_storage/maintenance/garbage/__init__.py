"""Garbage collection: the whole store against the whole database. Reached through :mod:`granite_storage.gc`."""
