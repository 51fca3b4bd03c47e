"""What messages of the library advise, in words of the command line instead of Python's."""

from __future__ import annotations

__all__ = ["told"]

_AGAIN = "the same command with --force"
_NO_JOBS = "leave out --jobs"
_WORDS = {
    "verify(repair=True, force=True)": _AGAIN,
    "collect(force=True)": _AGAIN,
    "sweep(force=True)": _AGAIN,
    "StorageGarbageCollector(manager).collect(dry_run=False)": "granite-storage gc --delete",
    "manager.take_ownership(engine)": "granite-storage adopt",
    "manager.take_ownership()": "granite-storage adopt",
    "op.convert_to_file_column(table, column, column, policy=...) in a migration": (
        "granite-storage import TABLE COLUMN COLUMN --policy NAME --kind inline"
    ),
    "repair=True hands": "--repair hands",
    "repair=True removes": "--repair removes",
    "say to= which": "say with --to which",
    "move(..., limits=False)": "--no-limits",
    "with on_error='skip'": "with --skip-errors",
    "kind='paths' needs root=,": "--kind paths needs --root,",
    "root= is for kind='paths' only": "--root is for --kind paths only",
    "kind='paths' with root= if": "--kind paths with --root if",
    "kind='text' or 'paths'": "--kind text or paths",
    "say kind='text' if": "say --kind text if",
    "or kind='bytes'": "or --kind bytes",
    "holds bytes: kind='bytes'": "holds bytes: --kind bytes",
    "only kind='inline' is": "only --kind inline is",
    "kind='text' converts": "--kind text converts",
    "kind='bytes' converts": "--kind bytes converts",
    ": root='": ": --root '",
    "below root='": "below --root '",
    ": encoding='": ": --encoding '",
    "encoding= says": "--encoding says",
    "smaller batch_size=,": "smaller --batch-size,",
    "since= is the": "--since is the",
    **{
        f"give make=, a function that gives a {what} with an engine of another driver, or no executor": _NO_JOBS
        for what in ("collector", "verifier", "mover")
    },
}


def told(text: str) -> str:
    """A message with its remedy in words of the command line.

    >>> told("make sure that they are the right databases; then say so: sweep(force=True)")
    'make sure that they are the right databases; then say so: the same command with --force'
    """
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text
