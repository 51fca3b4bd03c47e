"""What came out: medians, ratios and whether the goals are met; as plain values and as JSON data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Entry", "Fact", "Result"]


@dataclass(frozen=True)
class Entry:
    """One contender's figures.

    :param median: of its rounds, in the case's unit; ``low`` and ``high`` are the quartiles.
    :param ratio: granite-storage's median in parts of this one's.
    :param goal: the highest ratio that is good enough, or None where there is no goal.
    :param error: why a peer did not run.
    :param seconds: of each round, in order: the rounds of all contenders with the same number are neighbours in time.
    :param cpu: the median of the CPU seconds that its process used in a round, all threads together.
    :param peak: how far its process's resident memory grew at most, in bytes.
    """

    name: str
    median: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    goal: float | None = None
    note: str = ""
    error: str = ""
    seconds: tuple[float, ...] = ()
    cpu: float | None = None
    peak: int | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None or self.ratio is None else self.ratio <= self.goal


@dataclass(frozen=True)
class Fact:
    """A goal that is no ratio of times."""

    text: str
    goal: str
    met: bool


@dataclass(frozen=True)
class Result:
    """One table of the report."""

    title: str
    unit: str
    rounds: int
    entries: tuple[Entry, ...]
    facts: tuple[Fact, ...] = ()
    skipped: str = field(default="")

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON data."""
        data = asdict(self)
        for member, entry in zip(data["entries"], self.entries, strict=True):
            member["met"] = entry.met
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """Read what :meth:`to_dict` gave."""
        entries = tuple(
            Entry(**{name: value for name, value in one.items() if name != "met"}) for one in data["entries"]
        )
        return cls(**{**data, "entries": entries, "facts": tuple(Fact(**one) for one in data["facts"])})
