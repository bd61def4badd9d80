"""What is remembered survives `SIGKILL`: notes, corrections, consolidation, erasure, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence.testing.faults.memory_runs import kill_rememberers

KILLS = 20


@pytest.mark.timeout(300)
async def test_workers_killed_over_memories_on_sqlite(tmp_path: Path) -> None:
    figures = await kill_rememberers(f"sqlite:///{tmp_path}/m.db", tmp_path, KILLS)
    assert figures.failures == 0, figures
    assert figures.kills >= KILLS
    assert figures.notes == 6 * figures.runs


@pytest.mark.timeout(300)
async def test_workers_killed_over_memories_on_postgres(tmp_path: Path, postgres_database: str) -> None:
    figures = await kill_rememberers(postgres_database, tmp_path, KILLS)
    assert figures.failures == 0, figures
    assert figures.kills >= KILLS
    assert figures.notes == 6 * figures.runs
