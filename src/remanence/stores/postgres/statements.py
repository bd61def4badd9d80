"""The statements of the careful way: whole rows, several at once, from one array per column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remanence.ports import Entry, Summary
from remanence.stores.postgres.known import Known, Pending
from remanence.stores.postgres.rows import effect_position, minute_of

__all__ = [
    "INSERT_BLOBS",
    "INSERT_ENTRIES",
    "INSERT_KEYS",
    "INSERT_SESSIONS",
    "INSERT_SNAPSHOTS",
    "INSERT_USES",
    "REPLACED",
    "UPDATE_SESSIONS",
    "entry_values",
    "session_values",
    "summary_values",
]

_VALUES = (
    ("id", "text"),
    ("head", "bigint"),
    ("digest", "bytea"),
    ("worker", "text"),
    ("lease_until", "bigint"),
    ("wake_at", "bigint"),
    ("updated_at", "bigint"),
    ("updated_minute", "integer"),
    ("frozen", "bigint"),
    ("effect_position", "bigint"),
    ("project", "text"),
    ("agent", "text"),
    ("version", "text"),
    ("user_name", "text"),
    ("status", "text"),
    ("waiting_on", "text"),
    ("title", "text"),
    ("turns", "integer"),
    ("usd_micros", "bigint"),
    ("tokens", "bigint"),
    ("needs", "text"),
)
"""The columns a write sets; for those it leaves alone see `_KEPT`."""
_OPENING = (("opened_at", "bigint"), ("fork_sid", "bigint"), ("fork_position", "bigint"))
_KEPT = {"effect_position"}
"""Columns that stay as they are where a write has nothing to say."""
_FIXED = {"user_name"}
"""Whose a session is does not change, but for `rename_user`: a writer that has not heard of that must not undo it."""


def session_values(pending: Pending, known: Known) -> tuple[Any, ...]:
    """The row of `_VALUES` a write leaves behind."""
    write, head, summary = pending.write, known.head, known.summary
    effect = effect_position(write, pending.rows)
    return (
        head.session,
        head.head,
        head.digest,
        head.worker,
        head.lease_until,
        head.wake_at,
        head.updated_at,
        minute_of(head.updated_at),
        head.frozen,
        effect,
        *summary_values(summary),
    )


def summary_values(summary: Summary) -> tuple[Any, ...]:
    """What a session's row says for lists, in the order of the columns from `project` to `needs`."""
    return (
        summary.project,
        summary.agent,
        summary.version,
        summary.user,
        summary.status,
        summary.waiting_on,
        summary.title,
        summary.turns,
        summary.usd_micros,
        summary.tokens,
        summary.needs,
    )


def entry_values(entry: Entry) -> tuple[str, str, str, int, int, bytes]:
    """The columns of an entry that a write sets."""
    return (entry.kind, entry.project, entry.id, entry.at, entry.updated_at, entry.body)


def _unnest(columns: Sequence[tuple[str, str]]) -> str:
    arrays = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(columns, start=1))
    return f"unnest({arrays}) AS w({', '.join(name for name, _ in columns)})"


def _set(name: str) -> str:
    return f"{name} = coalesce(w.{name}, s.{name})" if name in _KEPT else f"{name} = w.{name}"


UPDATE_SESSIONS = (
    f"UPDATE sessions s SET {', '.join(_set(name) for name, _ in _VALUES[1:] if name not in _FIXED)}, "
    "behind = true, effect_at = CASE WHEN w.effect_position IS NULL THEN s.effect_at ELSE clock_timestamp() END "
    f"FROM {_unnest(_VALUES)} WHERE s.id = w.id"
)
INSERT_SESSIONS = (
    f"INSERT INTO sessions ({', '.join(name for name, _ in (*_VALUES, *_OPENING))}, effect_at) "
    f"SELECT {', '.join(f'w.{name}' for name, _ in (*_VALUES, *_OPENING))}, "
    "CASE WHEN w.effect_position IS NOT NULL THEN clock_timestamp() END "
    f"FROM {_unnest((*_VALUES, *_OPENING))} ON CONFLICT (id) DO NOTHING RETURNING id, sid"
)
INSERT_KEYS = (
    "INSERT INTO idempotency_keys (key, body_digest, sid, first_position, last_position, at) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) "
    "ON CONFLICT (key) DO NOTHING RETURNING key"
)
REPLACED = (
    "ON CONFLICT (kind, id) DO UPDATE SET project = excluded.project, updated_at = excluded.updated_at, "
    "body = excluded.body, revision = r.revision + 1"
)
"""What becomes of an entry that is there: `r` is the registry."""
INSERT_ENTRIES = (
    "INSERT INTO registry AS r (kind, project, id, at, updated_at, body, revision) "
    "SELECT *, 1 FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[]) "
    f"{REPLACED}"
)
INSERT_SNAPSHOTS = (
    "INSERT INTO snapshots (sid, position, state) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])"
)
INSERT_USES = (
    "INSERT INTO blob_uses (sid, position, digest) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) "
    "ON CONFLICT DO NOTHING"
)
INSERT_BLOBS = (
    "INSERT INTO blobs (digest, content) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (digest) DO NOTHING"
)
