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
from remanence.api.response_choice import Choice, allowed, forced
from remanence.api.response_input import Spoken, refuse
from remanence.api.response_mcp import Listed, McpBody, rules_of, shown_server
from remanence.core.registry import checked, implied_allows
from remanence.core.state import Session
from remanence.spec import AgentSpec, Limits, ModelSettings, Rule, ServiceTier, ToolSpec

SETTINGS = {
    "reasoning_effort": "reasoning.effort",
    "reasoning_summary": "reasoning.summary",
    "tool_choice_among": "tool_choice",
    "output_schema": "text.format",
    "output_json": "text.format.type",
    "verbosity": "text.verbosity",
}
"""Where the fields of `ModelSettings` lie in a request, unless they are called the same."""

__all__ = [
    "AGENT",
    "CompactBody",
    "SETTINGS",
    "CountBody",
    "Echo",
    "ResponseBody",
    "agent_of",
    "echo_of",
    "spec_for",
    "spec_in",
]

AGENT = "responses"
"""The agent that sessions of mere models belong to."""

FACE = {"wire": "responses"}
WINDOW_TOKENS_AUTO = 32_000
WINDOW_TOKENS_DISABLED = 100_000_000
WINDOW_TOKENS_LEAST = 1_000
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


class TextFormat(_Asked):
    """Plain text."""

    type: Literal["text"] = "text"


class JsonFormat(_Asked):
    """A JSON object of any shape."""

    type: Literal["json_object"]


class SchemaFormat(_Asked):
    """JSON that fits a schema: held to it with `strict`; without a word of it, where the schema allows that."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextBody(_Asked):
    """The shape of the reply."""

    format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningBody(_Asked):
    """How much the model thinks, and which summary of it is shown. `generate_summary` is an older name of that."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
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
    prompt_cache_key: str | None = Field(default=None, max_length=1_024)
    prompt_cache_options: None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: ServiceTier | None = None
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
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: str | None = Field(default=None, max_length=128)
    service_tier: ServiceTier | None = None
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
    service_tier: str | None = None
    """The one that was asked for: it is shown until it is known which was used."""
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
        tool_choice=choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
        text=shown_text,
        reasoning={"effort": reasoning.effort, "summary": _summary(reasoning)},
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
        service_tier=body.service_tier,
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


def _summary(reasoning: ReasoningBody) -> Literal["auto", "concise", "detailed"] | None:
    return reasoning.summary or reasoning.generate_summary


def spec_for(
    body: _Window,
    found: Named,
    spoken: tuple[Spoken, ...],
    listed: tuple[Listed, ...] = (),
    *,
    context_window: int | None = None,
) -> AgentSpec:
    """The spec that answers: the agent that was named, as it is, or one made of the request's parameters.

    `context_window` is how many tokens the model reads, if that is known. Raises InvalidInput with the path of what
    cannot be honoured.
    """
    if found.agent is not None:
        return agent_of(body, found.agent, spoken)
    every = (*_tools(body), *(tool for one in listed for tool in one.tools))
    tools = allowed(body.tool_choice, every, listed)
    texts = (body.instructions, *(one.text for one in spoken))
    asked = body if isinstance(body, ResponseBody) else ResponseBody()
    output_tokens = asked.max_output_tokens or OUTPUT_TOKENS
    return checked(
        AgentSpec(
            name=AGENT,
            model=found.name,
            instructions="\n\n".join(text for text in texts if text),
            tools=tools,
            rules=_rules(tools, listed),
            limits=Limits(
                window_tokens=_window_tokens(body, context_window, output_tokens),
                output_tokens=output_tokens,
                model_calls_per_turn=_ENOUGH,
                tool_calls_per_reply=128,
                tool_calls_per_turn=asked.max_tool_calls,
                repeats_before_asking=_ENOUGH,
                reopening="off",  # a client answers every call that it is shown
            ),
            settings=_settings(body, asked, tools, listed),
            face=FACE,
        )
    )


def _window_tokens(body: _Window, context_window: int | None, output_tokens: int) -> int:
    """How much of the conversation is sent. Tokens are estimated, so a tenth of what the model reads stays free."""
    if body.truncation != "auto":
        return WINDOW_TOKENS_DISABLED
    if context_window is None:
        return WINDOW_TOKENS_AUTO
    return max(WINDOW_TOKENS_LEAST, context_window * 9 // 10 - output_tokens)


def _settings(
    body: _Window, asked: ResponseBody, tools: tuple[ToolSpec, ...], listed: tuple[Listed, ...]
) -> ModelSettings:
    reasoning, text = body.reasoning or ReasoningBody(), body.text or TextBody()
    form, (choice, among) = text.format, forced(body.tool_choice, tools, listed)
    made = ModelSettings(
        temperature=asked.temperature,
        top_p=asked.top_p,
        reasoning_effort=reasoning.effort,
        reasoning_summary=_summary(reasoning),
        parallel_tool_calls=body.parallel_tool_calls,
        tool_choice=choice,
        tool_choice_among=among,
        output_json=isinstance(form, JsonFormat),
        verbosity=text.verbosity,
        service_tier=asked.service_tier,
        prompt_cache_key=asked.prompt_cache_key,
        prompt_cache_retention=asked.prompt_cache_retention,
    )
    if not isinstance(form, SchemaFormat):
        return made
    return msgspec.structs.replace(
        made,
        output_schema=form.schema_,
        output_name=form.name,
        output_description=form.description or "",
        output_strict=form.strict,
    )


def spec_in(spec: AgentSpec, s: Session) -> AgentSpec:
    """A request's spec in the open turn of a session: what earlier responses of the turn ran is not counted again."""
    most = spec.limits.tool_calls_per_turn
    if spec.name != AGENT or most is None or s.turn is None or not s.turn.ran:
        return spec
    limits = msgspec.structs.replace(spec.limits, tool_calls_per_turn=most + s.turn.ran)
    return msgspec.structs.replace(spec, limits=limits)


_OF_AN_AGENT = (
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "service_tier",
    "prompt_cache_retention",
)


def agent_of(body: _Window, agent: AgentSpec, spoken: tuple[Spoken, ...]) -> AgentSpec:
    """An agent as it was declared; a request that would change it is refused."""
    if spoken:
        refuse("input", f"{agent.name} is an agent with instructions of its own; it takes no system message")
    for name in _OF_AN_AGENT:
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
