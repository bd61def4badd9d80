"""MCP servers that a request names: `tools` of type `mcp`.

The server is asked what it offers when the request comes, and what it offers is part of the version that answers. Its
tools are then run here like an agent's own: journaled before they leave, judged by rules, `never` run twice unless the
server's annotations say they may. `require_approval` becomes a rule; by default every call asks first.

What a request says of a server is journaled with the version, so it must hold no secret: `headers` and `authorization`
are refused, and so is an address with a secret in it (`?api_key=`). Servers that need them are declared with an agent,
in code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.responses.input import refuse
from remanence.errors import InvalidInput, McpUnreachable
from remanence.spec import AllowRule, AskRule, Rule, ToolSpec
from remanence.tools.mcp import McpServer, McpTool, remote_of, secret_in

__all__ = ["Listed", "McpBody", "Reaching", "Remotes", "listed_by", "remotes_of", "rules_of", "shown_server"]


Remotes = Mapping[str, tuple[str, str]]
"""The server's label, and its own name for the tool, of each tool that runs on one."""


class Reaching(Protocol):
    """Who may connect to MCP servers."""

    def server(self, label: str, url: str) -> McpServer: ...


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ToolFilter(_Asked):
    """Some tools of a server: those of these names, those that only read, or both."""

    tool_names: list[str] | None = None
    read_only: bool | None = None


class ApprovalFilter(_Asked):
    """Which calls ask first, and which do not."""

    always: ToolFilter | None = None
    never: ToolFilter | None = None


class McpBody(_Asked):
    """An MCP server whose tools this server runs."""

    type: Literal["mcp"]
    server_label: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    server_url: str | None = None
    server_description: str | None = None
    allowed_tools: list[str] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalFilter | None = None
    headers: dict[str, str] | None = None
    authorization: str | None = None
    connector_id: None = None
    tunnel_id: None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None


NO_SECRET = "what a request says is journaled, so it must hold no secret: declare such a server with an agent, in code"


class Listed(msgspec.Struct, frozen=True):
    """What one server offered: the tools that may be called, and all of them as clients are shown them."""

    label: str
    tools: tuple[ToolSpec, ...]
    asks: tuple[str, ...]
    """The names of those whose calls ask first."""
    offer: list[dict[str, Any]]
    absent: str = ""
    """Why it could not be asked."""


async def listed_by(
    reach: Reaching,
    tools: Sequence[object],
    *,
    at: str = "tools",
    url: str = "server_url",
    taken: Iterable[str] = (),
    optional: Collection[str] = (),
) -> tuple[Listed, ...]:
    """What the servers among the tools of a request offer. Raises InvalidInput, McpUnreachable.

    `at` and `url` are where the tools lie in the request, and in a tool the address; `taken` are names that none of
    them may have; `optional` the labels of servers that may be away.
    """
    taken = set(taken) | {name for tool in tools if isinstance(name := getattr(tool, "name", None), str)}
    found: list[Listed] = []
    for index, body in enumerate(tools):
        if not isinstance(body, McpBody):
            continue
        path = f"{at}[{index}]"
        if any(one.label == body.server_label for one in found):
            refuse(f"{path}.server_label", f"two servers are called {body.server_label!r}")
        if body.server_url is None:
            refuse(f"{path}.{url}", "it is missing: only an agent that `model` names is known by its label alone")
        for field in ("authorization", "headers"):
            if getattr(body, field):
                refuse(f"{path}.{field}", NO_SECRET)
        if secret := secret_in(body.server_url):
            refuse(f"{path}.{url}", f"it holds {secret}; {NO_SECRET}")
        try:
            server = reach.server(body.server_label, body.server_url)
        except InvalidInput as error:
            raise InvalidInput(f"{path}.{url}: {error.message}", param=f"{path}.{url}") from None
        try:
            found.append(_listed(body, await server.offered(), taken, path))
        except McpUnreachable as error:
            if body.server_label not in optional:
                raise
            found.append(Listed(body.server_label, (), (), [], error.message))
    return tuple(found)


def _listed(body: McpBody, offered: Sequence[McpTool], taken: set[str], path: str) -> Listed:
    allowed = body.allowed_tools
    wanted = ToolFilter(tool_names=allowed) if isinstance(allowed, list) else allowed
    known = [tool.offer["name"] for tool in offered]
    for name in (wanted.tool_names if wanted else None) or ():
        if name not in known:
            refuse(f"{path}.allowed_tools", f"{body.server_label} has no tool {name!r}; it has {', '.join(known)}")
    chosen = [tool for tool in offered if wanted is None or _fits(wanted, tool)]
    named = [_named(tool, body.server_label, taken) for tool in chosen]
    asks = tuple(tool.spec.name for tool in named if _asks(body.require_approval, tool))
    return Listed(
        body.server_label, tuple(tool.spec for tool in named), asks, [_without_null(tool.offer) for tool in named]
    )


def _named(tool: McpTool, label: str, taken: set[str]) -> McpTool:
    """The tool under a name that no other tool of the request has."""
    name = tool.spec.name
    if name in taken:
        tool = tool.called(f"{label[: 62 - min(len(name), 40)]}__{name[:40]}")
    taken.add(tool.spec.name)
    return tool


def _fits(wanted: ToolFilter, tool: McpTool) -> bool:
    if wanted.tool_names is not None and tool.offer["name"] not in wanted.tool_names:
        return False
    return wanted.read_only is None or (tool.spec.replay == "safe") == wanted.read_only


def _asks(wish: Literal["always", "never"] | ApprovalFilter | None, tool: McpTool) -> bool:
    """Whether a call asks first: always, unless the request plainly says that it need not."""
    if not isinstance(wish, ApprovalFilter):
        return wish != "never"
    if wish.always is not None and _fits(wish.always, tool):
        return True
    return wish.never is None or not _fits(wish.never, tool)


def _without_null(offer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in offer.items() if value is not None}


def rules_of(listed: Sequence[Listed]) -> tuple[Rule, ...]:
    """Who may be called, and who asks first."""
    rules: list[Rule] = []
    for one in listed:
        rules += [AskRule(t.name) if t.name in one.asks else AllowRule(t.name) for t in one.tools]
    return tuple(rules)


def remotes_of(tools: Sequence[ToolSpec]) -> Remotes:
    """The server's label and its name for each tool that runs on one."""
    return {tool.name: (remote.server, remote.tool) for tool in tools if (remote := remote_of(tool))}


def shown_server(body: McpBody) -> dict[str, Any]:
    """A server as the response repeats it."""
    shown = body.model_dump(exclude_none=True, exclude={"defer_loading"})
    shown.setdefault("require_approval", "always")
    return {**shown, "allowed_tools": shown.get("allowed_tools"), "headers": None}
