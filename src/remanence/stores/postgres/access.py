"""How everything but the appends reaches PostgreSQL: one pool, with the driver's errors said in our words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from remanence.stores.postgres.connect import Connection, Pool
from remanence.stores.postgres.errors import DRIVER_ERRORS, explain

__all__ = ["Access"]

ACQUIRE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0


class Access:
    """Lends connections of the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self, doing: str) -> AsyncGenerator[Connection]:
        """A connection outside any transaction. `doing` is a short phrase for the message of an error."""
        try:
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                yield connection
        except DRIVER_ERRORS as error:
            raise explain(error, doing, at_work=True) from error

    @asynccontextmanager
    async def transaction(self, doing: str, *, isolation: str | None = None) -> AsyncGenerator[Connection]:
        """A connection inside a transaction that commits at the end of the block, durably."""
        async with self.connection(doing) as connection, connection.transaction(isolation=isolation):
            yield connection

    async def close(self) -> None:
        """Wait for what is under way, but not for ever, and hang up."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._pool.close()
        except DRIVER_ERRORS:
            self._pool.terminate()
