"""Who answers a command: the server that runs for this database, or the database itself.

A server answers when one runs and nothing speaks against it: `--direct` was not given, it is of this release, and, for
commands that wait for a session's work (`run`, `chat`, `attach`, `send --wait`), its worker has the agents' functions
as they are declared here. Else this process opens the database and does the work itself, beside any server: sessions
are leased, so both can.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from remanence import __version__
from remanence.agent import Agent
from remanence.cli.output import note
from remanence.cli.reach import Reach
from remanence.commands.shapes import ServerShape
from remanence.errors import StoreUnavailable, Unauthenticated
from remanence.settings import Configuration
from remanence.spec import spec_digest

__all__ = ["Work", "reached", "server_reached"]


class Work(NamedTuple):
    """Whether the work of sessions is to be done too (`worker`), there or here, and the agents whose functions that
    takes; `own`: one of them is only known here. `indexed`: the index of the memory must follow the journals, which
    it does where a worker runs."""

    worker: bool = False
    own: bool = False
    agents: Sequence[Agent] = ()
    indexed: bool = False


@asynccontextmanager
async def reached(
    configuration: Configuration, person: str, work: Work, *, create: bool = False, direct: bool = False
) -> AsyncGenerator[Reach]:
    """What answers here. A missing database is made with `create`."""
    async with AsyncExitStack() as stack:
        reach = None if direct or (work.worker and work.own) else await _server(stack, configuration, person, work)
        if reach is None:
            from remanence.cli.opening import opened
            from remanence.cli.reach_store import reach_store

            runtime = opened(configuration, person, worker=work.worker, create=create, agents=work.agents)
            reach = reach_store(await stack.enter_async_context(runtime))
        yield reach


@asynccontextmanager
async def server_reached(configuration: Configuration, person: str) -> AsyncGenerator[Reach | None]:
    """The server that runs for this database, if one does: for who asks how it does, and never opens the database."""
    async with AsyncExitStack() as stack:
        yield await _server(stack, configuration, person, Work())


async def _server(stack: AsyncExitStack, configuration: Configuration, person: str, work: Work) -> Reach | None:
    from remanence.cli.server_file import announced, place_of, withdraw

    said = announced(configuration)
    if said is None:
        return None
    from remanence.cli.client import opened_client
    from remanence.cli.reach_server import reach_server

    project = configuration.settings.project
    client = await stack.enter_async_context(opened_client(said, person, project))
    try:
        server = await client.get("/server", ServerShape)
    except (StoreUnavailable, Unauthenticated):
        # The process that wrote the file is gone, and another has its number or its port.
        withdraw(place_of(configuration), said)
        return None
    if server.version != __version__:
        note(f"The server at {said.url} is of release {server.version}, not {__version__}: asking the database itself.")
        return None
    if (work.worker and not _can_work(server, work.agents)) or (work.indexed and not server.worker):
        return None
    return reach_server(client, server, person, project)


def _can_work(server: ServerShape, agents: Sequence[Agent]) -> bool:
    return server.worker and all(server.agents.get(agent.name) == spec_digest(agent.spec) for agent in agents)
