"""Messages among the processes over one PostgreSQL database: NOTIFY, on a channel for all and one for each process.

A transaction that notifies takes a lock on the whole server until it is committed. So what is to be sent leaves in a
transaction of its own that waits for no disk, all of it in one, and the next one `NOTIFY_EVERY_S` later at the
earliest. Whatever does not leave, because the server is away or too much waits, is lost, which is all that is promised
of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial

from remanence.errors import StoreError
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.listener import Listener

__all__ = ["NotifyBus"]

CHANNEL = "remanence_live"
NOTIFY_EVERY_S = 0.005
NAME_BYTES = 8
MESSAGE_BYTES_MAX = 7_900
"""The server takes less than 8,000; what is for all has the name of its sender before it, who hears it too."""
WAITING_MAX = 2_000

_NOTIFY = """
SELECT set_config('synchronous_commit', 'off', true), count(pg_notify(told.channel, told.payload)::text)
FROM unnest($1::text[], $2::text[]) AS told(channel, payload)
"""


class NotifyBus:
    """`ports.Bus` over LISTEN and NOTIFY."""

    bytes_max = MESSAGE_BYTES_MAX

    def __init__(self, access: Access, listener: Listener) -> None:
        self.name = secrets.token_hex(NAME_BYTES)
        self._access = access
        self._listener = listener
        self._waiting: list[tuple[str, str]] = []
        self._telling: asyncio.Task[None] | None = None
        self._closed = False

    def listen(self, heard: Callable[[bytes], None], ready: Callable[[], None]) -> None:
        """Hear both channels, on the connection of this process for that."""
        self._listener.hear(_channel(), partial(self._told_all, heard), _nothing)
        self._listener.hear(_channel(self.name), partial(_told, heard), ready)
        self._listener.open()

    def send(self, message: bytes, *, to: str = "") -> None:
        """Have it told with what else waits."""
        if self._closed or len(self._waiting) >= WAITING_MAX:
            return
        self._waiting.append((_channel(to), f"{'' if to else self.name}{message.decode()}"))
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    def _told_all(self, heard: Callable[[bytes], None], payload: str) -> None:
        if not payload.startswith(self.name):
            _told(heard, payload[2 * NAME_BYTES :])

    async def close(self) -> None:
        """Tell nothing more. May be called twice."""
        self._closed = True
        if self._telling is not None:
            await self._telling

    async def _tell(self) -> None:
        try:
            while self._waiting and not self._closed:
                told, self._waiting = self._waiting, []
                channels, payloads = zip(*told, strict=True)
                async with self._access.connection("telling other processes") as connection:
                    await connection.fetch(_NOTIFY, list(channels), list(payloads))
                await asyncio.sleep(NOTIFY_EVERY_S)
        except StoreError:
            self._waiting.clear()  # the server is away: it is not the time to say that something streams
        finally:
            self._telling = None


def _channel(name: str = "") -> str:
    return f"{CHANNEL}_{name}" if name else CHANNEL


def _told(heard: Callable[[bytes], None], payload: str) -> None:
    heard(payload.encode())


def _nothing() -> None:
    """The other channel begins to be heard after this one, and tells."""
