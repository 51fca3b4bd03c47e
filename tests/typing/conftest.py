"""``wrong.py`` is for type checkers alone: it cannot run."""

from __future__ import annotations

collect_ignore = ["wrong.py"]
