"""Who may decide for which session: claims that never wait for each other, renewals, releases, and the wait for work.

A claim looks at the sessions that are due, oldest first, and skips rows that somebody is just writing: they come up
again at once. A session whose lease ends further ahead than any lease can was leased before a clock went back; it is
found by its lease, not by its wake-up, which lies as far ahead. Sessions are looked up by what they need, one step in
the index for each need, so that work for other workers is never in the way.

Other processes hear of due sessions by NOTIFY. A transaction that notifies takes a lock on the whole server until its
commit is on disk, one at a time, which would make every group wait for every other (eight connections that insert a row
and notify commit a sixth as often as eight that only insert). So the notification follows the commit, in a transaction
of its own that waits for no disk, at most one every `NOTIFY_EVERY_S`. Should the process die in between, the others
find the session at their next look, which `wait` bounds by its time-out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress

from remanence.errors import StoreError
from remanence.ports import Lease
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.listener import Listener
from remanence.stores.refusals import fenced, no_session, released_unseen
from remanence.stores.rows import LEASE_FAR_US, TTL_MAX_S
from remanence.stores.unseen import MARK_US, spoken_to

__all__ = ["Leases", "Wakes"]

CHANNEL = "remanence_due"
NOTIFY_EVERY_S = 0.02

# $1 worker, $2 now, $3 lease end, $4 limit, $5 agents or null, $6 the end beyond which a lease cannot be
_MARK = f"CASE WHEN {spoken_to('s')} THEN {MARK_US} ELSE 0 END"
_CLAIM = f"""
WITH RECURSIVE there(need) AS (
    SELECT min(needs) FROM sessions WHERE wake_at IS NOT NULL AND $5::text[] IS NULL
    UNION ALL
    SELECT (SELECT min(s.needs) FROM sessions s WHERE s.wake_at IS NOT NULL AND s.needs > there.need)
    FROM there WHERE there.need IS NOT NULL
), wanted AS (
    SELECT need FROM there WHERE need IS NOT NULL UNION SELECT unnest($5) UNION SELECT '' WHERE $5 IS NOT NULL
), due AS (
    SELECT found.sid, found.wake_at FROM wanted CROSS JOIN LATERAL (
        SELECT s.sid, s.wake_at FROM sessions s
        WHERE s.needs = wanted.need AND s.wake_at <= $2
            AND (s.lease_until IS NULL OR s.lease_until <= $2 OR s.lease_until > $6 OR s.worker = $1)
        ORDER BY s.wake_at LIMIT $4 FOR UPDATE SKIP LOCKED
    ) AS found
), ahead AS (
    SELECT sid, wake_at FROM sessions
    WHERE lease_until > $6 AND ($5::text[] IS NULL OR needs = '' OR needs = ANY ($5))
    ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED
), taken AS (
    SELECT sid, wake_at FROM due UNION SELECT sid, wake_at FROM ahead ORDER BY wake_at LIMIT $4
)
UPDATE sessions s SET
    epoch = s.epoch + CASE WHEN s.worker = $1 AND s.lease_until > $2 AND s.lease_until <= $6 THEN 0 ELSE 1 END,
    worker = $1,
    lease_until = CASE WHEN s.worker = $1 AND s.lease_until <= $6 THEN greatest(s.lease_until, $3) ELSE $3 END,
    wake_at = CASE WHEN s.worker = $1 AND s.lease_until <= $6 THEN greatest(s.lease_until, $3) ELSE $3 END - {_MARK}
FROM taken WHERE s.sid = taken.sid
RETURNING s.id, s.epoch, s.lease_until, taken.wake_at AS woken_at
"""

# A wake-up before the lease's end says that somebody spoke: it stays. One right before it moves with it.
_RENEW = f"""
UPDATE sessions s SET
    lease_until = $4, wake_at = CASE WHEN s.wake_at = s.lease_until - {MARK_US} THEN $4::bigint - {MARK_US}
        WHEN s.wake_at < s.lease_until THEN s.wake_at ELSE $4 END
FROM (
    SELECT s.sid FROM sessions s JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS w(id, epoch, worker)
    ON s.id = w.id AND s.epoch = w.epoch AND s.worker = w.worker ORDER BY s.sid FOR UPDATE OF s
) AS ours
WHERE s.sid = ours.sid
RETURNING s.id
"""

_RELEASE = """
UPDATE sessions SET lease_until = NULL, worker = NULL, wake_at = $5
WHERE id = $1 AND epoch = $2 AND worker = $3 AND head <= $4
"""


class Leases:
    """Claim, renew, release."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def claim(
        self, worker: str, *, now: int, ttl_s: float, limit: int, agents: Sequence[str] | None
    ) -> Sequence[Lease]:
        until = now + int(min(ttl_s, TTL_MAX_S) * 1_000_000)
        wanted = None if agents is None else list(agents)
        async with self._access.connection("claiming sessions") as connection:
            rows = await connection.fetch(_CLAIM, worker, now, until, limit, wanted, now + LEASE_FAR_US)
        rows = sorted(rows, key=lambda row: row["woken_at"])
        return [Lease(row["id"], worker, row["epoch"], row["lease_until"]) for row in rows]

    async def renew(self, leases: Sequence[Lease], *, until: int) -> Sequence[Lease]:
        if not leases:
            return []
        columns = zip(*[(lease.session, lease.epoch, lease.worker) for lease in leases], strict=True)
        async with self._access.connection("renewing leases") as connection:
            ours = {row["id"] for row in await connection.fetch(_RENEW, *columns, until)}
        return [Lease(one.session, one.worker, one.epoch, until) for one in leases if one.session in ours]

    async def release(self, lease: Lease, *, seen: int, wake_at: int | None) -> None:
        async with self._access.connection("releasing a lease") as connection:
            done = await connection.execute(_RELEASE, lease.session, lease.epoch, lease.worker, seen, wake_at)
            if done.endswith(" 1"):
                return
            row = await connection.fetchrow("SELECT head, epoch, worker FROM sessions WHERE id = $1", lease.session)
        if row is None:
            raise no_session(lease.session)
        if row["epoch"] != lease.epoch or row["worker"] != lease.worker:
            raise fenced(lease, row["epoch"], row["worker"])
        raise released_unseen(lease.session, seen, row["head"])


class Wakes:
    """Tells this process and the others that something is due, and waits for being told."""

    def __init__(self, access: Access, listener: Listener) -> None:
        self._access = access
        self._name = secrets.token_hex(8)
        self._due = asyncio.Event()
        # What becomes due before anybody listens here is told to nobody.
        listener.hear(CHANNEL, self._told, self._due.set)
        self._listener = listener
        self._telling: asyncio.Task[None] | None = None
        self._untold = False
        self._closed = False

    def due(self) -> None:
        """Something became due: wake who waits here, and tell the other processes soon."""
        self._due.set()
        self._untold = True
        if self._telling is None and not self._closed:
            self._telling = asyncio.create_task(self._tell())

    def looking(self) -> None:
        """Whoever claims now will see everything that became due so far; until then, all who wait are woken."""
        self._due.clear()

    async def wait(self, *, timeout_s: float) -> None:
        """Return when something may have become due since the last claim, or at the time-out."""
        if not self._closed:
            self._listener.open()  # without it `wait` is a poll
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._due.wait()

    async def close(self) -> None:
        self._closed = True
        self._due.set()
        if self._telling is not None:
            await self._telling

    async def _tell(self) -> None:
        try:
            while self._untold and not self._closed:
                self._untold = False
                async with self._access.connection("telling other workers") as connection:
                    await connection.execute(
                        f"BEGIN; SET LOCAL synchronous_commit TO off; NOTIFY {CHANNEL}, '{self._name}'; COMMIT"
                    )
                await asyncio.sleep(NOTIFY_EVERY_S)
        except StoreError:
            # The others look by themselves before long; there is nobody to report this to.
            self._untold = False
        finally:
            self._telling = None

    def _told(self, name: str) -> None:
        if name != self._name:
            self._due.set()
