"""Chat Completions as pydantic shapes: what a request may say, and what is answered.

A field that this server cannot honour is declared with the one value that asks for nothing (`n` is 1, `logprobs` is
false), so that any other value is refused with the path of the field, and so is a field nobody knows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from remanence.api.who import Who
from remanence.content import Detail

__all__ = [
    "ChatAllowedTools",
    "ChatChosenFunction",
    "ChatAnswer",
    "ChatBody",
    "ChatChunk",
    "ChatMessage",
    "ChatUsage",
    "Choice",
    "ChunkChoice",
    "ChunkDelta",
    "ContentPart",
    "FunctionCall",
    "FunctionPiece",
    "MessageCall",
    "PromptDetails",
    "Tier",
    "TokenLogprobs",
    "ReplyDetails",
    "ReplyMessage",
    "ToolPiece",
]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# --- requests ---------------------------------------------------------------------------------------------------------


class ImageUrl(_Asked):
    """A picture: an `http(s)` URL, or a `data:` URL with the picture in base64."""

    url: str
    detail: Literal["auto"] | Detail = "auto"


class FileBody(_Asked):
    """A document as a `data:` URL, or as bare base64 of a PDF. There are no uploaded files to refer to."""

    file_data: str
    filename: str | None = None


class ContentPart(_Asked):
    """One part of a message: the field that is named like its `type` is set. `refusal` is taken as text."""

    type: Literal["text", "image_url", "file", "refusal"]
    text: str | None = None
    image_url: ImageUrl | None = None
    file: FileBody | None = None
    refusal: str | None = None


class FunctionCall(_Asked):
    """What the model asked for; `arguments` is JSON text, as the model wrote it."""

    name: str
    arguments: str


class MessageCall(_Asked):
    """One call of a function."""

    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(_Asked):
    """One message. `tool_calls` only of an assistant, `tool_call_id` only of a tool; `system` and `developer` first.

    A `name` is put before what is said, for most providers have no place for it.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    tool_calls: list[MessageCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    audio: None = None
    function_call: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)


class ChatFunctionBody(_Asked):
    """A function the client runs. `parameters` is a JSON Schema of type object; none: it takes no arguments."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(_Asked):
    """A tool."""

    type: Literal["function"]
    function: ChatFunctionBody


class NamedFunction(_Asked):
    """The name of a function."""

    name: str


class ChatChosenFunction(_Asked):
    """The one function that must be called."""

    type: Literal["function"]
    function: NamedFunction


class AllowedAmong(_Asked):
    """Some of `tools`, and whether one of them must be called."""

    mode: Literal["auto", "required"]
    tools: list[ChatChosenFunction] = Field(min_length=1)


class ChatAllowedTools(_Asked):
    """The functions that may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedAmong


Tier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class SchemaBody(_Asked):
    """The JSON Schema that the answer follows."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class FormatBody(_Asked):
    """How the answer is written. `json_schema` is set when `type` is."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaBody | None = None


class ChatStreamOptions(_Asked):
    """How to stream; `include_obfuscation` pads every piece of text."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatCacheOptions(_Asked):
    """How the provider is to keep the prompt: as it does by itself."""

    mode: Literal["implicit"] | None = None


class ChatBody(_Asked):
    """A request for one answer to the conversation in `messages`."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str = Field(min_length=1, description="`provider:name`, an alias of the configuration, or an agent.")
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    tools: list[ToolBody] | None = None
    tool_choice: (
        Literal["none", "auto", "required"]
        | Annotated[ChatChosenFunction | ChatAllowedTools, Field(discriminator="type")]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    response_format: FormatBody | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    max_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=10_000_000)
    stop: str | list[str] | None = Field(default=None, description="At most four texts.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        default=None, max_length=16, description="Kept with the session, when there is one; else shown again."
    )
    user: Who | None = Field(default=None, max_length=200, description="Whose budget it counts against as well.")
    safety_identifier: Who | None = Field(default=None, max_length=128, description="Taken for `user` without one.")
    prompt_cache_key: str | None = Field(
        default=None, max_length=1_024, description="A hint, for providers that have such a thing."
    )
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: ChatCacheOptions | None = None
    service_tier: Tier | None = None
    store: Literal[False] | None = None
    n: int | None = Field(default=None, ge=1, le=16, description="More than one only without a session.")
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20, description="Only with `logprobs`.")
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Annotated[int, Field(ge=-100, le=100)]] | None = (
        Field(default=None, max_length=1_024)
    )
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    audio: None = None
    moderation: None = None
    prediction: None = None


# --- answers ----------------------------------------------------------------------------------------------------------


class PromptDetails(BaseModel):
    """What the prompt's tokens were."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class ReplyDetails(BaseModel):
    """What the answer's tokens were."""

    reasoning_tokens: int = 0


class ChatUsage(BaseModel):
    """Tokens, as the provider counted them; with a session, of every model call of this answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: ReplyDetails


class ReplyMessage(BaseModel):
    """What the model said, or the functions it wants the client to call."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    annotations: list[Any] = []
    tool_calls: list[MessageCall] | None = None


Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class TokenLogprobs(BaseModel):
    """How likely each token of the answer was, with the likeliest in its place."""

    content: list[dict[str, Any]]
    refusal: None = None


class Choice(BaseModel):
    """One of the answers that were asked for."""

    index: int = 0
    message: ReplyMessage
    logprobs: TokenLogprobs | None = None
    finish_reason: Finish


class ChatAnswer(BaseModel):
    """A completion. `created` is in seconds since 1970."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage
    service_tier: Tier | None = None
    system_fingerprint: None = None
    metadata: dict[str, str] | None = None


class FunctionPiece(BaseModel):
    """A piece of a call: the name comes first and whole, the arguments in pieces."""

    name: str | None = None
    arguments: str = ""


class ToolPiece(BaseModel):
    """A piece of the call at `index`; `id` and `type` come with its first piece."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionPiece


class ChunkDelta(BaseModel):
    """What was added. Fields that did not change are left out."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolPiece] | None = None


class ChunkChoice(BaseModel):
    """One of the answers, in pieces; `finish_reason` and `logprobs` come with the last."""

    index: int = 0
    delta: ChunkDelta
    logprobs: TokenLogprobs | None = None
    finish_reason: Finish | None = None


class ChatChunk(BaseModel):
    """A piece of a completion. The last one holds the usage and no choice, when usage was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
    service_tier: Tier | None = None
    system_fingerprint: None = None
    obfuscation: str | None = None
