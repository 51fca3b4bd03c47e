"""Finding the application: its manager, and the database to ask."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from granite_storage.manager import StorageManager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from sqlalchemy import Engine

__all__ = ["Application", "load_application"]

_T = TypeVar("_T")
APP_VARIABLE = "GRANITE_STORAGE_APP"
DATABASE_VARIABLE = "GRANITE_STORAGE_DATABASE"
_TABLE = "[tool.granite-storage]"


class Application:
    """The manager, and the engines that were chosen for this call (None: those that it was attached with)."""

    def __init__(self, manager: StorageManager, engine: Any) -> None:
        self.manager = manager
        self._engine = engine

    @property
    def engine(self) -> Engine | Sequence[Engine] | None:
        """What the functions that ask databases take.

        :raises click.ClickException: if nobody says where the rows are.
        """
        if self._engine is None and not self.manager.attached:
            raise click.ClickException(
                "the manager serves no models: the module of --app must also import them and call manager.attach(Base)"
            )
        if self._engine is None and None in self.manager.attached.values():
            raise click.ClickException(
                "no database: give --database URL or --engine MODULE:ENGINE, or call "
                "manager.attach(Base, engine=engine)"
            )
        return self._engine  # type: ignore[no-any-return]

    @property
    def one_engine(self) -> Engine:
        """The engine of the one database that a command works in.

        :raises click.ClickException: if there are several, or nobody says where the rows are.
        """
        given: Any = self.engine or [*self.manager.attached.values()]
        several = {id(one): one for one in (given if isinstance(given, (list, tuple)) else [given])}
        if len(several) != 1:
            raise click.ClickException(
                "this is done in one database at a time: give its --database URL or --engine MODULE:ENGINE"
            )
        (engine,) = several.values()
        return getattr(engine, "sync_engine", engine)  # type: ignore[no-any-return]

    @property
    def asynchronous(self) -> list[Any]:
        """The asynchronous ones among the engines that are asked."""
        engines = self._engine if isinstance(self._engine, (list, tuple)) else [self._engine]
        asked = {id(one): one for one in (*engines, *self.manager.attached.values()) if one is not None}
        return [one for one in asked.values() if one.dialect.is_async]

    def on_database(self, work: Callable[[], _T], awaited: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Call ``work``; or run the coroutine of ``awaited``, where a driver is asynchronous."""
        asynchronous = self.asynchronous
        return asyncio.run(_run(awaited, asynchronous)) if asynchronous else work()


async def _run(awaited: Callable[[], Coroutine[Any, Any, _T]], engines: Iterable[Any]) -> _T:
    from sqlalchemy.ext.asyncio import AsyncEngine

    try:
        return await awaited()
    finally:
        for engine in engines:  # their connections are this event loop's, which ends now
            await AsyncEngine(getattr(engine, "sync_engine", engine)).dispose()


def load_application(app: str | None, database: str | None, engine: str | None) -> Application:
    """Import the manager, and make or import the engine.

    :param app: ``package.module:manager``; by default what the environment or pyproject.toml says.
    :param database: a URL of SQLAlchemy's.
    :param engine: ``package.module:engine``.
    :raises click.ClickException: in one line, naming what is wrong and the remedy.
    """
    settings, folder = _settings()
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if folder is not None and folder not in sys.path:
        sys.path.insert(0, folder)
    app = app or os.environ.get(APP_VARIABLE) or settings.get("app")
    if not app:
        raise click.ClickException(
            f"no application: give --app package.module:manager, set {APP_VARIABLE}, or write app = "
            f'"package.module:manager" into {_TABLE} of pyproject.toml'
        )
    # whatever the application prints, or logs there: standard output is the command's
    with redirect_stdout(sys.stderr):
        manager = _imported(app, "--app")
        if callable(manager) and not isinstance(manager, StorageManager):
            manager = _called(manager, app, "--app")
        if not isinstance(manager, StorageManager):
            raise click.ClickException(f"--app {app}: a StorageManager is needed, not {type(manager).__name__}")
        return Application(manager, _engine(database, engine, settings))


def _engine(database: str | None, engine: str | None, settings: dict[str, str]) -> Any:
    if database and engine:
        raise click.ClickException("give either --database or --engine")
    if not database:
        engine = engine or (None if os.environ.get(DATABASE_VARIABLE) else settings.get("engine"))
    if engine:
        found = _imported(engine, "--engine")
        if callable(found) and not hasattr(found, "dialect"):
            found = _called(found, engine, "--engine")
        for one in found if isinstance(found, (list, tuple)) else [found]:
            if not hasattr(one, "dialect") or not hasattr(one, "pool"):
                raise click.ClickException(
                    f"--engine {engine}: an engine of SQLAlchemy's is needed, or a list of them, not "
                    f"{type(one).__name__}; a URL is for --database"
                )
        return found
    database = database or os.environ.get(DATABASE_VARIABLE)
    if not database:
        return None
    from sqlalchemy import NullPool, create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        if "@" in (make_url(database).host or ""):
            raise ValueError("its password has an '@'")
        made = create_engine(database, poolclass=NullPool)  # none is left open
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise click.ClickException(f"--database: {_first_line(error)}; write it as SQLAlchemy does") from error
    except (ArgumentError, ValueError, TypeError):  # what they say may be a part of the password
        raise click.ClickException(
            "--database: this is no URL of SQLAlchemy's, such as postgresql+psycopg://user:password@host:5432/name; "
            "special characters in a password are percent-encoded"
        ) from None
    if made.dialect.is_async:
        from sqlalchemy.ext.asyncio import create_async_engine

        asynchronous = create_async_engine(database, poolclass=NullPool)
        _tell_wrong_options(asynchronous.sync_engine)
        return asynchronous
    _tell_wrong_options(made)
    return made


def _tell_wrong_options(engine: Engine) -> None:
    """Have an option that the driver does not take be told in one line, once the engine connects."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        try:
            return dialect.connect(*arguments, **options)
        except (TypeError, ValueError) as error:  # what it says may be a secret
            query = engine.url.query
            odd = any("@" in str(value) for value in query.values())  # the rest of a password
            options_told = f": an option, or the value of one, of {', '.join(query)}" if query and not odd else ""
            raise click.ClickException(
                f"--database: the driver {dialect.driver} does not take what the URL says "
                f"({type(error).__name__}){options_told}"
            ) from None


def _imported(name: str, option: str) -> Any:
    module_name, colon, path = name.partition(":")
    if not colon or not module_name or not path:
        raise click.ClickException(f"{option} {name}: write it as package.module:name")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise click.ClickException(
                f"{option} {name}: there is no module {error.name!r} in {os.getcwd()} or on Python's path"
            ) from error
        raise click.ClickException(f"{option} {name}: importing it failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise click.ClickException(
            f"{option} {name}: importing it failed: {type(error).__name__}: {_first_line(error)}"
        ) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise click.ClickException(f"{option} {name}: {module_name} has no {path!r}") from error
    return found


def _called(make: Callable[[], Any], name: str, option: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as error:
        raise click.ClickException(
            f"{option} {name}: it failed: {type(error).__name__}: {_first_line(error)}"
        ) from error


def _settings() -> tuple[dict[str, str], str | None]:
    """``[tool.granite-storage]`` of the pyproject.toml here or in the nearest folder above, and that folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            tools = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
        except (ValueError, OSError) as error:
            raise click.ClickException(f"{file} cannot be read: {_first_line(error)}") from error
        table = tools.get("granite-storage", {}) if isinstance(tools, dict) else None
        if not isinstance(table, dict):
            raise click.ClickException(f"{file}: {'tool' if table is None else 'tool.granite-storage'} is no table")
        unknown = set(table) - {"app", "engine"}
        if unknown or not all(isinstance(value, str) for value in table.values()):
            raise click.ClickException(
                f"{_TABLE} of {file} takes app and engine, both 'package.module:name'; "
                f"it has {', '.join(sorted(unknown)) or table}"
            )
        return table, str(folder) if table else None
    return {}, None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
