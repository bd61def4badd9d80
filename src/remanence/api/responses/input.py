"""What a client puts in: items of the Responses wire format, read as messages of ours.

Items of one reply (its reasoning, its text, its calls) stand one after another on the wire; here they are one message.
What a system or a developer says has no place between messages in every provider's format, so it is put after the
instructions, and stays there for the rest of the conversation. An item or a field that cannot be honoured is refused
with its path; nothing is left out in silence.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast, get_args

import msgspec
from msgspec.structs import replace

from remanence.api.media import media_type_of
from remanence.api.responses.beside import beside
from remanence.api.responses.questions import Questions
from remanence.api.responses.shown_only import as_part
from remanence.content import Detail, File, Image, Message, Part, Text, Thinking, ToolCall, ToolResult
from remanence.errors import InvalidInput

__all__ = ["Approval", "Given", "Spoken", "pack", "read_input", "refuse"]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]*)*;base64,(.*)", re.DOTALL)
_MESSAGE = frozenset({"type", "role", "content", "id", "status", "phase"})
_CALL = frozenset({"type", "id", "call_id", "name", "arguments", "status"})
_OUTPUT = frozenset({"type", "id", "call_id", "output", "status", "name"})
_REASONING = frozenset({"type", "id", "summary", "content", "encrypted_content", "status"})
_SERVER_CALL = _CALL - {"call_id"} | {"server_label", "output", "error", "approval_request_id"}
_QUESTION = frozenset({"type", "id", "name", "arguments", "server_label", "status"})
_APPROVAL = frozenset({"type", "id", "approval_request_id", "approve", "reason"})
_BETWEEN = ("mcp_approval_request", "mcp_approval_response", "mcp_list_tools")
_WORDS = {
    "status": ("in_progress", "completed", "incomplete", "failed", "calling"),
    "phase": ("commentary", "final_answer"),
}
"""What fields may say that are read, and change nothing here."""
_SHOWN_MAX, _PATH_MAX = 60, 200
_KEPT_BYTES_MAX = 1 << 20
_COMPACTION = frozenset({"type", "id", "encrypted_content", "created_by"})


class Spoken(msgspec.Struct, frozen=True):
    """What a system or a developer said."""

    role: str
    text: str


class Approval(msgspec.Struct, frozen=True):
    """A person's answer to a call that waits for one, as the client passes it on."""

    call: str
    approve: bool
    reason: str
    path: str = ""


class Given(msgspec.Struct, frozen=True):
    """An input: its messages in order, what is added to the instructions, and answers to approvals."""

    messages: tuple[Message, ...]
    spoken: tuple[Spoken, ...] = ()
    approvals: tuple[Approval, ...] = ()
    functions: tuple[str, ...] = ()
    """The names of the functions whose calls were brought along."""
    past: int = 0
    """How many of the messages come before the last thing that the model said was said, that included."""
    offers: tuple[str, ...] = ()
    """The labels of the MCP servers whose offer was brought along."""
    asked: tuple[Approval, ...] = ()
    """The questions whether a call may run that a conversation is to keep; `approvals` are then the answers to others.
    """

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """What functions of the client's came to."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, ToolResult))


def refuse(path: str, why: str) -> NoReturn:
    """Say that a field cannot be honoured."""
    raise InvalidInput(f"{path}: {why}. Nothing was written.", param=path)


def read_input(given: Any, call_of: Callable[[str], str], *, path: str = "input", keeps: bool = False) -> Given:
    """The input of a request: a text, or a list of items. `call_of` turns a call's id on the wire into ours.

    `keeps`: they are kept for clients, in a conversation, so questions and answers stay what they are.
    """
    if isinstance(given, str):
        return Given((Message("user", (Text(given),)),))
    if not isinstance(given, list):
        refuse(path, "a text or a list of items is expected")
    questions = Questions(given)
    reader = _Reader(call_of, questions, keeps=keeps)
    for index, item in enumerate(cast("list[Any]", given)):
        if index >= questions.past_to:
            reader.turn_over(item)
        reader.take(_object(item, f"{path}[{index}]"), f"{path}[{index}]")
    return reader.done()


def pack(kind: str, value: object) -> str:
    """An opaque text that only this server reads back: not secret, but nobody else's business."""
    return base64.b64encode(msgspec.json.encode([kind, value])).decode()


def _unpack(text: Any, kind: str, path: str) -> Any:
    try:
        found: list[Any] = msgspec.json.decode(base64.b64decode(_text(text, path), validate=True), type=list[Any])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        found = []
    if len(found) != 2 or found[0] != kind:
        refuse(path, "it was not made by this server, so it cannot be read here")
    return found[1]


class _Reader:
    """Gathers items into messages."""

    def __init__(self, call_of: Callable[[str], str], questions: Questions, *, keeps: bool) -> None:
        self._call_of = call_of
        self._keeps = keeps
        self._asked: list[Approval] = []
        self._questions = questions
        self._messages: list[Message] = []
        self._reply: list[Part] = []
        self._closed: list[Message] = []
        self._names: dict[str, str] = {}
        self._spoken: list[Spoken] = []
        self._approvals: list[Approval] = []
        self._functions: dict[str, None] = {}
        self._offers: dict[str, None] = {}
        self._past = -1

    def done(self) -> Given:
        self._flush()
        told = tuple(self._messages), tuple(self._spoken), tuple(self._approvals), tuple(self._functions)
        past = self._past if self._past >= 0 else len(self._messages)
        return Given(*told, past=past, offers=tuple(self._offers), asked=tuple(self._asked))

    def turn_over(self, item: Any) -> None:
        """What the model said last is behind, but for its questions: what comes now the client says anew."""
        kind = cast("dict[str, Any]", item).get("type") if isinstance(item, dict) else None
        if self._past < 0 and kind not in _BETWEEN:
            self._flush()
            self._past = len(self._messages)

    def take(self, item: Mapping[str, Any], path: str) -> None:
        kind = item.get("type")
        match "message" if kind is None else kind:
            case "message":
                self._message(item, path)
            case "function_call":
                _known(item, _CALL, path)
                call = self._call_of(_text(item.get("call_id"), f"{path}.call_id"))
                self._call(call, item, path)
                self._functions[self._names[call]] = None
            case "function_call_output":
                _known(item, _OUTPUT, path)
                self._output(item, path)
            case "reasoning":
                _known(item, _REASONING, path)
                self._reply.append(_thinking(item, path))
            case "mcp_call":
                _known(item, _SERVER_CALL, path)
                if not self._questions.waits(item):
                    self._server_call(item, path)
                elif self._keeps:
                    self._texts(item, path, "name", "arguments", "server_label")
                    self._keep({"output": None, "error": None, "approval_request_id": None, **item}, path)
            case "mcp_list_tools":
                if not item.get("error") and isinstance(label := item.get("server_label"), str):
                    self._offers[label] = None  # what it offers is asked of it again; to the model it says nothing
                if self._keeps:
                    self._texts(item, path, "server_label")
                    if not isinstance(item.get("tools"), list):
                        refuse(f"{path}.tools", "a list is expected")
                    self._keep(dict(item), path)
            case "mcp_approval_request":
                _known(item, _QUESTION, path)
                self._question(item, path)
            case "mcp_approval_response":
                _known(item, _APPROVAL, path)
                self._approval(item, path)
            case "compaction":
                _known(item, _COMPACTION, path)
                summary = _unpack(item.get("encrypted_content"), "compaction", f"{path}.encrypted_content")
                self._say("user", (Text(f"Summary of the conversation so far:\n{summary}"),))
            case "item_reference":
                refuse(f"{path}.id", "the id of an item is expected, and nothing else")
            case _:
                refuse(f"{path}.type", f"items of type {_shown(kind)} are not served")

    def _message(self, item: Mapping[str, Any], path: str) -> None:
        _known(item, _MESSAGE, path)
        role = item.get("role")
        parts = _contents(item.get("content"), f"{path}.content")
        match role:
            case "user":
                if not parts:
                    refuse(f"{path}.content", "the message is empty")
                self._say("user", parts)
            case "assistant":
                self._said(parts, beside(item, path), path)
            case "system" | "developer":
                if not all(isinstance(part, Text) for part in parts):
                    refuse(f"{path}.content", f"a {role} message holds text only")
                texts = [part.text for part in parts if isinstance(part, Text)]
                self._spoken.append(Spoken(role, "\n".join(texts)))
            case _:
                refuse(f"{path}.role", f"{_shown(role)} is not one of user, assistant, system, developer")

    def _said(self, parts: tuple[Part, ...], extra: Mapping[int, dict[str, Any]], path: str) -> None:
        """Parts of a reply, and what clients are to be shown beside them."""
        for place, part in enumerate(parts):
            self._reply.append(part)
            if place in extra:
                _check_kept(extra[place], path)
                self._reply.append(as_part(extra[place], call=len(self._reply) - 1))

    def _call(self, call: str, item: Mapping[str, Any], path: str) -> None:
        name = _text(item.get("name"), f"{path}.name")
        self._names[call] = name
        self._reply.append(ToolCall(call, name, _text(item.get("arguments"), f"{path}.arguments")))

    def _output(self, item: Mapping[str, Any], path: str) -> None:
        call = self._call_of(_text(item.get("call_id"), f"{path}.call_id"))
        output = item.get("output")
        parts = (Text(output),) if isinstance(output, str) else _contents(output, f"{path}.output")
        self._flush()
        self._messages.append(self._result(call, parts, error=False))

    def _server_call(self, item: Mapping[str, Any], path: str) -> None:
        call = _text(item.get("id"), f"{path}.id")
        self._call(call, item, path)
        if self._keeps:
            label = _text(item.get("server_label"), f"{path}.server_label")
            named = {"type": "mcp_call", "server_label": label, "approval_request_id": item.get("approval_request_id")}
            self._reply.append(as_part(named, call=len(self._reply) - 1))
        failed, output = item.get("error"), item.get("output")
        told = _failure(failed) if failed else ""
        if output:
            told = _text(output, f"{path}.output")
        self._close(call, told, error=bool(failed))

    def _question(self, item: Mapping[str, Any], path: str) -> None:
        name = _text(item.get("id"), f"{path}.id")
        self._texts(item, path, "name", "arguments", "server_label")
        fate = self._questions.fate(name)
        question = {field: item[field] for field in ("id", "type", "name", "arguments", "server_label")}
        if self._keeps:
            self._asked.append(Approval(name, False, "", path))
        if self._keeps and fate != "denied":
            self._keep(question, path)
        elif fate in ("denied", "left"):
            self._call(name, item, path)
            if self._keeps:
                self._reply.append(as_part(question, call=len(self._reply) - 1))
            self._close(name, self._questions.told(name), error=True)

    def _approval(self, item: Mapping[str, Any], path: str) -> None:
        call = _text(item.get("approval_request_id"), f"{path}.approval_request_id")
        approve = item.get("approve")
        if not isinstance(approve, bool):
            refuse(f"{path}.approve", "true or false is expected")
        reason = item.get("reason")
        why = "" if reason is None else _text(reason, f"{path}.reason")
        if self._keeps:
            if call not in [one.call for one in self._asked]:
                self._approvals.append(Approval(call, approve, why, path))
            said = {"type": "mcp_approval_response", "approval_request_id": call, "approve": approve, "reason": reason}
            self._keep(said, path)
            return
        match self._questions.fate(call):
            case "answered":
                self._approvals.append(Approval(call, approve, why, path))
            case "lost":
                refuse(path, "the call was allowed, and no `mcp_call` among the items says what came of it")
            case _:
                pass  # its call says what came of it

    def _texts(self, item: Mapping[str, Any], path: str, *fields: str) -> None:
        for field in fields:
            _text(item.get(field), f"{path}.{field}")

    def _keep(self, item: dict[str, Any], path: str) -> None:
        """An item that is shown and says nothing to a model. It is a reply of its own, so it can be deleted alone."""
        _check_kept(item, path)
        self._flush()
        self._messages.append(Message("assistant", (as_part(item),)))

    def _result(self, call: str, parts: tuple[Part, ...], *, error: bool) -> Message:
        return Message("tool", (ToolResult(call, self._names.get(call, ""), parts, error),))

    def _close(self, call: str, told: str, *, error: bool) -> None:
        """What a call of the server's came to. A reply that holds calls of the client's too may go on after it."""
        self._closed.append(self._result(call, (Text(told),), error=error))
        if not any(
            isinstance(part, ToolCall) and self._names.get(part.call) in self._functions for part in self._reply
        ):
            self._flush()

    def _say(self, role: str, parts: tuple[Part, ...]) -> None:
        self._flush()
        if role == "user":
            self._messages.append(Message("user", parts))

    def _flush(self) -> None:
        if self._reply:
            self._messages += [Message("assistant", tuple(self._reply)), *self._closed]
            self._reply, self._closed = [], []


def _check_kept(item: dict[str, Any], path: str) -> None:
    size = len(msgspec.json.encode(item))
    if size > _KEPT_BYTES_MAX:
        refuse(path, f"it is {size:,} bytes long, and {_KEPT_BYTES_MAX:,} are kept of such an item")


def _failure(error: Any) -> str:
    """The words of an error: a text, or what a call of ours shows."""
    if isinstance(error, dict):
        known = cast("dict[str, Any]", error)
        pieces = cast("list[Any]", known["content"]) if isinstance(known.get("content"), list) else [known]
        shown = [cast("dict[str, Any]", piece) for piece in pieces if isinstance(piece, dict)]
        error = "\n".join(str(piece.get("text") or piece.get("message") or "") for piece in shown)
    return error if isinstance(error, str) and error else "it failed"


# --- parts ------------------------------------------------------------------------------------------------------------


def _contents(content: Any, path: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if not isinstance(content, list):
        refuse(path, "a text or a list of parts is expected")
    found = cast("list[Any]", content)
    return tuple(_content(_object(one, f"{path}[{i}]"), f"{path}[{i}]") for i, one in enumerate(found))


def _content(part: Mapping[str, Any], path: str) -> Part:
    match part.get("type"):
        case "input_text" | "text" | "summary_text" | "reasoning_text":
            _known(part, frozenset({"type", "text"}), path)
            return Text(_text(part.get("text"), f"{path}.text"))
        case "output_text":
            _known(part, frozenset({"type", "text", "annotations", "logprobs"}), path)
            return Text(_text(part.get("text"), f"{path}.text"))
        case "refusal":
            _known(part, frozenset({"type", "refusal"}), path)
            return Text(_text(part.get("refusal"), f"{path}.refusal"))
        case "input_image":
            _known(part, frozenset({"type", "image_url", "detail"}), path)
            image = _image(_text(part.get("image_url"), f"{path}.image_url"), f"{path}.image_url")
            return replace(image, detail=_detail(part.get("detail"), f"{path}.detail"))
        case "input_file":
            _known(part, frozenset({"type", "file_data", "file_url", "filename", "detail"}), path)
            if part.get("detail") not in (None, "auto"):
                refuse(f"{path}.detail", "no provider is told how closely to look at a file: only `auto` is served")
            return _file(part, path)
        case None:
            refuse(f"{path}.type", "it is missing")
        case kind:
            refuse(f"{path}.type", f"parts of type {_shown(kind)} are not served")


def _detail(given: Any, path: str) -> Detail | None:
    if given in (None, "auto"):
        return None
    if given not in get_args(Detail):
        refuse(path, f"it is none of auto, {', '.join(get_args(Detail))}")
    return given


def _image(url: str, path: str) -> Image:
    if url.startswith(("http://", "https://")):
        return Image("", url=url)
    found = _DATA_URL.fullmatch(url)
    if found is None or not found[1].startswith("image/"):
        refuse(path, "a picture is an http(s) URL, or data:image/...;base64,...")
    return Image(found[1], data=_base64(found[2], path))


def _file(part: Mapping[str, Any], path: str) -> File:
    name, url, data = part.get("filename"), part.get("file_url"), part.get("file_data")
    if name is not None and not isinstance(name, str):
        refuse(f"{path}.filename", "a text is expected")
    if (url is None) == (data is None):
        refuse(path, "give exactly one of `file_url` and `file_data`")
    if url is not None:
        url = _text(url, f"{path}.file_url")
        return File(media_type_of(name, url), name, url=url)
    found = _DATA_URL.fullmatch(_text(data, f"{path}.file_data"))
    media_type, encoded = (found[1], found[2]) if found else (media_type_of(name), str(data))
    return File(media_type, name, data=_base64(encoded, f"{path}.file_data"))


def _base64(text: str, path: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        refuse(path, "it is not base64")
    return text


def _thinking(item: Mapping[str, Any], path: str) -> Thinking:
    """A reasoning item. With what we gave out as `encrypted_content`, its provider takes it back as its own."""
    if item.get("encrypted_content") is not None:
        packed = _unpack(item["encrypted_content"], "reasoning", f"{path}.encrypted_content")
        try:
            return msgspec.convert(packed, Thinking)
        except msgspec.ValidationError:
            refuse(f"{path}.encrypted_content", "it was not made by this server, so it cannot be read here")
    pieces = [part for name in ("summary", "content") for part in _pieces(item.get(name), f"{path}.{name}")]
    return Thinking("\n".join(part.text for part in pieces if isinstance(part, Text)))


def _pieces(given: Any, path: str) -> tuple[Part, ...]:
    """Parts, and only as a list."""
    if given is not None and not isinstance(given, list):
        refuse(path, "a list of parts is expected")
    return _contents(cast("list[Any]", given or []), path)


def _known(item: Mapping[str, Any], names: frozenset[str], path: str) -> None:
    """Refuse fields that are not known, and values of the others that mean nothing."""
    for name, value in item.items():
        if value is None:
            continue
        if name not in names:
            refuse(f"{path}.{name}"[:_PATH_MAX], "this field is not known, or not served, here")
        if name == "id":
            _text(value, f"{path}.id")
        elif (words := _WORDS.get(name)) and value not in words:
            refuse(f"{path}.{name}", f"{_shown(value)} is not one of {', '.join(words)}")


def _shown(value: Any) -> str:
    """A value as it was sent, or the beginning of it."""
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        refuse(path, "an object is expected")
    return cast("Mapping[str, Any]", value)


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        refuse(path, "a text is expected")
    return value
