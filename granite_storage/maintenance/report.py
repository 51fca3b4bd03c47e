"""What the reports of all maintenance have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report(ABC):
    """The result of one run: numbers, and what was refused."""

    refused: list[str] = field(default_factory=list)
    """What was not done, and why: each names the thing and the remedy."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """One line, without what was refused."""

    def add_numbers(self, other: Report) -> None:
        """Count what another run did, too, and what it did not do: of another part of the whole."""
        for one in fields(self):
            number = getattr(self, one.name)
            if type(number) is int:
                setattr(self, one.name, number + getattr(other, one.name))
        self.refuse(*other.refused)

    def refuse(self, *reasons: str) -> None:
        """Note what was not done, each reason once."""
        self.refused += dict.fromkeys(reason for reason in reasons if reason not in self.refused)

    def __str__(self) -> str:
        return "; ".join([self.summary, *self.refused])
