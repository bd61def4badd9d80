"""What models, people and tools say: the parts of a message, as closed values.

A message is a role and a tuple of parts. Parts are frozen, tagged msgspec structs in one flat union, so that a
type checker can prove a `match` complete and a journal written today can be read by every later release.

Three choices carry the rest:

* The arguments of a tool call are kept as the JSON *text* the model wrote. Approvals are bound to what was said, not
  to our reading of it; `arguments_digest` compares two texts by meaning (key order and white space do not count).
* What we do not understand is kept: `Opaque` carries a provider's own item verbatim and is returned to it verbatim.
* Large things are not inlined: an `Image` or a `File` may point at a blob (content-addressed, beside the journal).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

__all__ = [
    "ITEM",
    "LOGPROBS",
    "Detail",
    "File",
    "Image",
    "Message",
    "Opaque",
    "Part",
    "Role",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Usage",
    "arguments_digest",
    "digest_of",
    "logprobs_in",
    "parse_arguments",
    "text_of",
    "with_logprobs",
    "without_unsent",
]

Role = Literal["user", "assistant", "tool"]


class Text(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """Plain text, UTF-8, any length."""

    text: str


Detail = Literal["low", "high", "original"]


class Image(msgspec.Struct, frozen=True, gc=False, tag="image", omit_defaults=True):
    """A picture: exactly one of `url`, `data` (base64) or `blob` (digest of a stored blob) is set.

    `detail` is how closely a model is to look at it; None: as its provider finds best. Providers that have no such
    thing are sent the picture without a word of it.
    """

    media_type: str
    url: str | None = None
    data: str | None = None
    blob: str | None = None
    detail: Detail | None = None


class File(msgspec.Struct, frozen=True, gc=False, tag="file", omit_defaults=True):
    """A document: exactly one of `url`, `data` (base64) or `blob` (digest of a stored blob) is set."""

    media_type: str
    name: str | None = None
    url: str | None = None
    data: str | None = None
    blob: str | None = None


class Thinking(msgspec.Struct, frozen=True, gc=False, tag="thinking", omit_defaults=True):
    """A model's reasoning. `signature` and `provider` let the same provider accept it back."""

    text: str
    signature: str | None = None
    provider: str | None = None
    id: str | None = None


class ToolCall(msgspec.Struct, frozen=True, gc=False, tag="tool_call"):
    """A model asks for a tool. `call` is unique in the session; `arguments` is the JSON text as the model wrote it."""

    call: str
    name: str
    arguments: str


class ToolResult(msgspec.Struct, frozen=True, gc=False, tag="tool_result", omit_defaults=True):
    """What came of a call, as the model will read it. `error` marks a result the model should treat as a failure."""

    call: str
    name: str
    parts: tuple[Part, ...]
    error: bool = False


class Opaque(msgspec.Struct, frozen=True, gc=False, tag="opaque"):
    """A provider's own item that we keep and return verbatim. `raw` is its JSON text."""

    provider: str
    raw: str


LOGPROBS = "logprobs"
"""The provider of an `Opaque` that says how likely the tokens of a text were: to be read, never sent to a model."""

ITEM = "item"
"""The provider of an `Opaque` that holds an item which clients brought along: to be shown, never sent to a model."""

_UNSENT = (LOGPROBS, ITEM)

Part = Text | Image | File | Thinking | ToolCall | ToolResult | Opaque


class Message(msgspec.Struct, frozen=True, gc=False):
    """One entry of a model's context window."""

    role: Role
    parts: tuple[Part, ...]


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens of one model call, as the provider counted them. `cached_tokens` are part of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


COUNT_END = 2**53
"""Counts from here on are more than JSON says exactly, and their sums soon more than a database counts."""


def is_amount(count: object) -> bool:
    """Whether a number that somebody reports can be counted: tokens, or micro-USD. Servers report -1, and worse."""
    return type(count) is int and 0 <= count < COUNT_END


class _Likely(msgspec.Struct, frozen=True):
    """How likely the tokens of the part at `index` were."""

    index: int
    tokens: list[dict[str, Any]]


_likely = msgspec.json.Decoder(_Likely)


def with_logprobs(index: int, tokens: list[dict[str, Any]]) -> Opaque:
    """What goes with the text at this index of a reply. A token: `token`, `bytes`, `logprob`, `top_logprobs`."""
    return Opaque(LOGPROBS, msgspec.json.encode(_Likely(index, tokens)).decode())


def logprobs_in(parts: tuple[Part, ...]) -> dict[int, list[dict[str, Any]]]:
    """How likely the tokens of a reply's texts were, by their index; empty when nobody asked."""
    found = [_likely.decode(part.raw) for part in parts if isinstance(part, Opaque) and part.provider == LOGPROBS]
    return {one.index: one.tokens for one in found}


def without_unsent(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """What a model may read again of a reply."""
    if not any(isinstance(part, Opaque) and part.provider in _UNSENT for part in parts):
        return parts
    return tuple(part for part in parts if not (isinstance(part, Opaque) and part.provider in _UNSENT))


def text_of(parts: tuple[Part, ...]) -> str:
    """All the plain text in `parts`, joined by newlines; other kinds of part are left out."""
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def parse_arguments(arguments: str) -> dict[str, Any]:
    """The arguments as a mapping. Empty text is the empty mapping.

    Raises `ValueError` with a sentence a model can act on when the text is not a JSON object.
    """
    if not arguments.strip():
        return {}
    try:
        value: object = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"the arguments are not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"the arguments must be a JSON object, not {_KINDS.get(type(value), 'null')}")
    return value  # pyright: ignore[reportUnknownVariableType]


_KINDS: dict[type[object], str] = {
    list: "a list",
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def arguments_digest(name: str, arguments: str) -> str:
    """Digest of one exact call: the tool's name and its arguments by meaning (sorted keys, no white space).

    Arguments that are not JSON are digested as they stand. Source: the approval a person signs binds this value.
    """
    try:
        canonical = msgspec.json.encode(msgspec.json.decode(arguments or "{}"), order="sorted")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        canonical = arguments.encode(errors="surrogatepass")
    return digest_of(name.encode(), canonical)


def digest_of(*pieces: bytes) -> str:
    """SHA-256 over the pieces, each preceded by its length, as 64 hexadecimal digits."""
    state = hashlib.sha256()
    for piece in pieces:
        state.update(len(piece).to_bytes(8, "big"))
        state.update(piece)
    return state.hexdigest()
