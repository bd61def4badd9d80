"""What a request for a response may say, and what of it is shown again.

Every field of the wire format is declared. One that this server cannot honour is declared with the values that ask for
nothing (`moderation` is null), so that any other is refused with the path of the field; so is a field nobody knows.

What reaches the model becomes a spec (`responses/spec.py`); what is only shown again (`metadata`, ...) is kept with the
response.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.responses.choice import Choice
from remanence.api.responses.input import refuse
from remanence.api.responses.mcp import McpBody, shown_server
from remanence.api.who import Who
from remanence.spec import ServiceTier

__all__ = [
    "AGENT",
    "FACE",
    "CompactBody",
    "CountBody",
    "Echo",
    "FunctionBody",
    "Included",
    "JsonFormat",
    "Metadata",
    "ReasoningBody",
    "ResponseBody",
    "SchemaFormat",
    "TextBody",
    "Window",
    "check_include",
    "echo_of",
    "logprobs_of",
    "summary_of",
]

AGENT = "responses"
"""The agent that sessions of mere models belong to."""

FACE = {"wire": "responses"}

COUNT_END = 2**53
"""Nothing is counted that far."""


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
    async_: Literal[False] | None = Field(default=None, alias="async")
    allowed_callers: list[Literal["direct"]] | None = None
    output_schema: None = None


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
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: Literal["standard", "pro"] | None = None


class StreamOptions(_Asked):
    """How to stream; `include_obfuscation` pads every piece of text."""

    include_obfuscation: bool | None = None


class BackgroundOptions(_Asked):
    """When to answer: as soon as possible."""

    completion_window: Literal["soonest"] | None = None
    continuation_id: None = None


class ConversationRef(_Asked):
    """A conversation by its id."""

    id: str


class CacheOptions(_Asked):
    """How the provider is to keep the prompt: as it does by itself."""

    mode: Literal["implicit"] | None = None
    prewarm: Literal[False] | None = None
    ttl: None = None
    comparison_response_id: None = None


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class Window(_Asked):
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


class CountBody(Window):
    """A request to count the tokens of a window."""

    personality: None = None


class CompactBody(_Asked):
    """A request to sum up a conversation."""

    model: str
    input: str | list[Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = Field(default=None, max_length=1_024)
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: ServiceTier | None = None
    image: None = None


Included = Literal[
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""What a response may hold besides. The last five belong to tools that are refused, so there is never one to add."""


def check_include(include: list[str] | None) -> None:
    """What a list or an item is to hold besides. Raises InvalidInput for what there never is."""
    for name in include or ():
        if name not in get_args(Included):
            refuse("include", f"{name!r} is not served")


class ResponseBody(Window):
    """A request for a response."""

    background: bool | None = None
    background_options: BackgroundOptions | None = None
    include: list[Included] | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, lt=COUNT_END)
    max_tool_calls: int | None = Field(default=None, ge=1, lt=COUNT_END)
    metadata: Metadata | None = None
    prompt_cache_key: str | None = Field(default=None, max_length=1_024)
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: Who | None = Field(default=None, max_length=128)
    service_tier: ServiceTier | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    top_p: float | None = Field(default=None, ge=0, le=1)
    user: Who | None = Field(default=None, max_length=128)
    access_programs: None = None
    context_management: None = None
    image: None = None
    moderation: None = None
    prompt: None = None
    prompt_cache_options: CacheOptions | None = None


def logprobs_of(body: ResponseBody) -> int | None:
    """How many of the likeliest tokens are asked for in each place; None when no probabilities are."""
    asks = bool(body.top_logprobs) or "message.output_text.logprobs" in (body.include or ())
    return body.top_logprobs or 0 if asks else None


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
    top_logprobs: int = 0
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
        reasoning={
            "effort": reasoning.effort,
            "summary": summary_of(reasoning),
            **reasoning.model_dump(include={"context", "mode"}, exclude_none=True),
        },
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
        top_logprobs=body.top_logprobs or 0,
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


def summary_of(reasoning: ReasoningBody) -> Literal["auto", "concise", "detailed"] | None:
    """Which summary of its reasoning is asked for."""
    return reasoning.summary or reasoning.generate_summary
