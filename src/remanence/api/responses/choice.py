"""Which tool a model is to call: `tool_choice`, among functions and the tools of MCP servers.

A forced call is made once: what it came to can be answered (`runtime/effects.py`). `allowed_tools` leaves the model the
tools it names and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from remanence.api.responses.input import refuse
from remanence.api.responses.mcp import Listed
from remanence.spec import ToolSpec
from remanence.tools.mcp import remote_of

__all__ = ["Choice", "allowed", "forced"]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ChosenFunction(_Asked):
    """The one function that must be called."""

    type: Literal["function"]
    name: str


class ChosenServer(_Asked):
    """The MCP server of which a tool must be called, and which, if only one will do."""

    type: Literal["mcp"]
    server_label: str
    name: str | None = None


Chosen = Annotated[ChosenFunction | ChosenServer, Field(discriminator="type")]


class AllowedTools(_Asked):
    """The tools among which the model may choose."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[Chosen] = Field(min_length=1)


Choice = (
    Literal["none", "auto", "required"]
    | Annotated[ChosenFunction | ChosenServer | AllowedTools, Field(discriminator="type")]
)


def allowed(choice: Choice | None, tools: tuple[ToolSpec, ...], listed: Sequence[Listed]) -> tuple[ToolSpec, ...]:
    """The tools the model may call. Raises InvalidInput for one that is not among `tools`."""
    if not isinstance(choice, AllowedTools):
        return tools
    names: set[str] = set()
    for index, tool in enumerate(choice.tools):
        names |= set(_names(tool, tools, listed, f"tool_choice.tools[{index}]"))
    return tuple(tool for tool in tools if tool.name in names)


def forced(
    choice: Choice | None, tools: tuple[ToolSpec, ...], listed: Sequence[Listed]
) -> tuple[str | None, tuple[str, ...]]:
    """What `ModelSettings` says of it: `tool_choice` and `tool_choice_among`. Raises InvalidInput."""
    match choice:
        case None | str():
            if choice == "required" and not tools:
                refuse("tool_choice", "`required` needs `tools`")
            return choice, ()
        case AllowedTools():
            return choice.mode, ()
        case _:
            names = _names(choice, tools, listed, "tool_choice")
            return (names[0], ()) if len(names) == 1 else ("required", tuple(names))


def _names(chosen: Chosen, tools: Iterable[ToolSpec], listed: Sequence[Listed], path: str) -> list[str]:
    """The names, as the model knows them, of the tools that are meant."""
    if isinstance(chosen, ChosenFunction):
        if not any(tool.name == chosen.name and tool.kind == "client" for tool in tools):
            refuse(f"{path}.name", f"{chosen.name!r} is not among the functions of `tools`")
        return [chosen.name]
    server = next((one for one in listed if one.label == chosen.server_label), None)
    if server is None:
        refuse(f"{path}.server_label", f"no server of `tools` is called {chosen.server_label!r}")
    offered = {remote.tool: tool.name for tool in server.tools if (remote := remote_of(tool))}
    if not offered:
        refuse(f"{path}.server_label", f"{chosen.server_label!r} offers no tool that may be called")
    if chosen.name is None:
        return list(offered.values())
    if chosen.name not in offered:
        refuse(f"{path}.name", f"{chosen.server_label} has no tool {chosen.name!r} that may be called")
    return [offered[chosen.name]]
