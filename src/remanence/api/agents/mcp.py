"""MCP servers that an agent of the Agents API declares: `tools` of type `mcp`.

A server is asked what it offers when the agent, or the session that brings its own, is declared; what it offers is
pinned in the version, like everything else that answers. Its tools are then run here like an agent's own. The vendor's
format has no word for which calls ask a person first: every call does, unless `require_approval`, which is ours and has
the form of the Responses API, says otherwise.

A server that cannot be reached is refused when it is declared and when a session opens, if it is `required`. Another is
left out, and the tool says so where it is shown: `unavailable`, a field of ours, holds the reason. It is asked again by
every session that opens; a session that found it keeps what it offers.

The names of these tools, and whether their calls ask first, are kept in the version's `face` under `mcp`: so they are
told from tools that the agent's own code brings, and replaced when the client declares others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.api.agents.tools import HttpTransport, McpTool, Tool
from remanence.api.responses.mcp import NO_SECRET, Listed, McpBody, Reaching, listed_by, rules_of
from remanence.core.builtins import BUILTINS
from remanence.errors import InvalidInput, Unsupported
from remanence.spec import AgentSpec, Rule, ToolSpec
from remanence.tools.mcp import remote_of

__all__ = [
    "NO_SERVERS",
    "Servers",
    "asked_again",
    "check_required",
    "own_rules",
    "own_tools",
    "servers_among",
    "servers_of",
    "shown_mcp",
    "with_absent",
]

ABSENT = "unavailable"


class Servers(msgspec.Struct, frozen=True):
    """What the MCP servers of a declaration offer: their tools, and for each whether its calls ask first.

    `absent` are those that could not be reached, by their labels, each with the reason.
    """

    tools: tuple[ToolSpec, ...] = ()
    asks: dict[str, bool] = {}
    absent: dict[str, str] = {}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Who may be called, and who asks first."""
        return rules_of([Listed("", self.tools, tuple(name for name, asks in self.asks.items() if asks), [])])


NO_SERVERS = Servers()


async def servers_among(reach: Reaching, tools: Sequence[Tool], at: str, *, known: AgentSpec | None = None) -> Servers:
    """What the servers among declared tools offer now. `at` is where the tools lie in the request.

    A tool that has the name of a built-in one, or of one that the agent's code brings (in `known`), gets another: a
    name is one tool's for good. Raises InvalidInput with the path of the field, McpUnreachable.
    """
    return await _among(reach, tools, at, (*BUILTINS, *(own_tools(known) if known is not None else ())))


async def _among(reach: Reaching, tools: Sequence[Tool], at: str, taken: Iterable[str]) -> Servers:
    bodies: list[object] = [_as_asked(tool) if isinstance(tool, McpTool) else tool for tool in tools]
    optional = [tool.server_label for tool in tools if isinstance(tool, McpTool) and not tool.required]
    listed = await listed_by(reach, bodies, at=at, url="transport.server_url", taken=taken, optional=optional)
    metadata = {tool.server_label: tool.request_metadata for tool in tools if isinstance(tool, McpTool)}
    made = [_with_metadata(tool, metadata[one.label]) for one in listed for tool in one.tools]
    asks = {name for one in listed for name in one.asks}
    absent = {one.label: one.absent for one in listed if one.absent}
    return Servers(tuple(made), {tool.name: tool.name in asks for tool in made}, absent)


async def asked_again(reach: Reaching, spec: AgentSpec) -> Servers | None:
    """What a version's servers offer, when one is there now that was away when it was declared; else None."""
    known = servers_of(spec)
    if not known.absent:
        return None
    declared = [tool for tool in spec.face["agent"]["tools"] if tool.get("server_label") in known.absent]
    tools = [McpTool.model_validate({k: v for k, v in tool.items() if k != ABSENT}) for tool in declared]
    found = await _among(reach, tools, "agent.tools", (*BUILTINS, *(tool.name for tool in spec.tools)))
    if found.absent.keys() == known.absent.keys():
        return None
    return Servers((*known.tools, *found.tools), {**known.asks, **found.asks}, found.absent)


def servers_of(spec: AgentSpec) -> Servers:
    """What a version was declared with here."""
    asks: dict[str, bool] = spec.face.get("mcp", {})
    declared: list[dict[str, Any]] = spec.face.get("agent", {}).get("tools", [])
    absent = {tool["server_label"]: tool[ABSENT] for tool in declared if ABSENT in tool}
    return Servers(tuple(tool for tool in spec.tools if tool.name in asks), asks, absent)


def with_absent(config: dict[str, Any], servers: Servers) -> dict[str, Any]:
    """A configuration whose servers say which of them are away."""
    tools = [{name: value for name, value in tool.items() if name != ABSENT} for tool in config["tools"]]
    for tool in tools:
        if tool.get("server_label") in servers.absent:
            tool[ABSENT] = servers.absent[tool["server_label"]]
    return {**config, "tools": tools}


def own_tools(spec: AgentSpec) -> dict[str, ToolSpec]:
    """The tools of a version that its own code brings, by name."""
    declared = spec.face.get("mcp", {})
    return {tool.name: tool for tool in spec.tools if tool.kind != "client" and tool.name not in declared}


def own_rules(spec: AgentSpec, left: Collection[str]) -> tuple[Rule, ...]:
    """The rules of a version, without those that `Servers.rules` put behind them and those of tools not `left`."""
    rules = spec.rules[: len(spec.rules) - len(servers_of(spec).rules)]
    gone = {tool.name for tool in spec.tools}.difference(left)
    return tuple(rule for rule in rules if rule.tools not in gone)


async def check_required(reach: Reaching, tools: Sequence[dict[str, Any]]) -> None:
    """Ask the servers that a session cannot begin without whether they are there. Raises McpUnreachable."""
    for tool in tools:
        if tool["type"] == "mcp" and tool["required"]:
            await reach.server(tool["server_label"], tool["transport"]["server_url"]).offered()


def _as_asked(tool: McpTool) -> McpBody:
    """The same server in the words of the Responses API."""
    assert isinstance(tool.transport, HttpTransport)
    return McpBody(
        type="mcp",
        server_label=tool.server_label,
        server_url=tool.transport.server_url,
        allowed_tools=tool.allowed_tools,
        require_approval=tool.require_approval,
    )


def _with_metadata(tool: ToolSpec, metadata: dict[str, Any] | None) -> ToolSpec:
    remote = remote_of(tool)
    if not metadata or remote is None:
        return tool
    return replace(tool, source=msgspec.json.encode(replace(remote, metadata=metadata)).decode())


def shown_mcp(tool: McpTool, path: str) -> dict[str, Any]:
    """A server as the agent repeats it. Raises Unsupported and InvalidInput for what cannot be honoured."""
    if not isinstance(tool.transport, HttpTransport):
        raise Unsupported(
            f"{path}.transport.type: a client does not start processes on this server. Nothing was written; give the "
            "agent such a server where it is declared in code.",
            param=f"{path}.transport.type",
        )
    if tool.connection_origin == "environment":
        raise Unsupported(
            f"{path}.connection_origin: there are no environments to connect from. Nothing was written; leave it out.",
            param=f"{path}.connection_origin",
        )
    if tool.credential_id is not None:
        raise InvalidInput(
            f"{path}.credential_id: there is no credential {tool.credential_id[:100]!r}, because vaults are not "
            "available in this release. Nothing was written; declare a server that needs one with an agent, in code.",
            param=f"{path}.credential_id",
        )
    for field in ("authorization", "headers"):
        if getattr(tool.transport, field):
            raise Unsupported(
                f"{path}.transport.{field}: {NO_SECRET}. Nothing was written.",
                param=f"{path}.transport.{field}",
            )
    shown: dict[str, Any] = {
        "type": "mcp",
        "server_label": tool.server_label,
        "transport": {"type": "http", "server_url": tool.transport.server_url, "headers": {}},
        "allowed_tools": tool.allowed_tools,
        "connection_origin": "service",
        "credential_id": None,
        "request_metadata": tool.request_metadata or {},
        "required": tool.required,
    }
    if tool.require_approval is not None:
        approval = tool.require_approval
        shown["require_approval"] = approval if isinstance(approval, str) else approval.model_dump(exclude_none=True)
    return shown
