"""Budgets, freezes, agent versions and blobs: the small tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Literal

import msgspec

from remanence.core.freezes import covered
from remanence.ports import Budget, Entry, Hold, Version
from remanence.spec import AgentSpec, spec_digest
from remanence.stores.postgres.access import Access
from remanence.stores.postgres.budgets import BUDGET, SET_BUDGET
from remanence.stores.postgres.careful import FREEZE_GATE
from remanence.stores.postgres.connect import Row as Fields
from remanence.stores.postgres.registry import lay_mark
from remanence.stores.postgres.rows import can_name
from remanence.stores.refusals import bad_scope, blob_damaged, no_blob, no_budget, no_hold, no_version
from remanence.stores.rows import RESTED, spec_in

__all__ = ["PostgresBlobs", "PostgresControls", "PostgresSpecs"]

_RAISE = (
    "UPDATE budgets SET ceiling = greatest(ceiling + $3, $4), at = $5 WHERE scope = $1 AND unit = $2 "
    f"RETURNING {BUDGET}"
)
_HOLD = "scope, at, held_by, reason, effect_session, effect_position"
_UNDER = "($1::text IS NULL OR s.project = $1) AND ($2::text IS NULL OR s.agent = $2)"
"""Sessions `s` of the project `$1` and the agent `$2`; null is any."""


class PostgresControls:
    """Budgets and freezes. `on_due` is called when a thaw made sessions due."""

    def __init__(self, access: Access, on_due: Callable[[], None]) -> None:
        self._access = access
        self._on_due = on_due

    async def set_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        limit: int,
        *,
        at: int,
        spent: int | None = None,
        mark: Entry | None = None,
    ) -> Budget:
        async with self._access.transaction("setting a budget") as connection:
            await lay_mark(connection, mark)
            row = await connection.fetchrow(SET_BUDGET, scope, unit, limit, at, spent)
        return Budget(*row) if row is not None else Budget(scope, unit, limit)

    async def raise_budget(
        self,
        scope: str,
        unit: Literal["usd_micros", "tokens"],
        *,
        by: int = 0,
        to: int = 0,
        at: int,
        mark: Entry | None = None,
    ) -> Budget:
        async with self._access.transaction("raising a budget") as connection:
            await lay_mark(connection, mark)
            row = await connection.fetchrow(_RAISE, scope, unit, by, to, at)
            if row is None:
                raise no_budget(scope)
        return Budget(*row)

    async def budgets(self, scope: str | None = None) -> Sequence[Budget]:
        async with self._access.connection("reading budgets") as connection:
            rows = await connection.fetch(
                f"SELECT {BUDGET} FROM budgets WHERE $1::text IS NULL OR scope = $1 ORDER BY scope, unit", scope
            )
        return [Budget(*row) for row in rows]

    async def freeze(self, scope: str, *, at: int, by: str, reason: str, mark: Entry | None = None) -> Hold:
        under = covered(scope)
        if under is None:
            raise bad_scope(scope)
        async with self._access.transaction("freezing") as connection:
            await connection.execute(f"SELECT pg_advisory_xact_lock({FREEZE_GATE})")
            await lay_mark(connection, mark)
            await connection.execute(
                "INSERT INTO holds (scope, at, held_by, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (scope) DO NOTHING",
                scope,
                at,
                by,
                reason,
            )
        # From here on no effect under the scope can start, so that the last one stays the last.
        async with self._access.connection("freezing") as connection:
            row = await connection.fetchrow(
                f"""
                UPDATE holds h SET effect_session = last.id, effect_position = last.effect_position
                FROM (SELECT 1) AS always LEFT JOIN (
                    SELECT s.id, s.effect_position FROM sessions s WHERE s.effect_at IS NOT NULL AND {_UNDER}
                    ORDER BY s.effect_at DESC LIMIT 1
                ) AS last ON true
                WHERE h.scope = $3
                RETURNING h.scope, h.at, h.held_by, h.reason, h.effect_session, h.effect_position
                """,
                *under,
                scope,
            )
        if row is None:
            raise no_hold(scope)
        return _hold_of(row)

    async def thaw(self, scope: str, *, at: int) -> None:
        async with self._access.transaction("thawing") as connection:
            if await connection.fetchval("DELETE FROM holds WHERE scope = $1 RETURNING scope", scope) is None:
                raise no_hold(scope)
            await connection.execute(
                f"""
                UPDATE sessions s SET wake_at = least(s.wake_at, $3::bigint) FROM (
                    SELECT s.sid FROM sessions s
                    WHERE s.lease_until IS NULL AND s.status = ANY ($4::text[]) AND {_UNDER}
                    ORDER BY s.sid FOR UPDATE
                ) AS stopped
                WHERE s.sid = stopped.sid
                """,
                *(covered(scope) or (None, None)),
                at,
                list(RESTED),
            )
        self._on_due()

    async def holds(self) -> Sequence[Hold]:
        async with self._access.connection("reading freezes") as connection:
            return [_hold_of(row) for row in await connection.fetch(f"SELECT {_HOLD} FROM holds ORDER BY at, scope")]


def _hold_of(row: Fields) -> Hold:
    session = row["effect_session"]
    proof = None if session is None else (session, row["effect_position"])
    return Hold(row["scope"], row["at"], row["held_by"], row["reason"], proof)


class PostgresSpecs:
    """Agents and their versions."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def put(self, spec: AgentSpec, *, project: str, at: int) -> Version:
        digest = spec_digest(spec)
        async with self._access.transaction("registering a version") as connection:
            # Numbers have no gaps and no doubles: one registration of an agent at a time.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{project}\n{spec.name}")
            found = await connection.fetchrow(
                "SELECT number, at FROM versions WHERE project = $1 AND agent = $2 AND version = $3",
                project,
                spec.name,
                digest,
            )
            if found is not None:
                return Version(project, spec.name, found["number"], digest, found["at"], spec)
            number = await connection.fetchval(
                "INSERT INTO versions (project, agent, number, version, at, spec) "
                "SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5 FROM versions "
                "WHERE project = $1 AND agent = $2 RETURNING number",
                project,
                spec.name,
                digest,
                at,
                msgspec.json.encode(spec, order="sorted"),
            )
        return Version(project, spec.name, number, digest, at, spec)

    async def get(self, version: str) -> AgentSpec:
        async with self._access.connection("reading a version") as connection:
            found = "SELECT spec FROM versions WHERE version = $1 LIMIT 1"
            encoded = await connection.fetchval(found, version) if can_name(version) else None
        if encoded is None:
            raise no_version(version)
        return spec_in(encoded)

    async def versions(self, project: str | None, agent: str | None = None) -> Sequence[Version]:
        if agent is not None and not can_name(agent):
            return []
        async with self._access.connection("reading versions") as connection:
            rows = await connection.fetch(
                "SELECT project, agent, number, version, at, spec FROM versions "
                "WHERE ($1::text IS NULL OR project = $1) AND ($2::text IS NULL OR agent = $2) "
                "ORDER BY at, agent, number",
                project,
                agent,
            )
        return [_version_of(row) for row in rows]


def _version_of(row: Fields) -> Version:
    project, agent, number, version, at, encoded = row
    return Version(project, agent, number, version, at, spec_in(encoded))


class PostgresBlobs:
    """Large content by its SHA-256."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def put(self, content: bytes) -> str:
        digest = sha256(content).digest()
        async with self._access.connection("storing a blob") as connection:
            await connection.execute(
                "INSERT INTO blobs (digest, content) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING", digest, content
            )
        return digest.hex()

    async def get(self, digest: str) -> bytes:
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            raise no_blob(digest) from None
        async with self._access.connection("reading a blob") as connection:
            content = await connection.fetchval("SELECT content FROM blobs WHERE digest = $1", key)
        if content is None:
            raise no_blob(digest)
        if sha256(content).digest() != key:
            raise blob_damaged(digest)
        return content
