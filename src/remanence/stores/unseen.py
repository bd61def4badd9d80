"""Sessions with an input that no worker has looked at: what their rows say, and what is true.

A message costs one commit that touches one row, so it leaves the session's summary as it was: at rest. It makes the
session due, though, and that tells it apart: nothing but a person makes a session at rest due at once. What a worker
itself left to do has a date after its last write, or the status of a turn. Whoever shows sessions, filters or counts
them asks here, and shows such a session as queued.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from remanence.ports import Summary

__all__ = ["AT_REST", "as_shown", "unseen", "with_unseen"]

Counts = dict[tuple[str, str], int]

AT_REST: tuple[str, ...] = ("idle", "failed")
"""Statuses of a session in which nothing is left to do."""


def unseen(head: str, summary: str) -> str:
    """The condition as SQL, over the aliases of a session's head and of its summary; it is never null."""
    return (
        f"({summary}.status IN {AT_REST!r} AND {head}.wake_at <= {head}.updated_at "
        f"AND ({head}.lease_until IS NULL OR {head}.wake_at < {head}.lease_until)) IS TRUE"
    )


def as_shown(summary: Summary, *, wake_at: int | None, updated_at: int, lease_until: int | None) -> Summary:
    """The same as a value: what a list shows of a row."""
    if wake_at is None or wake_at > updated_at or summary.status not in AT_REST:
        return summary
    return summary if lease_until is not None and wake_at >= lease_until else replace(summary, status="queued")


def with_unseen(counts: Iterable[tuple[str, str, int]], due: Iterable[tuple[str, str, int]]) -> Counts:
    """Counts of rows by (status, what they wait for), when those of `due` among them wait for a worker."""
    more: Counter[tuple[str, str]] = Counter({(status, waits): many for status, waits, many in counts})
    for status, waits, many in due:
        more[status, waits] -= many
        more["queued", waits] += many
    return {where: many for where, many in more.items() if many > 0}
