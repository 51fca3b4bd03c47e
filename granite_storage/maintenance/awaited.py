"""What asks databases, awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from granite_storage.manager import StorageManager

__all__ = ["run_awaited"]

_T = TypeVar("_T")


async def run_awaited(manager: StorageManager, engine: Any, work: Callable[[], _T]) -> _T:
    """Do what asks databases, with the event loop free: asynchronous drivers are awaited, others have a thread.

    :param engine: the engines that are asked, besides those that the manager was attached with.
    """
    engines: Iterable[Any] = engine if isinstance(engine, Sequence) else [engine]
    asked = [*(getattr(one, "sync_engine", one) for one in engines), *manager.attached.values()]
    if any(one is not None and one.dialect.is_async for one in asked):
        from sqlalchemy.util.concurrency import greenlet_spawn

        return await greenlet_spawn(work)
    return await manager.pool.run(work)
