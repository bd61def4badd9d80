"""Many people over HTTP at once, while workers are killed and the server is restarted.

The size that is owed, 200 people with 20 turns each, is `python -m remanence.testing.load`.
"""

from __future__ import annotations

from pathlib import Path

from remanence.runtime.clock import SystemClock
from remanence.testing.load.check import KEPT, Figures
from remanence.testing.load.run import Load, run_load

LOAD = Load(sessions=12, turns=4, workers=2, turns_to_kill=8, turns_to_restart=16, seconds_max=240)


async def test_nothing_lost_nothing_twice_no_session_wedged(database: str, tmp_path: Path) -> None:
    figures = await run_load(LOAD, database, tmp_path, clock=SystemClock())
    assert (figures.sessions, figures.turns) == (12, 48)
    assert figures.kills > 0
    assert figures.restarts > 0
    assert figures.failures == 0, figures


def test_what_has_to_be_zero() -> None:
    """A figure is either told or judged; one that is forgotten counts as judged."""
    for name in Figures.__struct_fields__:
        assert bool(Figures(**{name: 1}).failures) == (name not in KEPT)
