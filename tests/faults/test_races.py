"""Three processes race on one database over everything that two may want at once, and are killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence.testing.faults.erasures import ERASURES, erased_while_noted_by_agents
from remanence.testing.faults.over_http import run_over_http
from remanence.testing.faults.races import RACES, run_erasures, run_races

ROUNDS = 8 * len(RACES)
TROUBLE_EVERY = 15


@pytest.mark.timeout(600)
async def test_races_on_sqlite(tmp_path: Path) -> None:
    figures = await run_races(f"sqlite:///{tmp_path}/races.db", tmp_path, ROUNDS, seed=1)
    assert figures.failures == 0, figures.stories
    assert figures.runs == ROUNDS
    assert figures.refusals > len(RACES)


@pytest.mark.timeout(600)
async def test_races_on_postgresql(tmp_path: Path, postgres_database: str) -> None:
    figures = await run_races(postgres_database, tmp_path, ROUNDS, seed=2)
    assert figures.failures == 0, figures.stories
    assert figures.refusals > len(RACES)


@pytest.mark.timeout(600)
async def test_races_of_processes_that_are_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/races.db"
    figures = await run_races(url, tmp_path, ROUNDS, seed=3, trouble_every=TROUBLE_EVERY)
    assert figures.failures == 0, figures.stories
    assert figures.kills > 0


@pytest.mark.timeout(600)
async def test_races_over_what_is_erased(tmp_path: Path) -> None:
    rounds = 6 * len(ERASURES)
    figures = await run_erasures(f"sqlite:///{tmp_path}/races.db", tmp_path, rounds, seed=4)
    assert figures.failures == 0, figures.stories
    assert figures.runs == rounds


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


@pytest.mark.timeout(600)
async def test_a_subject_is_erased_while_agents_note_more_about_it(url: str, tmp_path: Path) -> None:
    figures = await run_races(url, tmp_path, [erased_while_noted_by_agents] * 6, seed=6)
    assert figures.failures == 0, figures.stories


@pytest.mark.timeout(600)
async def test_races_over_what_is_erased_through_two_servers(tmp_path: Path) -> None:
    figures = await run_over_http(f"sqlite:///{tmp_path}/races.db", tmp_path, 12, seed=5)
    assert figures.failures == 0, figures.stories
    assert figures.runs == 12


@pytest.mark.timeout(600)
async def test_races_through_servers_that_are_killed(tmp_path: Path) -> None:
    figures = await run_over_http(f"sqlite:///{tmp_path}/races.db", tmp_path, 6, seed=7, trouble_every=2)
    assert figures.failures == 0, figures.stories
    assert figures.kills + figures.pauses > 0
