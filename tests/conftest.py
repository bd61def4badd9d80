"""What every test may ask for: one event loop library, and real databases."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from remanence.testing import postgres

# A slow machine is no counterexample. Under CI, Hypothesis brings its own profile: no deadline, the same examples.
settings.register_profile("remanence", deadline=None, print_blob=True)
settings.register_profile("deep", deadline=None, print_blob=True, max_examples=5_000)  # --hypothesis-profile=deep
if "CI" not in os.environ:
    settings.load_profile("remanence")

# A test run that is told to end (`timeout`, a cancelled job) ends like Ctrl-C: fixtures stop what they started.
signal.signal(signal.SIGTERM, signal.default_int_handler)
# A job in the background begins with Ctrl-C ignored, and would hand that on to the processes that tests press it on.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
