"""A stock Alembic project in a folder, and the migration that it writes for the models."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError


def make_project(folder: Path, url: str) -> Config:
    """What ``alembic init`` makes; the one line that everybody changes is changed."""
    with redirect_stdout(io.StringIO()):
        command.init(Config(str(folder.with_suffix(".ini"))), str(folder))
    env = folder / "env.py"
    stock = env.read_text()
    line = "target_metadata = None"
    if line not in stock:
        raise RuntimeError(f"this Alembic's env.py has no line {line!r}")
    env.write_text(stock.replace(line, "from models import Base\n\ntarget_metadata = Base.metadata"))
    # Alembic before 1.18 warns that it skips indexes on expressions, which are compared after all.
    warnings.filterwarnings("ignore", ".*expression-based index")
    config = Config(stdout=io.StringIO())  # without the .ini file, whose logging would talk over the demo
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def write_migration(config: Config, message: str) -> str:
    """``alembic revision --autogenerate -m message``: the script's text."""
    with redirect_stdout(io.StringIO()):
        script = command.revision(config, message, autogenerate=True)
    return Path(script.path).read_text()  # type: ignore[union-attr]


def apply_migrations(config: Config) -> None:
    """``alembic upgrade head``."""
    command.upgrade(config, "head")


def is_up_to_date(config: Config) -> bool:
    """``alembic check``: whether the database is as the models say."""
    try:
        command.check(config)
    except CommandError:
        return False
    return True


def excerpt(script: str, lines: int = 22) -> str:
    """The beginning of ``upgrade()``, and the imports above it."""
    imports = [line for line in script.splitlines() if line.startswith(("import ", "from ")) and "typing" not in line]
    body = script.partition("def upgrade()")[2].partition("def downgrade()")[0].rstrip().splitlines()
    shown = [f"def upgrade(){body[0]}", *(line for line in body[1:] if '"""' not in line)]
    return "\n".join([*imports, "", *shown[:lines], *(["    ..."] if len(shown) > lines else [])])
