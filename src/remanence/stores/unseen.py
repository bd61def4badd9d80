"""Sessions with an input that no worker has looked at: what their rows say, and what is true.

A message costs one commit that touches one row, so it leaves the session's summary as it was: at rest. It makes the
session due, though, and that tells it apart: nothing but a person makes a session at rest due at once. What a worker
itself left to do has a date after its last write, or the status of a turn. Whoever shows sessions, filters or counts
them asks here, and shows such a session as queued.

A claim moves the wake-up to the end of the lease, and its holder may die before it writes. So the claim of such a
session moves it to a microsecond before that (`MARK_US`), and a renewal keeps the distance: like every wake-up under a
lease it says that somebody spoke, and goes with the first write that has seen everything, or with the lease.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from remanence.ports import Summary

__all__ = ["AT_REST", "MARK_US", "as_shown", "is_unseen", "spoken_to", "unseen", "with_unseen"]

Counts = dict[tuple[str, str], int]

MARK_US = 1
AT_REST: tuple[str, ...] = ("idle", "failed")
"""Statuses of a session in which nothing is left to do."""


def unseen(head: str, summary: str) -> str:
    """The condition as SQL, over the aliases of a session's head and of its summary; it is never null."""
    return f"({summary}.status IN {AT_REST!r} AND {spoken_to(head)}) IS TRUE"


def spoken_to(head: str) -> str:
    """The same whatever the status; it may be null."""
    return (
        f"({head}.wake_at <= {head}.updated_at AND ({head}.lease_until IS NULL OR {head}.wake_at < {head}.lease_until) "
        f"OR {head}.wake_at = {head}.lease_until - {MARK_US})"
    )


def is_unseen(wake_at: int | None, updated_at: int, lease_until: int | None) -> bool:
    """The same as a value."""
    if wake_at is None or lease_until is None:
        return wake_at is not None and wake_at <= updated_at
    return wake_at == lease_until - MARK_US or (wake_at <= updated_at and wake_at < lease_until)


def as_shown(summary: Summary, *, wake_at: int | None, updated_at: int, lease_until: int | None) -> Summary:
    """What a list shows of a row."""
    if summary.status not in AT_REST or not is_unseen(wake_at, updated_at, lease_until):
        return summary
    return replace(summary, status="queued")


def with_unseen(counts: Iterable[tuple[str, str, int]], due: Iterable[tuple[str, str, int]]) -> Counts:
    """Counts of rows by (status, what they wait for), when those of `due` among them wait for a worker."""
    more: Counter[tuple[str, str]] = Counter({(status, waits): many for status, waits, many in counts})
    for status, waits, many in due:
        more[status, waits] -= many
        more["queued", waits] += many
    return {where: many for where, many in more.items() if many > 0}
