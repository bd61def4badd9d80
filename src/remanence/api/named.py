"""What the `model` of a request names: a model, or an agent whose turns the server runs.

In this order: a ready-made model or an alias of the configuration; an agent of the caller's project; whatever else the
gateway can reach (`provider:name`, or anything when an upstream is set). A script in a file is a name only where the
configuration made it one: a client must not choose files of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from remanence.commands.caller import Caller
from remanence.commands.metering import AGENT
from remanence.errors import InvalidConfig, InvalidInput, NotFound
from remanence.models.gateway import Gateway
from remanence.models.providers import PROVIDERS
from remanence.ports import Model
from remanence.spec import AgentSpec
from remanence.tools.mcp import McpServer

__all__ = ["Named", "Served", "agents_of", "known_names", "named", "owner_of", "requested"]

_WHICH = "GET /v1/models lists those there are; a model of a provider is named `provider:name`."


class UnknownModel(NotFound):
    """There is no model and no agent of that name."""

    code = "model_not_found"


class NoSuchModel(InvalidInput):
    """There is no model and no agent of that name, as Responses says it: with a 400."""

    code = "model_not_found"


class Shelved(Protocol):
    """The agents whose Python functions this process has, and the MCP servers it may reach."""

    def agents(self) -> Sequence[str]: ...

    def server(self, label: str, url: str) -> McpServer: ...


class Served(Protocol):
    """What the faces with models need: an open `remanence.app.Remanence` is one."""

    @property
    def caller(self) -> Caller: ...
    @property
    def gateway(self) -> Gateway: ...
    @property
    def model(self) -> Model: ...
    @property
    def shelf(self) -> Shelved: ...
    async def spec_of(self, agent: str) -> AgentSpec: ...


class Named(msgspec.Struct, frozen=True):
    """What a name stands for: `agent` when it is one's, else the model of that name. `since` in seconds since 1970."""

    name: str
    agent: AgentSpec | None = None
    since: int = 0


async def named(served: Served, caller: Caller, name: str) -> Named:
    """What `name` stands for. Raises NotFound, with `param` model."""
    if name in known_names(served):
        return Named(name)
    agents = await agents_of(served, caller, name)
    if name in agents:
        return agents[name]
    try:
        if name.startswith("scripted:"):
            raise NotFound("a script in a file needs an alias of its own.")
        served.gateway.resolve(name)
    except (NotFound, InvalidConfig):
        raise UnknownModel(
            f"The model `{name}` does not exist or you do not have access to it, nor is there an agent of that name. "
            f"Nothing was done. {_WHICH}",
            param="model",
        ) from None
    return Named(name)


async def requested(served: Served, caller: Caller, name: str) -> Named:
    """What `name` stands for in Responses. Raises NoSuchModel, with `param` model."""
    try:
        return await named(served, caller, name)
    except UnknownModel:
        words = f"The requested model '{name}' does not exist, nor does an agent of that name. Nothing was done. "
        raise NoSuchModel(words + _WHICH, param="model") from None


def known_names(served: Served) -> list[str]:
    """The models that are certain. A script in a file is shown by its alias only."""
    return [name for name in served.gateway.names() if not name.startswith("scripted:")]


async def agents_of(served: Served, caller: Caller, only: str | None = None) -> dict[str, Named]:
    """The agents of the caller's project by name, as they are now; not those that a client made up for one session.

    `only`: just the one of this name, if there is one.
    """
    found: dict[str, Named] = {}
    for version in await caller.database.specs.versions(caller.project, only):
        spec = version.spec
        if version.agent != AGENT and not spec.face:
            since = found[version.agent].since if version.agent in found else version.at // 1_000_000
            found[version.agent] = Named(version.agent, spec, since)
    if caller.project == served.caller.project:
        for name in (name for name in served.shelf.agents() if only in (None, name)):
            since = found[name].since if name in found else 0
            found[name] = Named(name, await served.spec_of(name), since)
    return found


def owner_of(found: Named) -> str:
    """Who is behind a name: the provider, or this server."""
    provider, colon, _ = found.name.partition(":")
    return provider if found.agent is None and colon and provider in PROVIDERS else "remanence"
