"""What pyproject.toml promises to work with is what CI's oldest pair installs."""

from __future__ import annotations

import re
import tomllib

from tests.databases import ROOT

RUNTIME = ("alembic", "asyncio", "cli", "direct")


def test_every_floor_of_a_runtime_dependency_is_pinned_for_the_oldest_pair():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    promised = [*project["dependencies"], *(line for name in RUNTIME for line in extras[name])]
    floors = dict(_split(">=", line) for line in promised)
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = dict(_split("==", line) for line in lines if line and not line.startswith("#"))
    assert {name: pins.get(name) for name in floors} == floors


def test_every_dependency_has_a_floor():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert [line for line in lines if ">=" not in line and not line.startswith("granite-storage[")] == []


def _split(sign: str, requirement: str) -> tuple[str, str]:
    name, version = requirement.partition(",")[0].split(sign)
    return re.sub(r"\[.*\]", "", name), version
