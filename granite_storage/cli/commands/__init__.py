"""The commands. Each is thin: what it does is a function of the library."""

from granite_storage.cli.commands import checking, cleaning, looking, moving

__all__ = ["checking", "cleaning", "looking", "moving"]
