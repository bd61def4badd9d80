"""What commands ask for, whoever answers: the server of this database, when one runs, or the database itself.

Both answer with the same values and raise the same errors, so that a command does not know which it is: `reach_store`
calls the verbs, `reach_server` asks `/admin/v1`, which calls the same verbs over there.

What stays with the database: what `db` does to it and `doctor` looks at in it; `cost --all-projects`, because a key
reaches no further than its project; and work that this process has to do because no server's worker can
(`Invocation.reach`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from remanence.spec import AgentSpec, IfBusy

if TYPE_CHECKING:
    from remanence.cli.reach_memory import Remembering
    from remanence.commands.approvals import Resolution, Ruling
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
        SentShape,
        SessionRowShape,
        SessionShape,
        SettledShape,
        VersionShape,
    )
    from remanence.commands.transfer import Exported, Imported
    from remanence.commands.verification import Verification
    from remanence.core.state import Session
    from remanence.events import Recorded
    from remanence.ports import Delta, SessionQuery, Version

__all__ = [
    "Agents",
    "Figures",
    "Holder",
    "Journals",
    "Keys",
    "Money",
    "Moving",
    "People",
    "Reach",
    "Said",
    "Steering",
]


class Said(msgspec.Struct, frozen=True):
    """An input: what is said, what it does while a turn runs (None: as the agent says), which question it answers, and
    the idempotency key it comes under."""

    text: str
    if_busy: IfBusy | None = None
    answers: str | None = None
    key: str | None = None


class Holder(NamedTuple):
    """Who works on a session: a worker we know to live, or one somewhere, until then, or (None) nobody."""

    alive: bool
    until: int | None = None


class Journals(Protocol):
    """Sessions, read."""

    async def rows(self, query: SessionQuery, *, text: str = "") -> Listed: ...

    async def row(self, session: str) -> SessionRowShape: ...

    async def get(self, session: str) -> SessionShape:
        """A session as it stands, without the commands that answer what it waits for."""
        ...

    async def state(self, session: str) -> Session: ...

    async def records(self, session: str, *, after: int, limit: int) -> Sequence[Recorded]: ...

    def follow(self, session: str, *, after: int) -> AsyncGenerator[Recorded | Delta]:
        """Everything after a position, for ever."""
        ...

    async def prompt(self, session: str, call: str) -> PromptShape: ...

    async def freezes(self, project: str) -> Sequence[FreezeShape]:
        """Those that reach a project, as it calls them. A server answers for the key's."""
        ...

    async def holder(self, session: str) -> Holder: ...


class Steering(Protocol):
    """Sessions, changed."""

    async def open(self, spec: AgentSpec, opening: Opening) -> str: ...

    async def send(self, session: str, said: Said) -> SentShape: ...

    async def cancel(self, session: str, reason: str) -> SentShape: ...

    async def fork(self, session: str, *, turn: int | None, position: int | None, title: str) -> SessionRowShape: ...

    async def freeze(self, session: str, reason: str) -> FreezeShape: ...

    async def thaw(self, session: str, reason: str) -> FreezeShape: ...

    async def freeze_scope(self, scope: str, reason: str) -> FreezeShape: ...

    async def thaw_scope(self, scope: str, reason: str) -> FreezeShape: ...


class People(Protocol):
    """What waits for people."""

    async def waiting(self, session: str | None, limit: int) -> list[ApprovalShape]: ...

    async def decide(self, session: str, call: str, ruling: Ruling) -> SettledShape: ...

    async def answer(self, session: str, call: str, text: str) -> SentShape: ...

    async def doubts(self, session: str | None) -> list[DoubtShape]: ...

    async def resolve(self, session: str, call: str, resolution: Resolution) -> SettledShape: ...


class Agents(Protocol):
    """Versions of agents."""

    async def standing(self) -> Sequence[VersionShape]:
        """Each agent, with the version that its name stands for."""
        ...

    async def versions_of(self, agent: str) -> Sequence[VersionShape]:
        """Those of one agent, oldest first. Raises NotFound when it has none."""
        ...

    async def diff(self, agent: str, a: str | None, b: str | None) -> DiffShape:
        """What changed between two versions of an agent, by number or digest; see `commands.versions.difference`."""
        ...

    async def versions(self, agent: str | None = None) -> Sequence[Version]:
        """Those of one agent or of all, oldest first, with what they say."""
        ...

    async def deployments(self, agent: str | None, declared: Mapping[str, AgentSpec]) -> list[DeploymentShape]:
        """What answers for one agent or all. `declared` is what this process has in code: a server has its own."""
        ...

    async def push(self, spec: AgentSpec) -> VersionShape: ...

    async def spec(self, version: str) -> AgentSpec: ...

    def has_functions(self, agent: str, tool: str) -> bool:
        """Whether whoever runs sessions here has the code of a tool."""
        ...


class Money(Protocol):
    """Budgets and costs."""

    async def budgets(self, scope: str | None) -> list[BudgetShape]: ...

    async def set_budget(self, scope: str, unit: Unit, limit: int) -> BudgetShape: ...

    async def raise_budget(self, scope: str, unit: Unit, *, by: int = 0, to: int | None = None) -> BudgetShape: ...

    async def usage(self, by: tuple[str, ...], since: int | None) -> tuple[list[CostShape], Sequence[str]]:
        """Sums, and the sessions that could not be read for them."""
        ...


class Figures(Protocol):
    """How the database does, and the process that serves it."""

    async def health(self) -> HealthShape:
        """The counts and sizes of the database; the checks are those of a server, and none without one."""
        ...

    async def metrics(self) -> str:
        """The text format of Prometheus. What is counted by process is only there of a server."""
        ...


class Keys(Protocol):
    """Who may use the server."""

    async def create(self, name: str, scopes: Sequence[str], expires_s: float | None) -> CreatedKey: ...

    async def list(self) -> Sequence[Key]: ...

    async def revoke(self, key: str) -> Key: ...


class Moving(Protocol):
    """Sessions as files."""

    async def export(self, session: str, target: Path | IO[bytes]) -> Exported: ...

    async def lay_down(self, file: Path, as_session: str | None) -> Imported: ...

    async def verify(self, session: str, *, inherited: bool = True) -> Verification: ...

    async def mend(self, session: str, *, inherited: bool = True) -> Verification: ...

    def every(self) -> AsyncIterator[str]:
        """Every session of the project."""
        ...


class Reach(NamedTuple):
    """Everything at once. `person` is who asks; `url` is the server's, or empty when it is the database."""

    person: str
    project: str
    url: str
    journals: Journals
    steering: Steering
    people: People
    agents: Agents
    money: Money
    figures: Figures
    keys: Keys
    moving: Moving
    memory: Remembering
