"""The outside world of the demo: a payment provider, a mail server and a courier company, in a SQLite file apart.

They know nothing of Remanence. Each behaves as such services do, and each in another way:

* **payments** has no idempotency keys: every call that arrives moves money again (as long as the charge allows it).
  What it does have is a search by reference, so that a caller who lost the answer can look;
* **mail** takes an idempotency key: the same key is answered with the first result and sends nothing more;
* **courier** has neither: every call is a booking, and there is no way to ask.

Every call that arrives is a row of `arrivals`, also those that changed nothing: that is how duplicates are counted.

A **gate** makes one endpoint slow: a call that reaches an armed gate writes a row of `in_flight` and waits, for at most
`HELD_S_MAX`. So somebody outside can see, from another process, that a call is in the air, and pull the plug then:
`before` it has arrived, or `after` it took effect and before the caller heard of it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec

__all__ = ["Arrival", "Booking", "Endpoint", "Held", "Point", "Refund", "Refused", "Sent", "World", "wall_clock"]

Endpoint = Literal["payments", "mail", "courier"]
Point = Literal["before", "after"]
Row = TypeVar("Row")

HELD_S_MAX = 30.0
POLL_S = 0.02

SCHEMA = """
CREATE TABLE IF NOT EXISTS charges  ("order" TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS arrivals (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, endpoint TEXT NOT NULL,
                                     effect_key TEXT NOT NULL, body TEXT NOT NULL, answer TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS refunds  (id INTEGER PRIMARY KEY, effect_key TEXT NOT NULL, "order" TEXT NOT NULL,
                                     cents INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outbox   (id INTEGER PRIMARY KEY, effect_key TEXT NOT NULL UNIQUE, recipient TEXT NOT NULL,
                                     subject TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS bookings (id INTEGER PRIMARY KEY, effect_key TEXT NOT NULL, "order" TEXT NOT NULL,
                                     at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS gates    (endpoint TEXT NOT NULL, point TEXT NOT NULL, PRIMARY KEY (endpoint, point)) STRICT;
CREATE TABLE IF NOT EXISTS in_flight(id INTEGER PRIMARY KEY, endpoint TEXT NOT NULL, point TEXT NOT NULL,
                                     effect_key TEXT NOT NULL, pid INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;
"""


class Refused(Exception):
    """The service said no; nothing changed outside."""


class Arrival(msgspec.Struct, frozen=True):
    """One call that reached a service, whatever came of it."""

    id: int
    at: int
    endpoint: str
    effect_key: str
    body: str
    answer: str


class Refund(msgspec.Struct, frozen=True):
    """Money that moved."""

    id: int
    effect_key: str
    order: str
    cents: int
    at: int


class Sent(msgspec.Struct, frozen=True):
    """A mail that left."""

    id: int
    effect_key: str
    recipient: str
    subject: str
    body: str
    at: int


class Booking(msgspec.Struct, frozen=True):
    """A courier who will come."""

    id: int
    effect_key: str
    order: str
    at: int


class Held(msgspec.Struct, frozen=True):
    """A call that waits at a gate, and the process it came from."""

    id: int
    endpoint: str
    point: str
    effect_key: str
    pid: int
    at: int


def wall_clock() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


class World:
    """One ledger file, opened. Any number of processes may have it open at the same time."""

    def __init__(self, path: Path, now: Callable[[], int] = wall_clock) -> None:
        self.path = path
        self._now = now
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # --- what the services do -----------------------------------------------------------------------------------------

    async def refund(self, *, order: str, cents: int, reference: str) -> str:
        """Move money back. Every call that arrives does it again; raises `Refused` beyond what was charged."""

        def arrive() -> str:
            with self._arrival("payments", reference, {"order": order, "cents": cents}) as done:
                return done(self._move_money(order, cents, reference))

        return await self._serve("payments", reference, arrive)

    async def find_refund(self, *, reference: str) -> str | None:
        """What became of the refund with this reference; None when payments never heard of it."""
        for refund in await asyncio.to_thread(self.refunds, reference):
            if refund.effect_key == reference:
                return _refund_receipt(refund.id, refund.order, refund.cents)
        return None

    async def send_mail(self, *, recipient: str, subject: str, body: str, idempotency_key: str) -> str:
        """Send a mail, once per key. Raises `Refused` when a key comes back with another mail."""

        def arrive() -> str:
            content = {"recipient": recipient, "subject": subject, "body": body}
            with self._arrival("mail", idempotency_key, content) as done:
                return done(self._post(recipient, subject, body, idempotency_key))

        return await self._serve("mail", idempotency_key, arrive)

    async def book_courier(self, *, order: str, note: str) -> str:
        """Have a parcel fetched. Every call that arrives is a booking; `note` is printed on the label."""

        def arrive() -> str:
            with self._arrival("courier", note, {"order": order}) as done:
                cursor = self._connection.execute(
                    'INSERT INTO bookings (effect_key, "order", at) VALUES (?, ?, ?)', (note, order, self._now())
                )
                return done(f"booking C-{cursor.lastrowid:04d}: the parcel of {order} is fetched tomorrow")

        return await self._serve("courier", note, arrive)

    def _move_money(self, order: str, cents: int, reference: str) -> str:
        charge = self._one('SELECT cents FROM charges WHERE "order" = ?', order)
        if charge is None:
            raise Refused(f"payments knows no charge for {order}; nothing was refunded")
        left = charge - (self._one('SELECT sum(cents) FROM refunds WHERE "order" = ?', order) or 0)
        if not 0 < cents <= left:
            raise Refused(f"{cents} cents were asked for, {left} of {charge} are left on {order}; nothing was refunded")
        cursor = self._connection.execute(
            'INSERT INTO refunds (effect_key, "order", cents, at) VALUES (?, ?, ?, ?)',
            (reference, order, cents, self._now()),
        )
        return _refund_receipt(cursor.lastrowid or 0, order, cents)

    def _post(self, recipient: str, subject: str, body: str, key: str) -> str:
        earlier = [sent for sent in self._sent(key) if sent.effect_key == key]
        if earlier and (earlier[0].recipient, earlier[0].subject, earlier[0].body) != (recipient, subject, body):
            raise Refused(f"the key {key} was used for another mail; nothing was sent")
        if earlier:
            return f"mail S-{earlier[0].id:04d} to {recipient} was sent before"
        cursor = self._connection.execute(
            "INSERT INTO outbox (effect_key, recipient, subject, body, at) VALUES (?, ?, ?, ?, ?)",
            (key, recipient, subject, body, self._now()),
        )
        return f"mail S-{cursor.lastrowid:04d} to {recipient} was sent"

    async def _serve(self, endpoint: Endpoint, key: str, arrive: Callable[[], str]) -> str:
        await self._pass_gate(endpoint, "before", key)
        answer = await asyncio.to_thread(arrive)
        await self._pass_gate(endpoint, "after", key)
        return answer

    @contextmanager
    def _arrival(
        self, endpoint: Endpoint, key: str, body: Mapping[str, Any]
    ) -> Generator[Callable[[str], str], None, None]:
        """One transaction: the effect and the row that says it arrived. A refusal is a row too."""
        answers: list[str] = []

        def done(answer: str) -> str:
            answers.append(answer)
            return answer

        refusal: Refused | None = None
        with self._transaction():
            try:
                yield done
            except Refused as error:
                refusal = error
                answers.append(f"refused: {error}")
            self._connection.execute(
                "INSERT INTO arrivals (at, endpoint, effect_key, body, answer) VALUES (?, ?, ?, ?, ?)",
                (self._now(), endpoint, key, msgspec.json.encode(body).decode(), "".join(answers)),
            )
        if refusal is not None:
            raise refusal

    # --- gates --------------------------------------------------------------------------------------------------------

    def arm(self, endpoint: Endpoint, point: Point) -> None:
        """From now on calls of this endpoint wait at this point, and say that they are in flight."""
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO gates VALUES (?, ?)", (endpoint, point))

    def disarm(self) -> None:
        """Open every gate: what waits goes on."""
        with self._transaction():
            self._connection.execute("DELETE FROM gates")

    def held(self) -> list[Held]:
        """Every call that ever waited at a gate, oldest first."""
        return self._rows(Held, "SELECT id, endpoint, point, effect_key, pid, at FROM in_flight ORDER BY id", ())

    async def caught(self, *, after: int = 0, timeout_s: float = HELD_S_MAX) -> Held:
        """The first call that waits at a gate, past number `after`. Raises `TimeoutError` when none comes."""
        for _ in range(int(timeout_s / POLL_S)):
            if found := [held for held in await asyncio.to_thread(self.held) if held.id > after]:
                return found[0]
            await asyncio.sleep(POLL_S)
        raise TimeoutError(f"no call reached a gate within {timeout_s:.0f} s")

    async def _pass_gate(self, endpoint: Endpoint, point: Point, key: str) -> None:
        if not await asyncio.to_thread(self._reach_gate, endpoint, point, key):
            return
        for _ in range(int(HELD_S_MAX / POLL_S)):
            await asyncio.sleep(POLL_S)
            if not await asyncio.to_thread(self._is_armed, endpoint, point):
                return

    def _reach_gate(self, endpoint: Endpoint, point: Point, key: str) -> bool:
        if not self._is_armed(endpoint, point):
            return False
        with self._transaction():
            self._connection.execute(
                "INSERT INTO in_flight (endpoint, point, effect_key, pid, at) VALUES (?, ?, ?, ?, ?)",
                (endpoint, point, key, os.getpid(), self._now()),
            )
        return True

    def _is_armed(self, endpoint: Endpoint, point: Point) -> bool:
        with self._lock:
            return self._one("SELECT count(*) FROM gates WHERE endpoint = ? AND point = ?", endpoint, point) != 0

    # --- what the books say -------------------------------------------------------------------------------------------

    def charge(self, amounts: Mapping[str, int]) -> None:
        """Tell payments what was paid for which order, in cents."""
        with self._transaction():
            self._connection.executemany("INSERT OR IGNORE INTO charges VALUES (?, ?)", list(amounts.items()))

    def arrivals(self, key: str = "", endpoint: Endpoint | None = None) -> list[Arrival]:
        """Every call that arrived, oldest first, whose effect key begins with `key`."""
        query = "SELECT id, at, endpoint, effect_key, body, answer FROM arrivals WHERE substr(effect_key, 1, ?) = ?"
        found = self._rows(Arrival, f"{query} ORDER BY id", (len(key), key))
        return [arrival for arrival in found if endpoint in (None, arrival.endpoint)]

    def refunds(self, key: str = "") -> list[Refund]:
        """Money that moved, oldest first, under effect keys that begin with `key`."""
        query = 'SELECT id, effect_key, "order", cents, at FROM refunds WHERE substr(effect_key, 1, ?) = ? ORDER BY id'
        return self._rows(Refund, query, (len(key), key))

    def refunded_cents(self, order: str) -> int:
        """How much of an order was paid back."""
        with self._lock:
            return self._one('SELECT sum(cents) FROM refunds WHERE "order" = ?', order) or 0

    def outbox(self, key: str = "") -> list[Sent]:
        """Mails that left, oldest first, under effect keys that begin with `key`."""
        with self._lock:
            return self._sent(key)

    def bookings(self, key: str = "") -> list[Booking]:
        """Couriers booked, oldest first, under effect keys that begin with `key`."""
        query = 'SELECT id, effect_key, "order", at FROM bookings WHERE substr(effect_key, 1, ?) = ? ORDER BY id'
        return self._rows(Booking, query, (len(key), key))

    def _sent(self, key: str) -> list[Sent]:
        query = "SELECT id, effect_key, recipient, subject, body, at FROM outbox WHERE substr(effect_key, 1, ?) = ?"
        return [Sent(*row) for row in self._connection.execute(f"{query} ORDER BY id", (len(key), key))]

    def _rows(self, kind: type[Row], query: str, values: tuple[Any, ...]) -> list[Row]:
        with self._lock:
            return [kind(*row) for row in self._connection.execute(query, values)]

    def _one(self, query: str, *values: Any) -> int | None:
        row = self._connection.execute(query, values).fetchone()
        return row[0] if row else None

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def _refund_receipt(number: int, order: str, cents: int) -> str:
    return f"refund R-{number:04d}: {cents} cents back to the buyer of {order}"
