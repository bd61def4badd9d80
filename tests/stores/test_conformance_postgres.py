"""PostgreSQL keeps the contract of a store."""

from __future__ import annotations

from functools import partial

import pytest

from remanence.stores.postgres.database import open_postgres
from remanence.testing.conformance import LAWS, Harness, Law, check_random_writes, name_of


@pytest.mark.parametrize("law", LAWS, ids=name_of)
async def test_law(law: Law, postgres_database: str) -> None:
    async with Harness(partial(open_postgres, postgres_database)) as harness:
        await law(harness)


def test_random_writes(postgres_database: str) -> None:
    check_random_writes(partial(open_postgres, postgres_database))
