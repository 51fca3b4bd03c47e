"""Measuring contenders side by side.

Each contender lives in a process of its own, so that none pays for another's listeners, imports or garbage. They take
turns: ``A B C, C B A, A B C, ...``, one running at a time, so that what slows the machine down for a while slows all of
them down. A ratio is one of medians. Every few rounds all processes are made anew: a process keeps the luck it had
with its memory layout.
"""

from __future__ import annotations

import gc
import multiprocessing
import re
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.case import Case, Contender, Round
from benchmarks.results import Entry, Fact, Result

__all__ = ["measure"]

_MIB = 2**20
_ROUNDS_OF_A_PROCESS = 2


def measure(case: Case, rounds: int, facts: Iterable[Fact] = ()) -> Result:
    """Run a case.

    :param rounds: rounds that count, for each contender.
    :raises RuntimeError: if a contender that is no peer fails.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in case.contenders}
    errors: dict[str, str] = {}
    used: dict[str, _Used] = {contender.name: _Used() for contender in case.contenders}
    first = case.contenders[0].name
    for done in range(0, rounds, _ROUNDS_OF_A_PROCESS):
        with ExitStack() as stack:
            workers: dict[str, _Worker] = {}
            for contender in case.contenders:
                if contender.name not in errors:
                    worker = stack.enter_context(_started(contender))
                    if _fails(contender, worker, errors, seconds):
                        continue
                    workers[contender.name] = worker
            for number in range(done, min(done + _ROUNDS_OF_A_PROCESS, rounds)):
                for name in list(workers)[::-1] if number % 2 else list(workers):
                    took, cpu, peak = workers[name].run()
                    seconds[name].append(took)
                    used[name].cpu.append(cpu)
                    used[name].peaks += [] if peak is None else [peak]
    entries = tuple(_entry(case, contender, seconds, errors, used[contender.name]) for contender in case.contenders)
    found = [*facts, *_facts(case, {entry.name: entry for entry in entries}, first)]
    return Result(case.title, case.unit, rounds, entries, tuple(found))


@dataclass
class _Used:
    """What a contender's rounds used: CPU seconds, and bytes above the start."""

    cpu: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)


def _facts(case: Case, entries: dict[str, Entry], first: str) -> Iterator[Fact]:
    peak, cpu = entries[first].peak, entries[first].cpu
    if case.peak_goal is not None and peak is not None:
        text = f"peak memory of {first}: {peak / _MIB:.1f} MiB above the start"
        yield Fact(text, f"<= {case.peak_goal / _MIB:.0f} MiB", peak <= case.peak_goal)
    if case.peak_below is not None and peak is not None and (limit := entries[case.peak_below].peak) is not None:
        text = f"peak memory of {first}: {peak / _MIB:.1f} MiB"
        yield Fact(text, f"below {case.peak_below}'s {limit / _MIB:.1f} MiB", peak < limit)
    if case.cpu_goal is not None and cpu is not None:
        name, more = case.cpu_goal
        most = (entries[name].cpu or 0) + more
        yield Fact(f"CPU of {first}: {cpu:.2f} s", f"<= {name}'s and {more:.2f} s: {most:.2f} s", cpu <= most)


def _fails(contender: Contender, worker: _Worker, errors: dict[str, str], seconds: dict[str, list[float]]) -> bool:
    """Whether a contender cannot be set up, or cannot do the round that warms it up; a peer is then left out."""
    try:
        worker.answer()
        worker.run()
    except _WorkerError as error:
        if not contender.peer:
            raise RuntimeError(f"{contender.name} failed:\n{error}") from error
        errors[contender.name] = str(error).strip().splitlines()[-1]
        seconds[contender.name].clear()
        return True
    return False


def _entry(
    case: Case, contender: Contender, seconds: dict[str, list[float]], errors: dict[str, str], used: _Used
) -> Entry:
    if contender.name in errors:
        return Entry(contender.name, goal=contender.goal, note=contender.note, error=errors[contender.name])
    ours, theirs = seconds[case.contenders[0].name], seconds[contender.name]
    low, _, high = quantiles(theirs, n=4, method="inclusive") if len(theirs) > 1 else theirs * 3
    factor = case.scale / case.per
    return Entry(
        contender.name,
        median=median(theirs) * factor,
        low=low * factor,
        high=high * factor,
        ratio=median(ours) / median(theirs),
        goal=contender.goal,
        note=contender.note,
        seconds=tuple(theirs),
        cpu=median(used.cpu),
        peak=max(used.peaks, default=None),
    )


class _WorkerError(Exception):
    """A contender's process failed; the text is its traceback."""


class _Worker:
    """A contender's process, as seen from here."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def answer(self) -> Any:
        try:
            failed, value = self._pipe.recv()
        except EOFError:
            raise _WorkerError("its process ended") from None
        if failed:
            raise _WorkerError(value)
        return value

    def run(self) -> tuple[float, float, int | None]:
        """Do one round.

        :returns: its seconds, its CPU seconds, and how many bytes resident memory has grown at most since the start.
        """
        self._pipe.send("run")
        took, cpu, peak = self.answer()
        return took, cpu, peak


@contextmanager
def _started(contender: Contender) -> Iterator[_Worker]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(contender, there), daemon=False)
    process.start()
    there.close()
    try:
        yield _Worker(here)
    finally:
        with suppress(OSError):
            here.send("stop")
        process.join()
        here.close()


def _work(contender: Contender, pipe: Connection) -> None:
    """The contender's process: set up, then a round for each message, until it is told to stop."""
    try:
        start_size = _resident("VmRSS")
        with suppress(OSError):  # sets the peak back to what is resident now (Linux)
            Path("/proc/self/clear_refs").write_text("5")
        with contender.make(*contender.args) as one:
            pipe.send((False, None))
            while pipe.recv() == "run":
                took, cpu = _timed(one)
                peak = _resident("VmHWM")
                pipe.send((False, (took, cpu, None if start_size is None or peak is None else peak - start_size)))
    except EOFError:
        pass  # the parent is gone
    except Exception:  # noqa: BLE001 - the parent raises it
        pipe.send((True, traceback.format_exc()))


def _timed(one: Round) -> tuple[float, float]:
    one.before()
    gc.collect()
    start, cpu = time.perf_counter(), time.process_time()
    own = one.run()
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    one.after()
    return (took if own is None else own), cpu


def _resident(member: str) -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{member}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
