"""The database itself, asked by the verbs of `commands`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from remanence.app import Remanence
from remanence.cli.reach import Holder, Reach, Said
from remanence.cli.reach_memory import MemoryAtStore
from remanence.commands import approvals, controls, forks, keys, sessions, transfer, usage, verification, versions
from remanence.commands.approvals import Resolution, Ruling
from remanence.commands.caller import Caller, state_of
from remanence.commands.controls import Unit
from remanence.commands.deployments import DeploymentShape, deployments
from remanence.commands.follow import follow
from remanence.commands.keys import CreatedKey, Key
from remanence.commands.lists import Listed, list_sessions
from remanence.commands.metrics import exposition
from remanence.commands.prompts import PromptShape, past_prompt
from remanence.commands.sessions import Once, Opening
from remanence.commands.shapes import (
    ApprovalShape,
    BudgetShape,
    CostShape,
    DiffShape,
    DoubtShape,
    FreezeShape,
    HealthShape,
    SentShape,
    SessionRowShape,
    SessionShape,
    SettledShape,
    VersionShape,
)
from remanence.commands.transfer import Exported, Imported
from remanence.commands.verification import Verification
from remanence.content import Text
from remanence.core.state import Session
from remanence.errors import NotFound
from remanence.events import Recorded
from remanence.ports import Delta, SessionQuery, UsageQuery, Version
from remanence.spec import AgentSpec

__all__ = ["reach_store"]


def reach_store(rt: Remanence) -> Reach:
    """The database of an open runtime."""
    caller = rt.caller
    return Reach(
        person=caller.actor,
        project=caller.project,
        url="",
        journals=_Journals(caller),
        steering=_Steering(caller),
        people=_People(caller),
        agents=_Agents(rt),
        money=_Money(caller),
        figures=_Figures(caller),
        keys=_Keys(caller),
        moving=_Moving(caller),
        memory=MemoryAtStore(rt),
    )


class _Over:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._database = caller.database


class _Journals(_Over):
    async def rows(self, query: SessionQuery, *, text: str = "") -> Listed:
        return await list_sessions(self._caller, query, text=text)

    async def row(self, session: str) -> SessionRowShape:
        row = await self._database.views.session(session)
        if row.summary.project != self._caller.project:
            raise NotFound(f"There is no session {session!r}. `remanence sessions list` shows those there are.")
        return SessionRowShape.of(row)

    async def get(self, session: str) -> SessionShape:
        return SessionShape.of(await state_of(self._caller, session), [])

    async def state(self, session: str) -> Session:
        return await state_of(self._caller, session)

    async def prompt(self, session: str, call: str) -> PromptShape:
        return PromptShape.of(await past_prompt(self._caller, session, call))

    async def records(self, session: str, *, after: int, limit: int) -> Sequence[Recorded]:
        return await self._database.store.read(session, after=after, limit=limit)

    def follow(self, session: str, *, after: int) -> AsyncGenerator[Recorded | Delta]:
        return follow(self._caller, session, after=after)

    async def freezes(self, project: str) -> Sequence[FreezeShape]:
        return [FreezeShape.of(hold) for hold in await controls.freezes_of(self._caller, project)]

    async def holder(self, session: str) -> Holder:
        alive = bool(self._caller.live.driver_of(session))
        return Holder(alive, None if alive else (await self._database.views.session(session)).lease_until)


class _Steering(_Over):
    async def open(self, spec: AgentSpec, opening: Opening) -> str:
        return await sessions.open_session(self._caller, spec, opening)

    async def send(self, session: str, said: Said) -> SentShape:
        parts = (Text(said.text),)
        if said.answers:
            once = Once(said.key, (said.answers, parts)) if said.key else None
            sent = await approvals.answer(self._caller, session, said.answers, parts, once=once)
        else:
            if_busy = said.if_busy
            if if_busy is None:
                row = await self._database.views.session(session)
                if_busy = (await self._database.specs.get(row.summary.version)).if_busy
            sent = await sessions.send(self._caller, session, parts, if_busy=if_busy, key=said.key)
        return SentShape(session, sent.head, sent.replayed)

    async def cancel(self, session: str, reason: str) -> SentShape:
        sent = await sessions.cancel(self._caller, session, reason=reason)
        return SentShape(session, sent.head, sent.replayed)

    async def fork(self, session: str, *, turn: int | None, position: int | None, title: str) -> SessionRowShape:
        opening = Opening(title=title)
        made = await forks.fork(self._caller, session, position=position, turn=turn, opening=opening)
        return SessionRowShape.of(await self._database.views.session(made))

    async def freeze(self, session: str, reason: str) -> FreezeShape:
        s = await sessions.freeze(self._caller, session, reason=reason)
        last = (session, s.last_effect) if s.last_effect else (None, None)
        return FreezeShape(f"session:{session}", True, self._caller.actor, reason, *last)

    async def thaw(self, session: str, reason: str) -> FreezeShape:
        await sessions.thaw(self._caller, session, reason=reason)
        return FreezeShape(f"session:{session}", False, self._caller.actor, reason, None, None)

    async def freeze_scope(self, scope: str, reason: str) -> FreezeShape:
        await controls.check_agent(self._caller, scope)
        return FreezeShape.of(await controls.freeze_scope(self._caller, scope, reason=reason))

    async def thaw_scope(self, scope: str, reason: str) -> FreezeShape:
        await controls.thaw_scope(self._caller, scope)
        return FreezeShape(scope, False, self._caller.actor, reason, None, None)


class _People(_Over):
    async def waiting(self, session: str | None, limit: int) -> list[ApprovalShape]:
        found = await approvals.waiting(self._caller, session=session, limit=limit)
        return [ApprovalShape.of(one) for one in found]

    async def decide(self, session: str, call: str, ruling: Ruling) -> SettledShape:
        given = await approvals.rule(self._caller, session, call, ruling)
        return SettledShape(session, call, ruling.decision, self._caller.actor, given.head)

    async def answer(self, session: str, call: str, text: str) -> SentShape:
        given = await approvals.answer(self._caller, session, call, (Text(text),))
        return SentShape(session, given.head, given.replayed)

    async def doubts(self, session: str | None) -> list[DoubtShape]:
        found = await approvals.doubts(self._caller, session=session)
        return [DoubtShape.of(s.id, doubt) for s, doubt in found]

    async def resolve(self, session: str, call: str, resolution: Resolution) -> SettledShape:
        given = await approvals.resolve(self._caller, session, call, resolution)
        return SettledShape(session, call, resolution.outcome, self._caller.actor, given.head)


class _Agents:
    def __init__(self, rt: Remanence) -> None:
        self._rt = rt
        self._caller = rt.caller
        self._specs = rt.database.specs

    async def standing(self) -> Sequence[VersionShape]:
        found = versions.standing(await versions.versions_of(self._caller))
        return [VersionShape.of(version) for version in found.values()]

    async def versions_of(self, agent: str) -> Sequence[VersionShape]:
        return [VersionShape.of(version) for version in await versions.versions_of(self._caller, agent)]

    async def diff(self, agent: str, a: str | None, b: str | None) -> DiffShape:
        return DiffShape.of(await versions.difference(self._caller, agent, a, b))

    async def versions(self, agent: str | None = None) -> Sequence[Version]:
        return await self._specs.versions(self._caller.project, agent)

    async def deployments(self, agent: str | None, declared: Mapping[str, AgentSpec]) -> list[DeploymentShape]:
        return await deployments(self._caller, declared, agent)

    async def push(self, spec: AgentSpec) -> VersionShape:
        before = {version.version for version in await self._specs.versions(self._caller.project, spec.name)}
        made = await self._specs.put(spec, project=self._caller.project, at=self._caller.clock.now())
        return VersionShape.of(made, created=made.version not in before)

    async def spec(self, version: str) -> AgentSpec:
        return await self._specs.get(version)

    def has_functions(self, agent: str, tool: str) -> bool:
        return self._rt.shelf.find(agent, tool) is not None


class _Money(_Over):
    async def budgets(self, scope: str | None) -> list[BudgetShape]:
        return [BudgetShape.of(budget) for budget in await controls.budgets_of(self._caller, scope)]

    async def set_budget(self, scope: str, unit: Unit, limit: int) -> BudgetShape:
        return BudgetShape.of(await controls.set_budget(self._caller, scope, unit, limit))

    async def raise_budget(self, scope: str, unit: Unit, *, by: int = 0, to: int | None = None) -> BudgetShape:
        return BudgetShape.of(await controls.raise_budget(self._caller, scope, unit, by=by, to=to))

    async def usage(self, by: tuple[str, ...], since: int | None) -> tuple[list[CostShape], Sequence[str]]:
        rows, unread = await usage.usage(self._caller, UsageQuery(by, self._caller.project, since))
        return [CostShape.of(by, row) for row in rows], unread


class _Figures(_Over):
    async def health(self) -> HealthShape:
        return HealthShape(True, {}, await self._database.views.stats())

    async def metrics(self) -> str:
        return await exposition(self._caller, None, held=None)


class _Keys(_Over):
    async def create(self, name: str, scopes: Sequence[str], expires_s: float | None) -> CreatedKey:
        return CreatedKey(*await keys.create_key(self._caller, name, scopes=scopes, expires_s=expires_s))

    async def list(self) -> Sequence[Key]:
        return await keys.list_keys(self._caller)

    async def revoke(self, key: str) -> Key:
        return await keys.revoke_key(self._caller, key)


class _Moving(_Over):
    async def export(self, session: str, target: Path | IO[bytes]) -> Exported:
        return await transfer.export_session(self._caller, session, target)

    async def lay_down(self, file: Path, as_session: str | None) -> Imported:
        return await transfer.import_session(self._caller, file, as_session=as_session)

    async def verify(self, session: str, *, inherited: bool = True) -> Verification:
        return await verification.verify_session(self._caller, session, inherited=inherited)

    async def mend(self, session: str, *, inherited: bool = True) -> Verification:
        return await verification.mend_session(self._caller, session, inherited=inherited)

    def every(self) -> AsyncIterator[str]:
        return verification.sessions_all(self._caller)
