"""The only place that wires: a database, models, tools, a worker, and the verbs, behind one object.

    async with Remanence("sqlite:///support.db") as rt:
        session = await rt.open(support, user="ada")
        async for event in session.send("Order 42 arrived broken"):
            ...

`Remanence` opens the database and, unless told otherwise, runs a worker in this event loop. A turn belongs to the
runtime, not to whoever reads it: leaving the `async for`, or the process dying, changes nothing about the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from remanence import logs
from remanence.agent import Agent
from remanence.commands import controls, erasure, search, sessions, usage
from remanence.commands.caller import INPUT_BYTES_MAX, Caller, States
from remanence.commands.consolidation import Consolidating, keep_consolidating
from remanence.commands.memory_handles import ProjectMemory
from remanence.commands.sessions import Opening
from remanence.commands.versions import newest
from remanence.core.ledger import usd_to_micros
from remanence.core.memory.projection import MEMORY
from remanence.errors import InvalidConfig, InvalidInput, NotFound
from remanence.models.configuration import ModelConfig, check_config
from remanence.models.gateway import Gateway
from remanence.ports import Budget, Clock, Database, Embedder, Hold, Model, Tool
from remanence.runtime.clock import SystemClock
from remanence.runtime.embedding import EmbeddingDatabase, keep_embedding
from remanence.runtime.live import Hub
from remanence.runtime.memory_index import MemoryIndex
from remanence.runtime.projector import Projection, Projector
from remanence.runtime.recollector import MemoryRecollector
from remanence.runtime.relay import Relay
from remanence.runtime.running import Running
from remanence.runtime.services import Services, Times
from remanence.runtime.worker import Worker
from remanence.screens import SCREENS
from remanence.session import Reply, Session
from remanence.spec import AgentSpec, ToolSpec
from remanence.stores.schema_state import SchemaState, schema_state
from remanence.tools.mcp import McpServer, Remotes
from remanence.tools.memory import memory_tools
from remanence.tools.paging import open_result_tool

__all__ = ["Options", "Remanence", "Reply", "Session", "Shelf", "make_id", "open_database"]

DEFAULT_URL = "sqlite:///.remanence/remanence.db"


_dice = random.Random(secrets.randbits(256))
"""For ids, which need to be different, not secret."""


async def open_database(url: str, *, ephemeral: bool = False, writing: bool = False) -> Database:
    """Open `sqlite:///PATH` or `postgresql://...`, creating and migrating it as needed.

    A file that can only be read is opened for reading, unless it is for `writing`. Raises InvalidConfig for a URL of
    another kind, StoreError when the database cannot be used.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        from remanence.stores.sqlite.database import open_sqlite

        path = rest.removeprefix("/")
        return await open_sqlite(path or ":memory:", ephemeral=ephemeral, writing=writing)
    if scheme in ("postgresql", "postgres"):
        from remanence.stores.postgres.database import open_postgres

        return await open_postgres(url)
    raise InvalidConfig(
        f"{url.split('@')[-1]!r} is not a database this release knows. Use sqlite:///PATH or postgresql://HOST/NAME."
    )


def make_id(prefix: str) -> str:
    """A new id that sorts by the time it was made: milliseconds, then 72 random bits."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{_dice.getrandbits(72):018x}"


@dataclass(frozen=True)
class Options:
    """The rest of what a `Remanence` may be told; the defaults are for production.

    `database` and `model` take the place of what the URL and the gateway would give; who hands them in closes them.
    """

    clock: Clock = field(default_factory=SystemClock)
    dice: random.Random = field(default_factory=random.Random)
    times: Times = field(default_factory=Times)
    sessions_max: int = 256
    project: str = "default"
    actor: str = "local"
    worker_name: str = ""
    """What the worker's name begins with; what follows tells it from the process that had the name before."""
    make_id: Callable[[str], str] = make_id
    root: Path | None = None
    ephemeral: bool = False
    input_bytes_max: int = INPUT_BYTES_MAX
    mcp_hosts: Sequence[str] = ()
    database: Database | None = None
    model: Model | None = None
    consolidating: Consolidating | None = None
    """How notes are taken of what was said, in idle time; None: not at all."""
    embedder: Embedder | None = None
    """What makes vectors of memories, beside their words; it is closed with the runtime. None: words alone."""


class Shelf:
    """The agents whose Python functions this process has: `ports.Toolbox`.

    `mcp_hosts` are those whose MCP servers may be reached because a client, or a version, names them.
    """

    def __init__(self, agents: Sequence[Agent] = (), mcp_hosts: Sequence[str] = ()) -> None:
        self._remotes = Remotes(mcp_hosts)
        self._agents: dict[str, Agent] = {}
        for agent in agents:
            self.put(agent)

    def put(self, agent: Agent) -> None:
        self._agents[agent.spec.name] = agent

    def get(self, name: str) -> Agent | None:
        return self._agents.get(name)

    def find(self, agent: str, tool: str) -> Tool | None:
        known = self._agents.get(agent)
        return known.tools_by_name.get(tool) if known else None

    def remote(self, spec: ToolSpec) -> Tool | None:
        return self._remotes.tool(spec)

    def server(self, label: str, url: str) -> McpServer:
        """The MCP server a client names. Raises InvalidInput when it is at none of `mcp_hosts`."""
        return self._remotes.server(label, url)

    async def close(self) -> None:
        """Hang up on every MCP server."""
        await self._remotes.close()
        for agent in self._agents.values():
            for server in agent.servers:
                await server.close()

    def agents(self) -> Sequence[str]:
        return tuple(self._agents)

    def specs(self) -> dict[str, AgentSpec]:
        """What each of them declares."""
        return {name: agent.spec for name, agent in self._agents.items()}


class Remanence:
    """A runtime over one database. Use it as an async context manager.

    `url`: `sqlite:///PATH` (three slashes: relative, four: absolute) or `postgresql://...`. `agents`: those it can run
    besides the ones given to `open`. `models`: ready-made models by name; `model_configs`: aliases as in
    `remanence.toml`. `worker=False` only reads and writes; another process does the work.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        agents: Sequence[Agent] = (),
        models: Mapping[str, Model] | None = None,
        model_configs: Mapping[str, ModelConfig] | None = None,
        worker: bool = True,
        options: Options | None = None,
    ) -> None:
        _check_arguments(url, agents, models, model_configs)
        self.url = url
        self.options = options or Options()
        self.shelf = Shelf(agents, self.options.mcp_hosts)
        self._models = models
        self._model_configs = model_configs
        self._with_worker = worker
        self._database: Database | None = None
        self._worker: Worker | None = None
        self._projector: Projector | None = None
        self._memory_index: MemoryIndex | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._gateway: Gateway | None = None
        self._relay: Relay | None = None
        self._caller: Caller | None = None
        self.cut: list[Running] = []
        """Tool calls that had not finished when it was stopped. Their intents are in the journal."""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the database and begin to work."""
        logs.configure()
        options = self.options
        database = options.database or await open_database(
            self.url, ephemeral=options.ephemeral, writing=self._with_worker
        )
        if options.embedder is not None:
            database = EmbeddingDatabase(database, options.embedder)
        self._database = database
        hub = Hub(options.clock)
        self._relay = Relay(hub, database.bus, database.store, options.clock)
        self._relay.start(works=self._with_worker)
        self._gateway = Gateway(
            self._model_configs, models=self._models, root=options.root, clock=options.clock, blobs=database.blobs
        )
        index, states = MemoryIndex(database, options.clock), States()
        self._memory_index = index
        for heard in (index.heard, states.heard):
            hub.listen(heard)
        self._caller = Caller(
            database,
            hub,
            options.clock,
            options.make_id,
            options.actor,
            options.project,
            options.input_bytes_max,
            index.settle,
            states,
            index.follow,
        )
        if self._with_worker:
            await self._begin_work(database, hub, self._caller, index)

    async def _begin_work(self, database: Database, hub: Hub, caller: Caller, index: MemoryIndex) -> None:
        """What only a process that runs sessions does: drive them, keep the views close, do what is left to do."""
        options = self.options
        services = Services(
            database=database,
            model=self.model,
            tools=self.shelf,
            recollector=MemoryRecollector(database, options.clock, index),
            builtins={
                **memory_tools(database, options.clock, index.settle_own, index.read_own, index.follow),
                **open_result_tool(database),
            },
            live=hub,
            clock=options.clock,
            dice=options.dice,
            # Never the name of a process before: it would have its leases under their epochs, which tell the two apart.
            worker=f"{options.worker_name or f'{socket.gethostname()}:{os.getpid()}'}:{secrets.token_hex(3)}",
            times=options.times,
            sessions_max=options.sessions_max,
        )
        worker = self._worker = Worker(services)
        await worker.start()
        projections = [*_projections(caller), (MEMORY, index.project)]
        self._projector = Projector(database, options.clock, projections, lambda: worker.sessions > 0)
        await self._projector.start()
        self._chores = [asyncio.create_task(chore, name=name) for name, chore in _chores_of(options, database, caller)]

    async def stop(self) -> None:
        """Drain the worker, give its sessions back, close the database."""
        for chore in self._chores:
            chore.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chore
        self._chores = []
        if self._projector is not None:
            await self._projector.stop()
        if self._worker is not None:
            self.cut = await self._worker.stop() or self.cut
        if self._relay is not None:
            await self._relay.close()
        await self.shelf.close()
        if self._gateway is not None:
            await self._gateway.aclose()
        if self.options.embedder is not None:
            await self.options.embedder.close()
        if self._database is not None and self.options.database is None:
            await self._database.close()
        self._worker = self._projector = self._relay = self._database = self._caller = None

    @property
    def caller(self) -> Caller:
        """What the verbs of `remanence.commands` take first."""
        if self._caller is None:
            raise InvalidConfig("This Remanence is not open. Use it as `async with Remanence(...) as rt:`.")
        return self._caller

    @property
    def database(self) -> Database:
        """The open database."""
        return self.caller.database

    @property
    def worker(self) -> Worker | None:
        """The worker of this process, when it has one."""
        return self._worker

    async def schema(self) -> SchemaState:
        """Which migrations the database has and still needs, looked up now. Raises StoreError."""
        url = self.url if self.options.database is None and not self.options.ephemeral else "sqlite:///:memory:"
        return await schema_state(url)

    @property
    def gateway(self) -> Gateway:
        """The models it can reach."""
        if self._gateway is None:
            raise InvalidConfig("This Remanence is not open. Use it as `async with Remanence(...) as rt:`.")
        return self._gateway

    @property
    def memory(self) -> ProjectMemory:
        """The long-term memory of the project."""
        return ProjectMemory(self.caller, self.memory_index.project)

    @property
    def memory_index(self) -> MemoryIndex:
        """What brings the index of the memory up to the journals."""
        if self._memory_index is None:
            raise InvalidConfig("This Remanence is not open. Use it as `async with Remanence(...) as rt:`.")
        return self._memory_index

    @property
    def model(self) -> Model:
        """What calls models here: the one that was handed in, or the gateway."""
        return self.options.model or self.gateway

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def open(
        self, agent: Agent | AgentSpec | str, *, user: str = "", title: str = "", opening: Opening | None = None
    ) -> Session:
        """A new session of an agent: an `Agent`, a spec, or the name of one registered here or in the database."""
        if opening is not None and (user or opening.user, title or opening.title) != (opening.user, opening.title):
            raise InvalidInput(
                "The `opening` says another `user` or `title`. Nothing was made; say them there alone.",
                param="opening",
            )
        spec = await self.spec_of(agent)
        if isinstance(agent, Agent):
            self.shelf.put(agent)
        opening = opening or Opening(user=user, title=title)
        return Session(self, await sessions.open_session(self.caller, spec, opening), spec.if_busy, opening.user)

    def know(self, agent: Agent) -> None:
        """Run the functions of this agent from now on."""
        self.shelf.put(agent)

    async def spec_of(self, agent: Agent | AgentSpec | str) -> AgentSpec:
        """The spec meant by an agent, a spec or a name. Raises NotFound."""
        if isinstance(agent, Agent):
            return agent.spec
        if isinstance(agent, AgentSpec):
            return agent
        if not isinstance(cast("object", agent), str):
            raise InvalidInput(
                f"{agent!r:.100} is no agent. Nothing was made; give an `Agent`, an `AgentSpec` or a name.",
                param="agent",
            )
        known = self.shelf.get(agent)
        if known is not None:
            return known.spec
        versions = await self.database.specs.versions(self.caller.project, agent)
        if not versions:
            raise NotFound(f"There is no agent called {agent!r}. `remanence agents list` shows those there are.")
        return newest(versions).spec

    async def get(self, session: str) -> Session:
        """A handle on a session that exists. Raises NotFound."""
        row = await self.database.views.session(session)
        spec = await self.database.specs.get(row.summary.version)
        return Session(self, session, spec.if_busy, row.summary.user)

    async def freeze(self, scope: str = "all", *, reason: str = "") -> Hold:
        """The kill switch: `all`, `project:NAME` or `agent:NAME` here. No new effect starts once this returns.

        Raises NotFound for an agent that neither this process nor the project knows.
        """
        if self.shelf.get(scope.removeprefix("agent:")) is None:
            await controls.check_agent(self.caller, scope)
        return await controls.freeze_scope(self.caller, scope, reason=reason)

    async def thaw(self, scope: str = "all") -> None:
        """Lift such a freeze."""
        await controls.thaw_scope(self.caller, scope)

    async def set_budget(self, scope: str, *, usd: str | None = None, tokens: int | None = None) -> Budget:
        """Set a limit: `usd` as a decimal string (`"2.50"`), or `tokens`."""
        unit, limit = _amount(usd, tokens)
        return await controls.set_budget(self.caller, scope, unit, limit)

    async def raise_budget(self, scope: str, *, usd: str | None = None, tokens: int | None = None) -> Budget:
        """Raise a limit by an amount; sessions that paused at it go on."""
        unit, amount = _amount(usd, tokens)
        return await controls.raise_budget(self.caller, scope, unit, by=amount)


def _check_arguments(
    url: object, agents: object, models: Mapping[str, object] | None, configs: Mapping[str, object] | None
) -> None:
    """What a type checker would have said, at once and not in the first turn. Raises InvalidConfig."""
    if not isinstance(url, str):
        raise InvalidConfig(f"A database is named by a URL, such as sqlite:///support.db, and this is {url!r:.100}.")
    several = isinstance(agents, Sequence) and not isinstance(agents, str)
    if not several or not all(isinstance(agent, Agent) for agent in cast("Sequence[object]", agents)):
        raise InvalidConfig(f"`agents` is a list of `Agent(...)`, and this is {agents!r:.100}.", param="agents")
    for name, model in (models or {}).items():
        if not callable(getattr(model, "reply", None)):
            raise InvalidConfig(
                f"`models[{name!r}]` is {model!r:.100}, which is no model: it has no `reply`. Names belong to "
                "agents, and aliases to `model_configs`.",
                param="models",
            )
    for name, config in (configs or {}).items():
        check_config(config, f"`model_configs[{name!r}]`")


def _projections(caller: Caller) -> list[Projection]:
    """What is kept close to the journals in idle time."""
    return [
        (usage.USAGE, partial(usage.project, caller)),
        (SCREENS, partial(search.project, caller)),
    ]


def _chores_of(options: Options, database: Database, caller: Caller) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """What a worker does beside its sessions, for as long as it is there, by name."""
    yield "carry on erasures", erasure.carry_on(caller)
    if options.consolidating is not None:
        yield "consolidate memory", keep_consolidating(caller, options.consolidating)
    if options.embedder is not None:
        yield "embed memories", keep_embedding(database, options.embedder, options.clock)


def _amount(usd: str | None, tokens: int | None) -> tuple[controls.Unit, int]:
    if (usd is None) == (tokens is None):
        raise InvalidInput("Give exactly one of `usd` and `tokens`.")
    if tokens is not None:
        return "tokens", tokens
    return "usd_micros", usd_to_micros(usd or "0")
