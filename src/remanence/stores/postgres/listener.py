"""One connection on which a process hears what others NOTIFY, whatever the channel.

It is made when somebody first asks for it, and made again when somebody asks and it is gone. Until then nobody is told
anything, which nobody relies on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from remanence.errors import RemanenceError
from remanence.stores.postgres.connect import Connection, connect, hang_up
from remanence.stores.postgres.errors import DRIVER_ERRORS

__all__ = ["Listener"]


class Listener:
    """Channels, and who hears what comes on them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._channels: dict[str, tuple[Callable[[str], None], Callable[[], None]]] = {}
        self._heard: set[str] = set()
        self._connection: Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    def hear(self, channel: str, told: Callable[[str], None], changed: Callable[[], None]) -> None:
        """Call `told` with each payload on a channel, once `open` was called; `changed` when it begins to be heard, and
        when it is heard no more. Channels begin to be heard in the order in which they were asked for."""
        self._channels[channel] = told, changed

    def open(self) -> None:
        """Listen to every channel, unless that is so or under way."""
        done = self._connection is not None and self._heard >= self._channels.keys()
        if not done and self._opening is None and not self._closed:
            self._opening = asyncio.create_task(self._open())

    async def close(self) -> None:
        """Hang up. May be called twice."""
        self._closed = True
        if self._opening is not None:
            await self._opening
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)

    async def _open(self) -> None:
        try:
            connection = self._connection
            if connection is None:
                connection = await connect(self._url, at_work=True)
                self._heard.clear()
                connection.add_termination_listener(self._gone)
                self._connection = connection
            while missing := [channel for channel in self._channels if channel not in self._heard]:
                channel = missing[0]
                await connection.add_listener(channel, self._told)
                self._heard.add(channel)
                self._channels[channel][1]()
        except (RemanenceError, *DRIVER_ERRORS):
            return  # whoever asks next tries again; a statement meets the server's trouble and says so
        finally:
            self._opening = None

    def _gone(self, _connection: object) -> None:
        self._connection = None
        for _, changed in self._channels.values():
            changed()

    def _told(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        if channel in self._channels:
            self._channels[channel][0](str(payload))
