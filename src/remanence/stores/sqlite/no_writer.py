"""What stands in the place of the writer of a SQLite file that can only be read."""

from __future__ import annotations

import asyncio
from typing import Any

from remanence.stores.sqlite.connect import Location
from remanence.stores.sqlite.read_only import refused
from remanence.stores.sqlite.writer import Writer

__all__ = ["NoWriter"]


class NoWriter(Writer):
    """It refuses every write, and sees nothing coming."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._loop = asyncio.get_running_loop()
        self.durability = f"read only: {location.read_only}"

    def _put(self, work: Any) -> asyncio.Future[Any]:
        if work is not None:
            raise refused(self._location.path, self._location.read_only)
        seen = self._loop.create_future()
        seen.set_result(None)
        return seen

    async def close(self) -> None:
        """There is nothing to finish."""
