"""A session survives: killed at every point, in process and for real, and haunted by workers that came back late."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from remanence.events import ApprovalGiven, CallJudged, InputReceived, Recorded, ToolResolved, ToolStarted, TurnEnded
from remanence.testing import postgres
from remanence.testing.faults.check import Figures, Pause, check
from remanence.testing.faults.processes import kill_workers, pause_workers
from remanence.testing.faults.scenario import Acknowledged
from remanence.testing.faults.sweep import sweep
from remanence.testing.faults.world import Watch, World

SWEEP_RUNS = 300
KILLS_PER_STORE = 200
LANES = 4
PAUSES = 12


@pytest.mark.timeout(600)
async def test_every_point_of_death_in_one_process() -> None:
    figures = await sweep(SWEEP_RUNS)
    assert figures.failures == 0, figures
    assert figures.kills > SWEEP_RUNS
    assert figures.doubts > 0


async def killed_in_lanes(urls: Sequence[str], folder: Path) -> Figures:
    """Each lane has a database, workers and deaths of its own: mostly it waits for the lease of who died to run out."""
    total = Figures()
    kills = KILLS_PER_STORE // len(urls)
    lanes = [(url, folder / f"lane-{number}", number) for number, url in enumerate(urls)]
    for _, place, _ in lanes:
        place.mkdir(exist_ok=True)
    for figures in await asyncio.gather(*(kill_workers(url, place, kills, seed=seed) for url, place, seed in lanes)):
        assert figures.kills >= kills
        total.add(figures)
    return total


@pytest.mark.timeout(600)
async def test_real_workers_killed_on_sqlite(tmp_path: Path) -> None:
    figures = await killed_in_lanes([f"sqlite:///{tmp_path}/faults-{lane}.db" for lane in range(LANES)], tmp_path)
    assert figures.failures == 0, figures
    assert figures.kills >= KILLS_PER_STORE


@pytest.fixture
def postgres_databases(postgres_url: str) -> Iterator[list[str]]:
    """An empty database for each lane."""
    with ExitStack() as stack:
        yield [stack.enter_context(postgres.postgres_database(postgres_url)) for _ in range(LANES)]


@pytest.mark.timeout(600)
async def test_real_workers_killed_on_postgres(tmp_path: Path, postgres_databases: list[str]) -> None:
    figures = await killed_in_lanes(postgres_databases, tmp_path)
    assert figures.failures == 0, figures
    assert figures.kills >= KILLS_PER_STORE


@pytest.mark.timeout(600)
async def test_a_worker_paused_past_its_lease_changes_nothing(tmp_path: Path) -> None:
    figures = await pause_workers(f"sqlite:///{tmp_path}/faults.db", tmp_path, PAUSES)
    # A pause between the last look at the lease and the landing of the effect cannot be fenced, and is not promised to
    # be (guarantees, "not promised" of the fourth law). Those are told apart one by one, by their moments.
    assert figures.failures == 0, figures
    assert figures.kills >= PAUSES


@pytest.mark.timeout(600)
async def test_a_worker_paused_past_its_lease_changes_nothing_on_postgres(
    tmp_path: Path, postgres_database: str
) -> None:
    figures = await pause_workers(postgres_database, tmp_path, PAUSES)
    assert figures.failures == 0, figures
    assert figures.kills >= PAUSES


def test_the_checker_sees_what_it_should() -> None:
    """The figures are not 0 because nobody looks: each kind of loss shows."""
    world = World()
    world.arrive("courier", "s:1:a", "{}")
    world.arrive("courier", "s:1:a", "{}")
    world.arrive("refund", "s:1:b", '{"n": 1}')
    world.arrive("refund", "s:1:b", '{"n": 2}')
    told = Acknowledged(inputs=["in_1", "in_2"], approvals=["call_x"])
    events = (
        InputReceived("in_1", ()),
        ApprovalGiven("call_y", "approve", "ada", "digest", "policy"),
        CallJudged("call_y", "ask", "digest", "another policy"),
        ApprovalGiven("call_y", "approve", "ada", "digest", "another policy"),
        CallJudged("call_y", "ask", "digest", "another policy"),
        TurnEnded(1, "completed", happened=("s:1:never-seen",)),
    )
    records = [Recorded("s", n, 0, 1, "w", event) for n, event in enumerate(events, start=1)]
    figures = check(records, world, told, (), settled=False)
    world.close()
    assert figures.duplicate_effects == 2
    assert "s:1:a (courier, replay never)" in figures.stories[0]
    assert figures.lost_effects == 1
    assert figures.lost_inputs == 2
    assert figures.lost_approvals == 3, "one is not in the journal, one was asked for again, one started nothing"
    assert figures.stuck_sessions == 1


def test_an_effect_that_nobody_could_stop_is_told_apart() -> None:
    """A pause excuses one late landing, and only when nobody looked at the lease after it."""
    clock = Watch()
    world = World(looked=lambda: clock.looked_at)
    clock.now()
    world.arrive("courier", "s:1:a", "{}")
    world.arrive("courier", "s:1:a", "{}")
    world.arrive("courier", "s:1:a", "{}")
    looked_at, landed_at = world.arrivals()[0].looked_at, world.arrivals()[2].landed_at
    records = [Recorded("s", 1, 0, 1, "w", ToolStarted("a", "courier", "s:1:a", "never", 1))]

    def seen(pause: Pause) -> tuple[int, int]:
        figures = check(records, world, Acknowledged(), (), [pause], settled=True)
        return figures.overtaken_effects, figures.duplicate_effects

    me = os.getpid()
    assert seen(Pause(me, looked_at - 9, looked_at)) == (0, 2), "it looked after the pause, and could have known"
    assert seen(Pause(me, landed_at, landed_at + 9)) == (0, 2), "it had landed before the pause"
    assert seen(Pause(me + 1, looked_at - 9, landed_at + 9)) == (0, 2), "it was another worker's pause"
    assert seen(Pause(me, looked_at - 9, landed_at + 9)) == (2, 0)
    world.close()


def test_a_repeat_that_nobody_asked_for_is_seen() -> None:
    started = ToolStarted("a", "courier", "s:1:a", "never", 1)
    asked = ToolResolved("a", "run_again", "ada")
    world = World()
    for events, repeats in (((started, asked, started), 0), ((started, started), 1), ((started, asked), 0)):
        records = [Recorded("s", n, 0, 1, "w", event) for n, event in enumerate(events, start=1)]
        assert check(records, world, Acknowledged(), (), settled=True).silent_repeats == repeats
    world.close()
