"""What the Agents API takes: every field its client can send, nothing else, each with its limits.

A field that was left out and one that was sent as null can mean different things ("keep" and "clear"), so the readers
of these bodies look at `model_fields_set`. What this release cannot do is refused by them, never dropped.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from remanence.api.agents.tools import Body, Schema, Tools

__all__ = [
    "AgentBody",
    "AgentChanges",
    "AgentSettings",
    "EventsBody",
    "HostedEnvironment",
    "InputEvent",
    "InputMessage",
    "SelfHostedEnvironment",
    "SessionBody",
    "SessionChanges",
    "ToolResultInput",
]

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
ServiceTier = Literal["auto", "default", "flex", "priority", "fast", "ultrafast"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
# --- agents -----------------------------------------------------------------------------------------------------------


class Compaction(Body):
    """How context is compacted."""

    background: Annotated[bool | None, Field(alias="async")] = None


class Experimental(Body):
    """Experimental settings."""

    time_awareness: bool = False


class MultiAgent(Body):
    """Subagents."""

    enabled: bool
    max_concurrent_subagents: Annotated[int, Field(ge=1, le=64)] = 6


class Reasoning(Body):
    """How the model reasons."""

    effort: Effort | None = None
    summary: Literal["concise", "detailed", "auto"] | None = None


class AgentTextFormat(Body):
    """Ordinary text."""

    type: Literal["text"]


class JsonSchemaFormat(Body):
    """Text that fits a JSON Schema."""

    type: Literal["json_schema"]
    json_schema: Annotated[Schema, Field(alias="schema")]


class TextSettings(Body):
    """What the model writes."""

    format: Annotated[AgentTextFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class AgentTraits(Body):
    """What an agent is, apart from its name and its model."""

    compaction: Compaction | None = None
    experimental: Experimental | None = None
    instructions: str | None = None
    multi_agent: MultiAgent | None = None
    reasoning: Reasoning | None = None
    service_tier: ServiceTier | None = None
    text: TextSettings | None = None
    tools: Tools | None = None


class AgentSettings(AgentTraits):
    """An agent for one session; all of it may be left out where there is something to keep."""

    model: ModelName | None = None


class AgentChanges(AgentSettings):
    """Changes of an agent: what is left out stays."""

    metadata: Metadata | None = None
    name: Name | None = None


class AgentBody(AgentTraits):
    """A new agent."""

    model: ModelName
    metadata: Metadata | None = None
    name: Name | None = None


# --- environments -----------------------------------------------------------------------------------------------------


class NoEnvironment(Body):
    """None."""

    type: Literal["none"]


class SelfHostedEnvironment(Body):
    """One the application brings."""

    type: Literal["self_hosted"]
    workspace_directory: Annotated[str, StringConstraints(pattern=r"^/")]
    capability_directories: list[str] | None = None


class Desktop(Body):
    """A desktop with a browser."""

    enabled: bool


class Network(Body):
    """What the environment may reach."""

    access: Literal["enabled", "disabled", "restricted"]
    allowed_domains: list[str] | None = None
    blocked_domains: list[str] | None = None


class Packages(Body):
    """What is installed in it."""

    npm: list[str] | None = None
    python: list[str] | None = None
    system: list[str] | None = None


class HostedEnvironment(Body):
    """One this server would bring."""

    type: Literal["openai_hosted"]
    capability_directories: list[str] | None = None
    container_size: Literal["small", "medium", "large"] = "medium"
    desktop: Desktop | None = None
    env: dict[str, str] | None = None
    environment_id: str | None = None
    environment_template_id: str | None = None
    files: list[dict[str, Any]] | None = None
    network: Network | None = None
    packages: Packages | None = None
    plugins: list[dict[str, Any]] | None = None
    setup_commands: list[dict[str, Any]] | None = None
    skills: list[dict[str, Any]] | None = None


# --- inputs -----------------------------------------------------------------------------------------------------------


class InputText(Body):
    """Text."""

    type: Literal["input_text"]
    text: str


class InputImage(Body):
    """A picture: an address, or a `data:` URL."""

    type: Literal["input_image"]
    image_url: str


Content = Annotated[InputText | InputImage, Field(discriminator="type")]


class InputMessage(Body):
    """What the user says."""

    role: Literal["user"]
    content: Annotated[list[Content], Field(min_length=1, max_length=256)]
    type: Literal["message"] = "message"


Messages = Annotated[list[InputMessage], Field(min_length=1, max_length=64)]


class MessageInput(Body):
    """Says something and starts a turn."""

    type: Literal["agent.session.input.message"]
    input: Messages


class CancelInput(Body):
    """Stops the running turn."""

    type: Literal["agent.session.input.cancel"]


class ToolResultInput(Body):
    """The result of a function the client ran."""

    type: Literal["agent.session.input.tool_result"]
    call_id: str
    turn_id: str
    success: bool
    output: str | list[Content] | None = None
    error: str | None = None


class McpDecision(Body):
    """What a person decided."""

    type: Literal["mcp_tool_call"]
    decision: Literal["approve", "deny", "cancel"]


class ApprovalInput(Body):
    """The answer to a call that waits for approval."""

    type: Literal["agent.session.input.mcp_approval_request_result"]
    request_id: str
    response: McpDecision


class ComputerUseInput(Body):
    """The answer to a request of a browser."""

    type: Literal["agent.session.input.computer_use_approval_request_result"]
    request_id: str
    response: dict[str, Any]


InputEvent = Annotated[
    MessageInput | CancelInput | ToolResultInput | ApprovalInput | ComputerUseInput, Field(discriminator="type")
]


class EventsBody(Body):
    """Things to happen in a session, in order."""

    events: Annotated[list[InputEvent], Field(min_length=1, max_length=64)]


# --- sessions ---------------------------------------------------------------------------------------------------------


class PromptCacheOptions(Body):
    """How long the provider should keep a prompt at hand."""

    ttl: Literal["30m", "12h"] = "30m"


class SpendControl(Body):
    """A limit in cents of a US dollar."""

    limit: Annotated[int, Field(ge=1, le=9 * 10**11)] | None


class SessionStreamOptions(Body):
    """How the events are written."""

    include_obfuscation: bool = True


Environment = Annotated[NoEnvironment | SelfHostedEnvironment | HostedEnvironment, Field(discriminator="type")]


class SessionBody(Body):
    """A new session."""

    environment: Environment
    agent: AgentSettings | None = None
    agent_id: str | None = None
    input: str | Messages | None = None
    metadata: Metadata | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    review: Literal["none", "auto_review"] | None = None
    spend_control: SpendControl | None = None
    stream: bool | None = None
    stream_options: SessionStreamOptions | None = None
    vault_ids: list[str] | None = None


class SessionAgentChanges(Body):
    """What may be changed of a session's agent."""

    model: ModelName | None = None
    reasoning: Reasoning | None = None
    service_tier: ServiceTier | None = None
    tools: Tools | None = None


class SessionChanges(Body):
    """Changes of a session: what is left out stays."""

    agent: SessionAgentChanges | None = None
    metadata: Metadata | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    review: Literal["none", "auto_review"] | None = None
    spend_control: SpendControl | None = None
