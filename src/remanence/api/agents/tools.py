"""The tools an agent of the Agents API may be given, as its client declares them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from remanence.api.responses.mcp import ApprovalFilter

__all__ = [
    "Body",
    "FunctionTool",
    "HttpTransport",
    "McpTool",
    "ProgrammaticToolCalling",
    "Schema",
    "Tool",
    "ToolSearch",
    "Tools",
    "WebSearch",
]

Schema = dict[str, Any]


class Body(BaseModel):
    """A part of a request: no field that is not declared, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FunctionTool(Body):
    """A function that the client runs."""

    type: Literal["function"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str
    parameters: Schema
    defer_loading: bool = False
    background: Annotated[bool, Field(alias="async")] = False


class ToolSearch(Body):
    """Finds deferred functions."""

    type: Literal["tool_search"]


class ProgrammaticToolCalling(Body):
    """Calls tools from code the model writes."""

    type: Literal["programmatic_tool_calling"]
    enabled: bool = True


class HttpTransport(Body):
    """An MCP server behind HTTP."""

    type: Literal["http"]
    server_url: str
    authorization: str | None = None
    headers: dict[str, str] | None = None


class StdioTransport(Body):
    """An MCP server that is a process."""

    type: Literal["stdio"]
    command: str
    cwd: str
    args: list[str] | None = None
    env: dict[str, str] | None = None
    env_vars: list[str] | None = None


class McpTool(Body):
    """Tools of an MCP server. `require_approval` is ours, in the form of the Responses API: which calls ask first."""

    type: Literal["mcp"]
    server_label: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    transport: Annotated[HttpTransport | StdioTransport, Field(discriminator="type")]
    allowed_tools: list[str] | None = None
    connection_origin: Literal["service", "environment"] | None = None
    credential_id: str | None = None
    request_metadata: dict[str, Any] | None = None
    require_approval: Literal["always", "never"] | ApprovalFilter | None = None
    required: bool = False


class Location(Body):
    """About where somebody is."""

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class WebSearch(Body):
    """Search on the web."""

    type: Literal["web_search"]
    allowed_domains: list[str] | None = None
    context_size: Literal["low", "medium", "high"] | None = None
    location: Location | None = None
    mode: Literal["disabled", "cached", "live"] | None = None


class ComputerUse(Body):
    """A browser."""

    type: Literal["computer_use"]
    include_screenshots: bool = False


class Automations(Body):
    """Wake-ups the agent sets for itself."""

    type: Literal["automations"]


Tool = Annotated[
    FunctionTool | ToolSearch | ProgrammaticToolCalling | McpTool | WebSearch | ComputerUse | Automations,
    Field(discriminator="type"),
]
Tools = Annotated[list[Tool], Field(max_length=256)]
