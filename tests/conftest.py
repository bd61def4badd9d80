"""What every test may ask for: one event loop library, and real databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from remanence.testing import postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for the whole run: `REMANENCE_TEST_POSTGRES`, or one of our own."""
    with postgres.postgres_server() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database that belongs to one test."""
    with postgres.postgres_database(postgres_url) as url:
        yield url
