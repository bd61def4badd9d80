"""What a request for a response may say, and what it comes to: a spec to answer by, and what is shown again.

Every field of the wire format is declared. One that this server cannot honour is declared with the values that ask for
nothing (`top_logprobs` is 0), so that any other is refused with the path of the field; so is a field nobody knows.

The spec holds what reaches the model and nothing else: the same parameters are the same version, whoever asks. What is
only shown again (`metadata`, `prompt_cache_key`, ...) is kept with the response.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.named import Named
from remanence.api.response_input import Spoken, refuse
from remanence.api.response_mcp import Listed, McpBody, rules_of, shown_server
from remanence.core.registry import checked, implied_allows
from remanence.spec import AgentSpec, Limits, ModelSettings, Rule, ToolSpec

__all__ = ["AGENT", "CompactBody", "CountBody", "Echo", "ResponseBody", "agent_of", "echo_of", "spec_for"]

AGENT = "responses"
"""The agent that sessions of mere models belong to."""

FACE = {"wire": "responses"}
WINDOW_TOKENS_AUTO = 32_000
WINDOW_TOKENS_DISABLED = 100_000_000
OUTPUT_TOKENS = 4_096
_ENOUGH = 1_000_000


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FunctionBody(_Asked):
    """A function that the client runs."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: Literal[False] | None = None


class ChosenBody(_Asked):
    """The one function that must be called."""

    type: Literal["function"]
    name: str


class AllowedBody(_Asked):
    """The tools among which the model may choose."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[ChosenBody] = Field(min_length=1)


class TextFormat(_Asked):
    """Plain text."""

    type: Literal["text"] = "text"


class SchemaFormat(_Asked):
    """JSON that fits a schema. Providers are always asked to keep to it strictly."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextBody(_Asked):
    """The shape of the reply."""

    format: Annotated[TextFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ReasoningBody(_Asked):
    """How much the model thinks. Which summary of it a provider gives is its own choice."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto"] | None = None
    generate_summary: Literal["auto"] | None = None
    context: Literal["auto", "all_turns"] | None = None
    mode: Literal["standard"] | None = None


class StreamOptions(_Asked):
    """How to stream."""

    include_obfuscation: Literal[False] | None = None


class BackgroundOptions(_Asked):
    """When to answer: as soon as possible."""

    completion_window: Literal["soonest"] | None = None


class ConversationRef(_Asked):
    """A conversation by its id."""

    id: str


Choice = Literal["none", "auto", "required"] | ChosenBody | AllowedBody
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class _Window(_Asked):
    """What makes a model's window: shared by creating and counting."""

    model: str | None = None
    input: str | list[Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    tools: list[Annotated[FunctionBody | McpBody, Field(discriminator="type")]] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningBody | None = None
    text: TextBody | None = None
    truncation: Literal["auto", "disabled"] | None = None


class CountBody(_Window):
    """A request to count the tokens of a window."""

    personality: None = None


class CompactBody(_Asked):
    """A request to sum up a conversation."""

    model: str
    input: str | list[Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: None = None
    prompt_cache_retention: Literal["in_memory"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    image: None = None


class ResponseBody(_Window):
    """A request for a response."""

    background: bool | None = None
    background_options: BackgroundOptions | None = None
    include: list[Literal["reasoning.encrypted_content", "message.input_image.image_url"]] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=1)
    metadata: Metadata | None = None
    prompt_cache_key: str | None = Field(default=None, max_length=1_024)
    prompt_cache_retention: Literal["in_memory"] | None = None
    safety_identifier: str | None = Field(default=None, max_length=128)
    service_tier: Literal["auto", "default"] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_logprobs: Literal[0] | None = None
    top_p: float | None = Field(default=None, ge=0, le=1)
    user: str | None = Field(default=None, max_length=128)
    access_programs: None = None
    context_management: None = None
    image: None = None
    moderation: None = None
    prompt: None = None
    prompt_cache_options: None = None


class Echo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a response shows of its request, besides what it came to."""

    model: str
    instructions: str | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: Any = "auto"
    text: dict[str, Any] = {}
    reasoning: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    parallel_tool_calls: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    truncation: str = "disabled"
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    user: str | None = None
    encrypted: bool = False
    """Whether reasoning items carry what their provider takes back."""


def echo_of(body: ResponseBody, model: str) -> Echo:
    """The echo of a request."""
    text = body.text or TextBody()
    reasoning = body.reasoning or ReasoningBody()
    form = text.format or TextFormat()
    shown_text: dict[str, Any] = {"format": form.model_dump(by_alias=True, exclude_none=True)}
    if text.verbosity is not None:
        shown_text["verbosity"] = text.verbosity
    choice = body.tool_choice or "auto"
    return Echo(
        model=model,
        instructions=body.instructions,
        tools=[_shown_tool(tool) for tool in body.tools or ()],
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(),
        text=shown_text,
        reasoning={"effort": reasoning.effort, "summary": reasoning.summary},
        metadata=body.metadata or {},
        parallel_tool_calls=body.parallel_tool_calls is not False,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        truncation=body.truncation or "disabled",
        prompt_cache_key=body.prompt_cache_key,
        prompt_cache_retention=body.prompt_cache_retention,
        safety_identifier=body.safety_identifier,
        user=body.user,
        encrypted="reasoning.encrypted_content" in (body.include or ()),
    )


def _shown_tool(tool: FunctionBody | McpBody) -> dict[str, Any]:
    if isinstance(tool, McpBody):
        return shown_server(tool)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def spec_for(body: _Window, found: Named, spoken: tuple[Spoken, ...], listed: tuple[Listed, ...] = ()) -> AgentSpec:
    """The spec that answers: the agent that was named, as it is, or one made of the request's parameters.

    Raises InvalidInput with the path of what cannot be honoured.
    """
    if found.agent is not None:
        return agent_of(body, found.agent, spoken)
    every = (*_tools(body), *(tool for one in listed for tool in one.tools))
    tools = _allowed(body.tool_choice, every)
    texts = (body.instructions, *(one.text for one in spoken))
    asked = body if isinstance(body, ResponseBody) else ResponseBody()
    form = body.text.format if body.text else None
    return checked(
        AgentSpec(
            name=AGENT,
            model=found.name,
            instructions="\n\n".join(text for text in texts if text),
            tools=tools,
            rules=_rules(tools, listed),
            limits=Limits(
                window_tokens=WINDOW_TOKENS_AUTO if body.truncation == "auto" else WINDOW_TOKENS_DISABLED,
                output_tokens=asked.max_output_tokens or OUTPUT_TOKENS,
                model_calls_per_turn=_ENOUGH,
                tool_calls_per_reply=128,
                tool_calls_per_turn=asked.max_tool_calls,
                repeats_before_asking=_ENOUGH,
                reopening="off",  # a client answers every call that it is shown
            ),
            settings=ModelSettings(
                temperature=asked.temperature,
                top_p=asked.top_p,
                reasoning_effort=body.reasoning.effort if body.reasoning else None,
                parallel_tool_calls=body.parallel_tool_calls,
                tool_choice=_choice(body.tool_choice, tools),
                output_schema=form.schema_ if isinstance(form, SchemaFormat) else None,
            ),
            face=FACE,
        )
    )


def agent_of(body: _Window, agent: AgentSpec, spoken: tuple[Spoken, ...]) -> AgentSpec:
    """An agent as it was declared; a request that would change it is refused."""
    if spoken:
        refuse("input", f"{agent.name} is an agent with instructions of its own; it takes no system message")
    for name in ("instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text", "truncation",
                 "temperature", "top_p", "max_output_tokens", "max_tool_calls"):  # fmt: skip
        value = getattr(body, name, None)
        if value is not None and value != "auto" and value != []:
            refuse(name, f"{body.model or agent.name} is an agent, and its own declaration says this")
    return agent


def _rules(tools: tuple[ToolSpec, ...], listed: tuple[Listed, ...]) -> tuple[Rule, ...]:
    names = {tool.name for tool in tools}
    asked = tuple(rule for rule in rules_of(listed) if rule.tools in names)
    return (*asked, *implied_allows([tool for tool in tools if tool.kind == "client"], ()))


def _tools(body: _Window) -> tuple[ToolSpec, ...]:
    """The client's functions. Only the client knows what they do, so none is ever started twice."""
    names: set[str] = set()
    made: list[ToolSpec] = []
    for index, tool in enumerate(body.tools or ()):
        if isinstance(tool, McpBody):
            continue
        path = f"tools[{index}]"
        if tool.name in names:
            refuse(f"{path}.name", f"two tools are called {tool.name!r}")
        names.add(tool.name)
        parameters = tool.parameters or {"type": "object", "properties": {}}
        if parameters.get("type") != "object":
            refuse(f"{path}.parameters", "a JSON Schema with `type` object is expected")
        made.append(
            ToolSpec(tool.name, tool.description or "", parameters, kind="client", replay="never", strict=tool.strict)
        )
    return tuple(made)


def _allowed(choice: Choice | None, tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
    if not isinstance(choice, AllowedBody):
        return tools
    names = [tool.name for tool in choice.tools]
    for index, name in enumerate(names):
        if not any(tool.name == name for tool in tools):
            refuse(f"tool_choice.tools[{index}].name", f"{name!r} is not among `tools`")
    return tuple(tool for tool in tools if tool.name in names)


def _choice(choice: Choice | None, tools: tuple[ToolSpec, ...]) -> str | None:
    if choice is None or isinstance(choice, str):
        if choice == "required" and not tools:
            refuse("tool_choice", "`required` needs `tools`")
        return choice
    if isinstance(choice, AllowedBody):
        return choice.mode
    if not any(tool.name == choice.name for tool in tools):
        refuse("tool_choice.name", f"{choice.name!r} is not among `tools`")
    return choice.name
