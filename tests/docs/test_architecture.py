"""The page about the architecture shows the house as it stands: every room, on the floor that the imports keep."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "src/remanence"
ROW = re.compile(r"^\| *(?P<floor>\d*) *\| (?P<rooms>`.*?`) \|", re.MULTILINE)


def floors_of_the_checks() -> list[set[str]]:
    """The rooms of each floor, from the roof to the ground; those that are not built yet left out."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["remanence"])
    return [{room for room in re.findall(r"\w+", layer) if is_built(room)} for layer in layers]


def is_built(room: str) -> bool:
    return (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").exists()


def floors_of_the_page() -> dict[int, set[str]]:
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    floors: dict[int, set[str]] = {}
    floor = 0
    for row in ROW.finditer(page):
        floor = int(row["floor"] or floor)
        floors.setdefault(floor, set()).update(re.findall(r"`(\w+)(?:/|\.py)`", row["rooms"]))
    return floors


def test_the_page_shows_every_room_on_its_floor() -> None:
    from_the_ground = floors_of_the_checks()[::-1]
    assert floors_of_the_page() == dict(enumerate(from_the_ground, start=1))


def test_a_new_room_would_be_missed() -> None:
    rooms = set[str]().union(*floors_of_the_checks())
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} == rooms
