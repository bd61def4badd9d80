"""What every test may ask for: one event loop library, and real databases.

With several workers (`pytest -n 2`, as `make test` runs it) they share one PostgreSQL. The process that directs them
starts and stops it: it outlives every worker, also one that is killed.

The files of tests lie in memory where there is room, as a disk takes its time for each durable write. What tests kill
is processes, never the machine, and those lose nothing that the system has taken.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

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

# The store's laws explain themselves when one fails: their asserts are rewritten like those of tests.
pytest.register_assert_rewrite("remanence.testing.conformance")

SHARED = pytest.StashKey[str]()
MEMORY = "/dev/shm"
ROOM_BYTES = 3_000_000_000


def has_room(folder: str) -> bool:
    """Whether tests may keep their files there, and run some of them."""
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(folder)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= ROOM_BYTES


if has_room(MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)
FILES = os.environ.get("PYTEST_DEBUG_TEMPROOT")

# Every HTTP client that is made reads the certificates of all authorities of the system, which takes 20 ms, and tests
# make some thousand. They speak to this machine, in clear: a folder without certificates does for them.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull


def pytest_configure(config: pytest.Config) -> None:
    """Start the PostgreSQL that workers share, in the process that directs them."""
    if not config.getoption("numprocesses", None) or config.getoption("collectonly"):
        return  # no workers; or this is one
    running = ExitStack()
    config.add_cleanup(running.close)
    config.stash[SHARED] = running.enter_context(postgres.postgres_server(under=FILES))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the shared PostgreSQL is."""
    node.workerinput["postgres_url"] = node.config.stash.get(SHARED, None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """One server for the whole run: that of `REMANENCE_TEST_POSTGRES`, the one that workers share, or our own."""
    shared: str | None = getattr(request.config, "workerinput", {}).get("postgres_url")
    if shared is not None:
        yield shared
        return
    with postgres.postgres_server(under=FILES) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a database that has the schema and nothing else: made once by the migrations, then copied."""
    with postgres.postgres_database(postgres_url) as url:
        asyncio.run(with_schema(url))
        yield urlsplit(url).path.removeprefix("/")


async def with_schema(url: str) -> None:
    """Give an empty database the schema."""
    from remanence.app import open_database

    await (await open_database(url)).close()


@pytest.fixture
def postgres_database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """The URL of a database that belongs to one test: it has the schema, and nothing in it."""
    with postgres.postgres_database(postgres_url, like=postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of a database that belongs to one test, without a schema."""
    with postgres.postgres_database(postgres_url) as url:
        yield url
