"""Our messages as the provider library's, and its replies as our parts. Pure, except that blobs are fetched first.

What makes a dialogue survive a change of process, of library and of provider:

* Call ids are ours and go out as they are, in the call and in its result. A window with a call that has no result, or a
  result without its call, is refused here: no provider accepts one, and the context builder cannot make one.
* Thinking goes back only to the provider that thought it, and only where that one reads it as thinking. Elsewhere the
  conversation goes without it.
* What a provider attached to a text, a thought or a call and wants back (a signature of a call, the phase of a text) is
  an `Opaque` after the reply's parts, which says by its index what it belongs to. An item we have no part for is an
  `Opaque` in its place. Both are JSON of our own making and are read only here; a provider gets back its own, others
  never see them. What a later library can no longer read is left out.

The library is imported at the top: import this module lazily.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pydantic
from pydantic_ai import messages as lib

from remanence.content import (
    File,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    with_logprobs,
)
from remanence.errors import ModelError

__all__ = ["Receiver", "arguments_text", "blobs_in", "from_response", "to_messages"]

Blobs = Mapping[str, bytes]
"""The content of blobs by their digest, fetched before."""


class _Shown(msgspec.Struct, frozen=True):
    """How pictures and files are shown: the blobs, and whether with their `detail`."""

    blobs: Blobs
    detail: bool = False


_item = pydantic.TypeAdapter[lib.ModelResponsePart](lib.ModelResponsePart)
_READ_ONLY = frozenset({"logprobs", "timestamp"})
"""What providers attach for reading only; it is never sent back, so it is not kept."""


class Receiver(msgspec.Struct, frozen=True):
    """Who the window is for: the provider's name as our parts carry it, which of its thoughts it reads again, and
    whether it can be told how closely to look at a picture."""

    provider: str
    takes_back: Callable[[lib.ThinkingPart], bool]
    takes_detail: bool = False


class _Attached(msgspec.Struct, frozen=True, tag="attached", omit_defaults=True):
    """What a provider attached to the part at `index` of the same message."""

    index: int
    details: dict[str, Any]


class _Item(msgspec.Struct, frozen=True, tag="item"):
    """An item of a provider that we have no part for."""

    item: dict[str, Any]


_kept = msgspec.json.Decoder(_Attached | _Item)


# --- out --------------------------------------------------------------------------------------------------------------


def blobs_in(messages: Sequence[Message]) -> frozenset[str]:
    """The digests of the blobs that these messages point at."""
    return frozenset(part.blob for part in _leaves(messages) if isinstance(part, Image | File) and part.blob)


def to_messages(
    messages: Sequence[Message], *, instructions: str, receiver: Receiver, blobs: Blobs
) -> list[lib.ModelMessage]:
    """The window as the library's messages, for `receiver`.

    What follows a reply up to the next one is one request: first the results of its calls, then what was said. Raises
    `ModelError` (`invalid_request`) for a window that no provider would accept.
    """
    made: list[lib.ModelMessage] = []
    results: list[lib.ModelRequestPart] = []
    said: list[lib.ModelRequestPart] = []
    open_calls: dict[str, str] = {}
    shown = _Shown(blobs, receiver.takes_detail)

    def close() -> None:
        if open_calls:
            raise _refused(f"the calls {', '.join(sorted(open_calls))} have no result")
        if results or said:
            made.append(lib.ModelRequest(parts=[*results, *said]))
            results.clear()
            said.clear()

    for message in messages:
        if message.role == "assistant":
            reply = _response(message.parts, receiver)
            if reply.parts:
                close()
                made.append(reply)
                open_calls.update(_calls_in(message.parts))
        elif message.role == "tool":
            results += _results(message.parts, open_calls, shown)
        else:
            said += _user_parts(message.parts, shown)
    close()
    return _instructed(made, instructions)


def _instructed(made: list[lib.ModelMessage], instructions: str) -> list[lib.ModelMessage]:
    requests = [message for message in made if isinstance(message, lib.ModelRequest)]
    if not requests:
        raise _refused("nothing was said yet")
    requests[-1].instructions = instructions or None
    return made


def _calls_in(parts: Sequence[Part]) -> dict[str, str]:
    calls = [part for part in parts if isinstance(part, ToolCall)]
    by_id = {part.call: part.name for part in calls}
    if len(by_id) < len(calls):
        raise _refused("two calls of one reply have the same id")
    return by_id


def _results(parts: Sequence[Part], open_calls: dict[str, str], shown: _Shown) -> list[lib.ModelRequestPart]:
    made: list[lib.ModelRequestPart] = []
    for part in parts:
        if not isinstance(part, ToolResult):
            raise _refused(f"a message of a tool holds {type(part).__name__}, not a result")
        if open_calls.pop(part.call, None) is None:
            raise _refused(f"the result {part.call} answers no call of the reply before it")
        made.append(
            lib.ToolReturnPart(
                tool_name=part.name,
                content=_result_content(part.parts, shown),
                tool_call_id=part.call,
                outcome="failed" if part.error else "success",
            )
        )
    return made


def _result_content(parts: Sequence[Part], shown: _Shown) -> Any:
    content = _contents(parts, shown)
    texts = [item for item in content if isinstance(item, str)]
    return "\n".join(texts) if len(texts) == len(content) else content


def _user_parts(parts: Sequence[Part], shown: _Shown) -> list[lib.ModelRequestPart]:
    content = _contents(parts, shown)
    if not content:
        return []
    if len(content) == 1 and isinstance(content[0], str):
        return [lib.UserPromptPart(content[0])]
    return [lib.UserPromptPart(content)]


def _contents(parts: Sequence[Part], shown: _Shown) -> list[lib.UserContent]:
    made: list[lib.UserContent] = []
    for part in parts:
        match part:
            case Text(text=text):
                if text:
                    made.append(text)
            case Image() | File():
                made.append(_media(part, shown))
            case Opaque():
                continue
            case Thinking() | ToolCall() | ToolResult():
                raise _refused(f"{type(part).__name__} stands where only text and files can")
    return made


def _media(part: Image | File, shown: _Shown) -> lib.UserContent:
    detail = part.detail if shown.detail and isinstance(part, Image) else None
    beside = {"detail": detail} if detail else None
    if part.url:
        if isinstance(part, Image):
            return lib.ImageUrl(part.url, media_type=part.media_type or None, vendor_metadata=beside)
        return lib.DocumentUrl(part.url, media_type=part.media_type or None)
    return lib.BinaryContent(_bytes_of(part, shown.blobs), media_type=part.media_type, vendor_metadata=beside)


def _bytes_of(part: Image | File, blobs: Blobs) -> bytes:
    if part.blob:
        return blobs[part.blob]
    try:
        return base64.b64decode(part.data or "", validate=True)
    except binascii.Error:
        raise _refused("an attached file is not base64") from None


def _response(parts: Sequence[Part], receiver: Receiver) -> lib.ModelResponse:
    provider = receiver.provider
    made: dict[int, lib.ModelResponsePart] = {}
    attached: list[_Attached] = []
    for index, part in enumerate(parts):
        if isinstance(part, Opaque):
            read = _read_opaque(part, provider)
            if isinstance(read, _Attached):
                attached.append(read)
            elif read is not None:
                made[index] = read
        elif (item := _response_part(part, provider)) is not None:
            made[index] = item
    for extra in attached:
        item = made.get(extra.index)
        if isinstance(item, lib.TextPart | lib.ThinkingPart | lib.ToolCallPart):
            item.provider_name, item.provider_details = provider, extra.details
    kept = [item for item in made.values() if not isinstance(item, lib.ThinkingPart) or receiver.takes_back(item)]
    return lib.ModelResponse(parts=kept, provider_name=provider)


def _response_part(part: Part, provider: str) -> lib.ModelResponsePart | None:
    match part:
        case Text(text=text):
            return lib.TextPart(text) if text else None
        case Thinking():
            if part.provider != provider or not (part.text or part.signature):
                return None
            return lib.ThinkingPart(part.text, id=part.id, signature=part.signature, provider_name=part.provider)
        case ToolCall():
            return lib.ToolCallPart(part.name, part.arguments, tool_call_id=part.call)
        case Image() | File():
            # A picture the model drew; a provider that cannot see its own pictures again leaves it out.
            if not part.data:
                return None
            return lib.FilePart(lib.BinaryContent(_bytes_of(part, {}), media_type=part.media_type))
        case ToolResult() | Opaque():
            raise _refused("a reply of the model holds a tool result")


def _read_opaque(part: Opaque, provider: str) -> _Attached | lib.ModelResponsePart | None:
    if part.provider != provider:
        return None
    try:
        kept = _kept.decode(part.raw)
        return kept if isinstance(kept, _Attached) else _item.validate_python(kept.item)
    except (msgspec.DecodeError, pydantic.ValidationError):
        return None


def _leaves(messages: Sequence[Message]) -> list[Part]:
    found: list[Part] = []
    for message in messages:
        for part in message.parts:
            found += part.parts if isinstance(part, ToolResult) else (part,)
    return found


def _refused(why: str) -> ModelError:
    return ModelError(
        f"The conversation cannot be sent to a model: {why}. Nothing was sent and the session is kept.",
        kind="invalid_request",
    )


# --- in ---------------------------------------------------------------------------------------------------------------


def from_response(response: lib.ModelResponse) -> tuple[Part, ...]:
    """The library's reply as our parts, at the same indexes; what is attached to them follows at the end."""
    provider = response.provider_name or ""
    parts: list[Part] = []
    attached: list[Part] = []
    for index, item in enumerate(response.parts):
        parts.append(_part_of(item, provider))
        if isinstance(item, lib.TextPart | lib.ThinkingPart | lib.ToolCallPart) and item.provider_details:
            details = _jsonable({k: v for k, v in item.provider_details.items() if k not in _READ_ONLY})
            if details:
                attached.append(_opaque(item.provider_name or provider, _Attached(index, details)))
    while parts and parts[-1] == Text(""):
        parts.pop()
    return (*parts, *attached, *_likely(response, len(parts)))


def _likely(response: lib.ModelResponse, count: int) -> list[Part]:
    """How likely the tokens of the texts were: said of each text, or of the reply, which then has one text."""
    texts = [(i, item) for i, item in enumerate(response.parts[:count]) if isinstance(item, lib.TextPart)]
    found = {index: (item.provider_details or {}).get("logprobs") for index, item in texts}
    if texts and not any(found.values()):
        found[texts[0][0]] = (response.provider_details or {}).get("logprobs")
    return [with_logprobs(index, [_token(one) for one in tokens]) for index, tokens in found.items() if tokens]


def _token(told: dict[str, Any]) -> dict[str, Any]:
    top = [{**one, "bytes": one.get("bytes") or list(one["token"].encode())} for one in told["top_logprobs"]]
    return {**told, "bytes": told.get("bytes") or list(told["token"].encode()), "top_logprobs": top}


def _part_of(item: lib.ModelResponsePart, provider: str) -> Part:
    match item:
        case lib.TextPart(content=text):
            return Text(text)
        case lib.ThinkingPart():
            return Thinking(item.content, item.signature, item.provider_name or provider, item.id)
        case lib.ToolCallPart():
            return ToolCall(item.tool_call_id, item.tool_name, arguments_text(item.args))
        case lib.FilePart(content=lib.BinaryContent() as binary) if binary.is_image:
            return Image(binary.media_type, data=base64.b64encode(binary.data).decode())
        case _:
            return _opaque(provider, _Item(_item.dump_python(item, mode="json", exclude_none=True)))


def arguments_text(arguments: str | Mapping[str, Any] | None) -> str:
    """The arguments of a call as JSON text: as the model wrote it where the provider passes text, else encoded."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _opaque(provider: str, kept: _Attached | _Item) -> Opaque:
    return Opaque(provider, msgspec.json.encode(kept).decode())


def _jsonable(details: dict[str, Any]) -> dict[str, Any]:
    return pydantic.TypeAdapter(dict[str, Any]).dump_python(details, mode="json", exclude_none=True)
