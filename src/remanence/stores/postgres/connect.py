"""Connections to PostgreSQL: how they are made, what they are told, and the only place that sees the driver's types.

Two kinds are used. *Writers* carry the groups of appends: few, long-lived, with plans fixed to index lookups so that a
table that grows a thousandfold after its last ANALYZE does not turn an append into a scan. The *pool* carries the rest.
Every transaction that changes something commits with `synchronous_commit=on` and sees what was committed before each of
its statements, whatever the server's defaults.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from remanence.errors import InvalidConfig, RemanenceError, StoreUnavailable
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain, sqlstate

__all__ = ["SCHEMA", "Connection", "Pool", "Row", "Statement", "connect", "hang_up", "open_pool", "shown"]

_SECRET = re.compile(r"(password=)[^&]*")

SCHEMA = "remanence"
"""The PostgreSQL schema that holds every table, first on the search path of every connection."""

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0

_EVERY = {
    "application_name": "remanence",
    "search_path": f"{SCHEMA}, public",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "timezone": "UTC",
    "jit": "off",
    # A row lock is held for one group; who waits longer waits for a transaction that somebody forgot, or whose client
    # the server has not yet noticed to be gone.
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_WRITER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

_PATIENT = {"lock_timeout": "60s"}

Row = Any
"""A record of the driver: fields by name or position."""


class Statement(Protocol):
    """A prepared statement."""

    async def fetchrow(self, *args: Any) -> Any: ...


class Connection(Protocol):
    """What we use of the driver's connection."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def fetch(self, query: str, *args: Any) -> Sequence[Row]: ...
    async def fetchrow(self, query: str, *args: Any) -> Row | None: ...
    async def fetchval(self, query: str, *args: Any) -> Any: ...
    async def prepare(self, query: str) -> Statement: ...
    async def copy_records_to_table(self, table: str, /, *, records: Sequence[Any], columns: Sequence[str]) -> str: ...
    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...
    def add_termination_listener(self, callback: Callable[..., None]) -> None: ...
    def transaction(self, *, isolation: str | None = None) -> AbstractAsyncContextManager[Any]: ...
    def is_closed(self) -> bool: ...
    def terminate(self) -> None: ...
    async def close(self, *, timeout: float | None = None) -> None: ...


class Pool(Protocol):
    """What we use of the driver's pool. A connection that broke is replaced when the next one is asked for."""

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


async def connect(url: str, *, writer: bool = False, patient: bool = False, at_work: bool = False) -> Connection:
    """One connection; a `patient` one waits long for locks and answers, for work on the schema.

    Raises InvalidConfig for a URL or a login that cannot work, StoreUnavailable otherwise; and for everything once the
    database was open (`at_work`, and every writer): the login did work, then.
    """
    told = {**_EVERY, **(_WRITER if writer else {}), **(_PATIENT if patient else {})}
    try:
        connection = await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType]
            url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=None if patient else COMMAND_TIMEOUT_S,
            server_settings=told,
        )
    except (*DRIVER_ERRORS, ValueError) as error:
        raise _explain_connect(error, url, at_work=at_work or writer) from None
    return cast("Connection", connection)


async def hang_up(connection: Connection) -> None:
    """Close a connection politely; one that does not answer is dropped."""
    try:
        await connection.close(timeout=CLOSE_TIMEOUT_S)
    except DRIVER_ERRORS:
        connection.terminate()


async def open_pool(url: str, *, size: int) -> Pool:
    """A pool that connects when first used and keeps at most `size` connections."""
    pool = asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType]
        url,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings=_EVERY,
        reset=_leave_as_it_is,
    )
    return cast("Pool", await pool)


async def _leave_as_it_is(_connection: object) -> None:
    """Our statements change nothing about the connection, so that the driver's reset is a round trip for nothing."""


def shown(url: str) -> str:
    """The URL without its password, for people to read."""
    try:
        parts = urlsplit(url)
        if parts.password:
            parts = parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}")
    except ValueError:
        return "postgresql://(unreadable)"
    return urlunsplit(parts._replace(query=_SECRET.sub(r"\1***", parts.query)))


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    said = str(error).strip().splitlines()
    return said[0] if said else "the connection broke"


def _explain_connect(error: Exception, url: str, *, at_work: bool) -> RemanenceError:
    where = shown(url)
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return InvalidConfig(
            f"The database URL {where} is not one PostgreSQL's driver understands. Nothing was opened."
        )
    if isinstance(error, OSError | TimeoutError) or sqlstate(error).startswith(("08", "53", "57")):
        return StoreUnavailable(
            f"PostgreSQL at {where} cannot be reached ({_why(error)}). What was acknowledged is kept; "
            "check that the server runs and that the address is right, then try again."
        )
    return explain(error, f"connecting to {where}", at_work=at_work)
