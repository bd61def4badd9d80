"""SQLite keeps every law of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence.stores.sqlite.database import open_sqlite
from remanence.testing.conformance import LAWS, Harness, Law, check_random_writes, name_of


@pytest.mark.parametrize("law", LAWS, ids=name_of)
async def test_law(law: Law, tmp_path: Path) -> None:
    async with Harness(lambda: open_sqlite(str(tmp_path / "laws.db"))) as harness:
        await law(harness)


def test_random_writes(tmp_path: Path) -> None:
    check_random_writes(lambda: open_sqlite(str(tmp_path / "random.db")))
