"""Work in parts on any executor: of threads, processes, or machines. The parts touch nothing that another one does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from granite_storage.exceptions import ConfigurationError
from granite_storage.orm.greenlets import awaiting

if TYPE_CHECKING:
    from granite_storage.orm.sites import Site

__all__ = ["check_maker", "check_parts", "do_parts"]

_P = TypeVar("_P")
_R = TypeVar("_R")


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
    """Have an executor do all parts; an error ends it, and what has not begun by then is not begun.

    :param work: what is done with each; it must be picklable for an executor that works elsewhere, as must the parts.
    :param done: called with each part and its result, in the order of the parts.
    :param at_once: how many are handed to the executor at most, before the first of them is done; None for all.
    """
    left = iter(parts)
    begun: deque[tuple[_P, Future[_R]]] = deque()
    try:
        begun.extend((part, executor.submit(work, part)) for part in islice(left, at_once))
        while begun:
            part, future = begun[0]
            result = _result(future)
            begun.popleft()
            begun.extend((one, executor.submit(work, one)) for one in islice(left, 1))
            done(part, result)
    finally:
        for _, future in begun:
            future.cancel()


def _result(future: Future[_R]) -> _R:
    """What a future gives; with the event loop free if one waits for what runs here."""
    if not awaiting():
        return future.result()
    import asyncio

    from sqlalchemy.util.concurrency import await_only

    result: _R = await_only(asyncio.wrap_future(future))
    return result
