"""The report as text: a table for each case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from benchmarks.results import Entry, Fact, Result

__all__ = ["heading", "summary", "table"]


def heading(environment: Mapping[str, str]) -> str:
    """Where the figures are taken."""
    return "\n".join(f"{name + ':':<18}{value}" for name, value in environment.items())


def table(result: Result) -> str:
    """One case: each contender's median, and granite-storage's time in parts of it, against the goal."""
    return "\n".join(_lines(result))


def summary(results: Iterable[Result]) -> str:
    """How many goals are met, and the others by name."""
    goals: list[tuple[Result, Entry | Fact]] = []
    for result in results:
        goals += [(result, entry) for entry in result.entries]
        goals += [(result, fact) for fact in result.facts]
    missed = [f"  {result.title}: {_named(one)}" for result, one in goals if one.met is False]
    counted = sum(one.met is not None for _, one in goals)
    return "\n".join([f"{counted - len(missed)} of {counted} goals met" + (", NOT met:" if missed else ""), *missed])


def _lines(result: Result) -> Iterator[str]:
    yield result.title + (f"  ({result.rounds} rounds)" if result.rounds else "")
    if result.skipped:
        yield f"  NOT RUN: {result.skipped}"
        return
    yield f"  {'':<18}{result.unit:>10}  {'quartiles':>17}  {'granite is':>10}  {'goal':>8}"
    for number, entry in enumerate(result.entries):
        note = f"  {entry.note}" if entry.note else ""
        if entry.error or entry.median is None:
            yield f"  {entry.name:<18}  not run: {entry.error}"
            continue
        quartiles = f"{entry.low:.1f}..{entry.high:.1f}"
        ratio = f"{entry.ratio:.2f} of it" if number else ""
        goal = "" if entry.goal is None else f"<= {entry.goal:.2f}"
        figures = f"  {entry.name:<18}{entry.median:>10.1f}  {quartiles:>17}  {ratio:>10}"
        yield f"{figures}  {goal:>8}  {_met(entry):<7}{_used(entry)}{note}".rstrip()
    for fact in result.facts:
        yield f"  {fact.text}, goal {fact.goal}: {_met(fact)}"


def _used(entry: Entry) -> str:
    cpu = "" if entry.cpu is None else f"  {entry.cpu:.2f} s CPU"
    return cpu if entry.peak is None else f"{cpu}, +{entry.peak / 2**20:.0f} MiB"


def _met(one: Entry | Fact) -> str:
    return {True: "met", False: "NOT met", None: ""}[one.met]


def _named(one: Entry | Fact) -> str:
    return one.text if isinstance(one, Fact) else f"{one.ratio:.2f} of {one.name}, goal <= {one.goal:.2f}"
