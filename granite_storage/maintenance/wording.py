"""How results are worded for people: endings of nouns, sizes, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["plural", "size_text", "table", "url_part"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def plural(count: int) -> str:
    """The ending of a noun.

    >>> f"1 file{plural(1)}, 2 file{plural(2)}"
    '1 file, 2 files'
    """
    return "" if count == 1 else "s"


def size_text(size: int) -> str:
    """Bytes as people read them.

    >>> size_text(999), size_text(1_536), size_text(5 * 2**30), size_text(50 * 2**30)
    ('999 B', '1.5 KiB', '5.0 GiB', '50 GiB')
    """
    number, unit = float(size), 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit and number < 10 else f"{number:.0f} {_UNITS[unit]}"


def url_part(part: str | None, *others: str | None) -> str:
    """A part of a database's URL as it may be shown, which is not if it or another has an '@'.

    Such a one is the rest of a password that was not percent-encoded.

    >>> url_part("shop"), url_part("word@db:5432/shop"), url_part("ss", "word@db:5432/shop")
    ("'shop'", '***', '***')
    """
    return "***" if any("@" in (one or "") for one in (part, *others)) else repr(part)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: int) -> str:
    """Columns that are aligned, the first ``left`` to the left and the others to the right.

    >>> print(table(["type", "files"], [["image/png", 7]], left=1))
    type       files
    image/png      7
    """
    cells = [list(head), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
