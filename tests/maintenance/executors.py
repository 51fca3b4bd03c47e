"""An executor that works in the thread that asks for a result, once it asks."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

__all__ = ["LaterExecutor"]


class LaterExecutor(Executor):
    """Works when somebody asks for the result, and counts how much it was handed by then."""

    def __init__(self) -> None:
        self.waiting = self.most = 0

    def submit(self, call: Any, /, *arguments: Any, **options: Any) -> Any:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return _LaterFuture(self, lambda: call(*arguments, **options))


class _LaterFuture:
    def __init__(self, executor: LaterExecutor, call: Any) -> None:
        self._executor, self._call = executor, call

    def result(self) -> Any:
        self._executor.waiting -= 1
        return self._call()

    def cancel(self) -> None: ...
