"""A running server, asked over `/admin/v1`: the same verbs, called over there.

Following a session goes on when the server is started again meanwhile, as `dev` does when a file changes: from the last
record that came.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote

import msgspec

from remanence.cli.client import Client
from remanence.cli.reach import Holder, Reach, Said
from remanence.cli.reach_memory import MemoryAtServer
from remanence.commands.approvals import Resolution, Ruling, check_ruling
from remanence.commands.controls import Unit
from remanence.commands.deployments import DeploymentShape
from remanence.commands.keys import CreatedKey, Key
from remanence.commands.lists import Listed
from remanence.commands.prompts import PromptShape
from remanence.commands.sessions import Opening
from remanence.commands.shapes import (
    ApprovalShape,
    BudgetShape,
    CostShape,
    DiffShape,
    DoubtShape,
    FreezeShape,
    HealthShape,
    RecordShape,
    RegisteredShape,
    SentShape,
    ServerShape,
    SessionRowShape,
    SessionShape,
    SettledShape,
    StandingShape,
    VersionShape,
)
from remanence.commands.transfer import Exported, Imported, file_errors
from remanence.commands.verification import Verification
from remanence.core.state import Session
from remanence.errors import Conflict, StoreUnavailable
from remanence.events import Recorded, decode_event
from remanence.ports import Delta, SessionQuery, Version
from remanence.spec import AgentSpec

__all__ = ["reach_server"]

RETRIES = 20
RETRY_S = 0.5
"""How often, and after which pause, a session is followed again when the stream breaks."""
RECORDS_MAX = 1_000
_ALL = 1_000_000
_CHUNK_BYTES = 1 << 16


def reach_server(client: Client, server: ServerShape, person: str, project: str) -> Reach:
    """A server that answers."""
    return Reach(
        person=person,
        project=project,
        url=client.url,
        journals=_Journals(client, server),
        steering=_Steering(client, person),
        people=_People(client),
        agents=_Agents(client, server),
        money=_Money(client),
        figures=_Figures(client),
        keys=_Keys(client),
        moving=_Moving(client),
        memory=MemoryAtServer(client),
    )


def _in(session: str, rest: str = "") -> str:
    return f"/sessions/{quote(session, safe='')}{rest}"


class _Journals:
    def __init__(self, client: Client, server: ServerShape) -> None:
        self._client = client
        self._server = server

    async def rows(self, query: SessionQuery, *, text: str = "") -> Listed:
        found, unread = await self._client.pages(
            "/sessions",
            SessionRowShape,
            query.limit,
            q=text or None,
            agent=query.agent,
            user=query.user,
            status=query.status,
            waiting_on=query.waiting_on,
            fork_of=query.parent,
            since=query.since,
            usd_micros_min=query.usd_micros_min,
            version=query.version,
            tag="=".join(query.tag) if query.tag else None,
            doubt=query.doubt,
            sort=query.sort,
        )
        return Listed(found, None, unread or 0)

    async def row(self, session: str) -> SessionRowShape:
        return await self._client.get(_in(session, "/row"), SessionRowShape)

    async def get(self, session: str) -> SessionShape:
        return await self._client.get(_in(session), SessionShape)

    async def state(self, session: str) -> Session:
        return msgspec.convert((await self._standing(session)).state, Session)

    async def _standing(self, session: str) -> StandingShape:
        return await self._client.get(_in(session, "/state"), StandingShape)

    async def prompt(self, session: str, call: str) -> PromptShape:
        return await self._client.get(_in(session, f"/prompts/{quote(call, safe='')}"), PromptShape)

    async def records(self, session: str, *, after: int, limit: int) -> Sequence[Recorded]:
        found: list[Recorded] = []
        while len(found) < limit:
            wanted = min(limit - len(found), RECORDS_MAX)
            page, _ = await self._client.listed(_in(session, "/records"), RecordShape, after=after, limit=wanted)
            found += [_recorded(shape) for shape in page]
            if len(page) < wanted:
                break
            after = page[-1].position
        return found

    async def follow(self, session: str, *, after: int) -> AsyncGenerator[Recorded | Delta]:
        failures = 0
        while True:
            try:
                async with self._client.stream(_in(session, "/follow"), after=after) as answer:
                    async for kind, data in _events(answer.aiter_lines()):
                        failures = 0
                        if kind == "delta":
                            yield msgspec.json.decode(data, type=Delta)
                        else:
                            record = _recorded(msgspec.json.decode(data, type=RecordShape))
                            after = record.position
                            yield record
            except StoreUnavailable:
                failures += 1
                if failures > RETRIES:
                    raise
            await asyncio.sleep(RETRY_S)

    async def freezes(self, project: str) -> Sequence[FreezeShape]:
        return (await self._client.listed("/freezes", FreezeShape))[0]

    async def holder(self, session: str) -> Holder:
        if self._server.worker:
            return Holder(True)
        return Holder(False, (await self._standing(session)).lease_until)


async def _events(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str, bytes]]:
    """Names and data of server-sent events."""
    kind = ""
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, value.encode()


def _recorded(shape: RecordShape) -> Recorded:
    event = decode_event(msgspec.json.encode(shape.event))
    digest = bytes.fromhex(shape.digest)
    return Recorded(
        shape.session, shape.position, shape.at, shape.epoch, shape.actor, event, digest, redacted=shape.redacted
    )


class _Steering:
    def __init__(self, client: Client, person: str) -> None:
        self._client = client
        self._person = person

    async def open(self, spec: AgentSpec, opening: Opening) -> str:
        pushed = await self._client.post("/versions", VersionShape, {"spec": spec})
        body = {
            "agent": pushed.agent,
            "version": pushed.version,
            "session": opening.session,
            "user": opening.user,
            "title": opening.title,
            "metadata": opening.metadata,
        }
        return (await self._client.post("/sessions", SessionRowShape, body, key=opening.key)).session

    async def send(self, session: str, said: Said) -> SentShape:
        body = {"text": said.text, "if_busy": said.if_busy, "answers": said.answers}
        return await self._client.post(_in(session, "/send"), SentShape, body, key=said.key)

    async def cancel(self, session: str, reason: str) -> SentShape:
        return await self._client.post(_in(session, "/cancel"), SentShape, {"reason": reason})

    async def fork(self, session: str, *, turn: int | None, position: int | None, title: str) -> SessionRowShape:
        body = {"turn": turn, "position": position, "title": title}
        made = await self._client.post(_in(session, "/fork"), SessionShape, body)
        return await self._client.get(_in(made.session, "/row"), SessionRowShape)

    async def freeze(self, session: str, reason: str) -> FreezeShape:
        s = await self._client.post(_in(session, "/freeze"), SessionShape, {"reason": reason})
        last = (session, s.last_effect) if s.last_effect else (None, None)
        return FreezeShape(f"session:{session}", True, self._person, reason, *last)

    async def thaw(self, session: str, reason: str) -> FreezeShape:
        await self._client.post(_in(session, "/thaw"), SessionShape, {"reason": reason})
        return FreezeShape(f"session:{session}", False, self._person, reason, None, None)

    async def freeze_scope(self, scope: str, reason: str) -> FreezeShape:
        return await self._client.post("/freezes", FreezeShape, {"scope": scope, "reason": reason})

    async def thaw_scope(self, scope: str, reason: str) -> FreezeShape:
        await self._client.delete(f"/freezes/{quote(scope, safe='')}", FreezeShape)
        return FreezeShape(scope, False, self._person, reason, None, None)


class _People:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def waiting(self, session: str | None, limit: int) -> list[ApprovalShape]:
        return (await self._client.listed("/approvals", ApprovalShape, session=session, limit=limit))[0]

    async def decide(self, session: str, call: str, ruling: Ruling) -> SettledShape:
        check_ruling(ruling)
        path = f"/approvals/{quote(session, safe='')}/{quote(call, safe='')}"
        return await self._client.post(path, SettledShape, ruling)

    async def answer(self, session: str, call: str, text: str) -> SentShape:
        path = f"/questions/{quote(session, safe='')}/{quote(call, safe='')}"
        return await self._client.post(path, SentShape, {"text": text})

    async def doubts(self, session: str | None) -> list[DoubtShape]:
        return (await self._client.listed("/doubts", DoubtShape, session=session))[0]

    async def resolve(self, session: str, call: str, resolution: Resolution) -> SettledShape:
        path = f"/doubts/{quote(session, safe='')}/{quote(call, safe='')}"
        return await self._client.post(path, SettledShape, resolution)


class _Agents:
    def __init__(self, client: Client, server: ServerShape) -> None:
        self._client = client
        self._server = server

    async def standing(self) -> Sequence[VersionShape]:
        return (await self._client.listed("/agents", VersionShape))[0]

    async def versions_of(self, agent: str) -> Sequence[VersionShape]:
        return (await self._client.listed(_of(agent, "/versions"), VersionShape))[0]

    async def diff(self, agent: str, a: str | None, b: str | None) -> DiffShape:
        return await self._client.get(_of(agent, "/diff"), DiffShape, a=a, b=b)

    async def versions(self, agent: str | None = None) -> Sequence[Version]:
        found, _ = await self._client.listed("/versions", RegisteredShape, agent=agent)
        return [_version(shape) for shape in found]

    async def deployments(self, agent: str | None, declared: Mapping[str, AgentSpec]) -> list[DeploymentShape]:
        return (await self._client.listed("/deployments", DeploymentShape, agent=agent))[0]

    async def push(self, spec: AgentSpec) -> VersionShape:
        return await self._client.post("/versions", VersionShape, {"spec": spec})

    async def spec(self, version: str) -> AgentSpec:
        return _version(await self._client.get(f"/versions/{version}", RegisteredShape)).spec

    def has_functions(self, agent: str, tool: str) -> bool:
        return agent in self._server.agents


def _of(agent: str, rest: str) -> str:
    return f"/agents/{quote(agent, safe='')}{rest}"


def _version(shape: RegisteredShape) -> Version:
    spec = msgspec.convert(shape.spec, AgentSpec)
    return Version(shape.project, shape.agent, shape.number, shape.version, shape.at, spec)


class _Money:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def budgets(self, scope: str | None) -> list[BudgetShape]:
        return (await self._client.listed("/budgets", BudgetShape, scope=scope))[0]

    async def set_budget(self, scope: str, unit: Unit, limit: int) -> BudgetShape:
        return await self._client.put("/budgets", BudgetShape, {"scope": scope, "unit": unit, "limit": limit})

    async def raise_budget(self, scope: str, unit: Unit, *, by: int = 0, to: int | None = None) -> BudgetShape:
        amount: dict[str, Any] = {"raise_by": by} if to is None else {"raise_to": to}
        return await self._client.put("/budgets", BudgetShape, {"scope": scope, "unit": unit, **amount})

    async def usage(self, by: tuple[str, ...], since: int | None) -> tuple[list[CostShape], Sequence[str]]:
        found, unread = await self._client.listed("/usage", CostShape, by=",".join(by), since=since)
        return found, unread or ()


class _Figures:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def health(self) -> HealthShape:
        return await self._client.get("/health", HealthShape)

    async def metrics(self) -> str:
        return await self._client.text("/metrics")


class _Keys:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def create(self, name: str, scopes: Sequence[str], expires_s: float | None) -> CreatedKey:
        body = {"name": name, "scopes": list(scopes), "expires_s": expires_s}
        return await self._client.post("/keys", CreatedKey, body)

    async def list(self) -> Sequence[Key]:
        return (await self._client.listed("/keys", Key))[0]

    async def revoke(self, key: str) -> Key:
        return await self._client.delete(f"/keys/{quote(key, safe='')}", Key)


class _Moving:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def export(self, session: str, target: Path | IO[bytes]) -> Exported:
        if not isinstance(target, Path):
            return await self._download(session, target)
        with file_errors(target):
            if await asyncio.to_thread(target.exists):
                raise Conflict(f"There is something at {target} already; it was left as it is. Give another path.")
            partial = target.with_name(f".{target.name}.partial")
            try:
                with await asyncio.to_thread(_open_own, partial) as file:
                    exported = await self._download(session, file)
                    await asyncio.to_thread(os.fsync, file.fileno())
                await asyncio.to_thread(partial.replace, target)
            finally:
                await asyncio.to_thread(partial.unlink, missing_ok=True)
        return exported

    async def _download(self, session: str, file: IO[bytes]) -> Exported:
        async with self._client.stream(_in(session, "/export")) as answer:
            async for chunk in answer.aiter_bytes():
                await asyncio.to_thread(file.write, chunk)
            return msgspec.json.decode(unquote(answer.headers["x-remanence-exported"]), type=Exported)

    async def lay_down(self, file: Path, as_session: str | None) -> Imported:
        with file_errors(file):
            opened = await asyncio.to_thread(file.open, "rb")
        with opened:
            size = os.fstat(opened.fileno()).st_size
            return await self._client.upload("/sessions/import", (_read(opened), size), Imported, as_session=as_session)

    async def verify(self, session: str, *, inherited: bool = True) -> Verification:
        query = {} if inherited else {"inherited": "false"}
        return await self._client.get(_in(session, "/verify"), Verification, **query)

    async def mend(self, session: str, *, inherited: bool = True) -> Verification:
        query = "" if inherited else "?inherited=false"
        return await self._client.post(_in(session, f"/mend{query}"), Verification, {})

    async def every(self) -> AsyncIterator[str]:
        rows, _ = await self._client.pages("/sessions", SessionRowShape, _ALL)
        for row in rows:
            yield row.session


def _open_own(path: Path) -> IO[bytes]:
    """A file that nobody else may read: a journal holds what people said."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), "w+b")


async def _read(file: IO[bytes]) -> AsyncGenerator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk
