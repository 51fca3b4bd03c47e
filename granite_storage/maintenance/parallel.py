"""Work in parts on any executor: of threads, processes, or machines. The parts touch nothing that another one does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.greenlets import awaiting

if TYPE_CHECKING:
    from granite_storage.orm.sites import Site

__all__ = ["PartStoppedError", "check_maker", "check_parts", "check_stopped", "do_parts"]

_P = TypeVar("_P")
_R = TypeVar("_R")
_stop: ContextVar[Event | None] = ContextVar("granite_storage.stop", default=None)


class PartStoppedError(Exception):
    """The whole of which this is a part was given up, as by Ctrl-C."""


def check_stopped(report: object = None) -> None:
    """Where a part comes by between two batches: what it has for ``progress``.

    :raises PartStoppedError: if it is to go no further.
    """
    stop = _stop.get()
    if stop is not None and stop.is_set():
        raise PartStoppedError


def check_maker(executor: Executor, make: Callable[[], object] | None, what: str, sites: Iterable[Site] = ()) -> None:
    """Refuse an executor whose work would have to carry a collector, or the like, with its connections.

    :param what: what ``make`` gives, such as ``"collector"``.
    :param sites: the databases that it asks.
    :raises ConfigurationError: saying what to give.
    """
    if make is not None:
        return
    if not isinstance(executor, ThreadPoolExecutor):
        raise ConfigurationError(
            f"{type(executor).__name__} works elsewhere, where this {what} and its connections cannot go: give "
            f"make=, a function of a module that is there, too, which gives a {what} like this one"
        )
    if any(site.engine.dialect.is_async for site in sites):
        raise ConfigurationError(
            "an asynchronous engine works in one event loop, not in the threads of an executor: give make=, a function "
            f"that gives a {what} with an engine of another driver, or no executor"
        )


def check_parts(parts: int) -> int:
    """A number of parts that can be.

    :raises ConfigurationError: if there are none.
    """
    if parts < 1:
        raise ConfigurationError(f"parts is a number of ranges, 1 or more, not {parts}")
    return parts


def do_parts(
    executor: Executor,
    work: Callable[[_P], _R],
    parts: Iterable[_P],
    done: Callable[[_P, _R], object],
    *,
    at_once: int | None = None,
) -> None:
    """Have an executor do all parts; an error, or an interrupt, ends it.

    What has not begun by then is not begun, and what a thread of this process is at ends with its next batch.

    :param work: what is done with each; it must be picklable for an executor that works elsewhere, as must the parts.
    :param done: called with each part and its result, in the order of the parts.
    :param at_once: how many are handed to the executor at most, before the first of them is done; None for all.
    """
    left = iter(parts)
    stop = Event()
    do = partial(_stoppable, stop, work) if isinstance(executor, ThreadPoolExecutor) else work
    begun: deque[tuple[_P, Future[_R]]] = deque()
    try:
        begun.extend((part, executor.submit(do, part)) for part in islice(left, at_once))
        while begun:
            part, future = begun[0]
            result = _result(future)
            begun.popleft()
            begun.extend((one, executor.submit(do, one)) for one in islice(left, 1))
            done(part, result)
    except BaseException:
        stop.set()
        raise
    finally:
        for _, future in begun:
            future.cancel()


def _stoppable(stop: Event, work: Callable[[_P], _R], part: _P) -> _R:
    token = _stop.set(stop)
    try:
        check_stopped()
        return work(part)
    finally:
        _stop.reset(token)


def _result(future: Future[_R]) -> _R:
    """What a future gives; with the event loop free if one waits for what runs here."""
    if not awaiting():
        return future.result()
    import asyncio

    from sqlalchemy.util.concurrency import await_only

    result: _R = await_only(asyncio.wrap_future(future))
    return result
