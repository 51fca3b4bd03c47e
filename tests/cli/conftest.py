from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from granite_storage.cli.running import run
from tests.orm.worlds import World

Command = Callable[..., tuple[int, str, str]]
"""Gives the exit status, standard output and standard error."""


@pytest.fixture
def application(world: World, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module as an application has it."""
    module = ModuleType("shop_storage")
    module.manager, module.engine = world.manager, world.engine  # type: ignore[attr-defined]
    module.make_manager = lambda: world.manager  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_storage", module)
    return module


@pytest.fixture
def world(engine: Any) -> World:
    return World(engine)


@pytest.fixture
def command(application: ModuleType, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    def call(*arguments: str, engine: bool = True) -> tuple[int, str, str]:
        chosen = ["--engine", "shop_storage:engine"] if engine else []
        status = run(["--app", "shop_storage:manager", *chosen, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call
