"""Records as items of the Responses wire format: messages, reasoning, calls and what they came to.

Ids are made of what is in the journal (the session, the model call, the part's place), so the same item has the same id
in a stream, in a response, in a list and after a restart, and none needs to be kept. A call's id on the wire carries a
digest of its session too: clients put calls of many sessions into one conversation.

A call of a function that the client runs is a `function_call`. A call of a tool that the server runs is an `mcp_call`,
the one item of the format that says "do not run this": its `server_label` is the MCP server's, or the agent's name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from remanence.api.responses.beside import told
from remanence.api.responses.input import pack
from remanence.api.responses.shown_only import items_in
from remanence.content import File, Image, Part, Text, Thinking, ToolCall, logprobs_in, text_of
from remanence.events import ApprovalGiven, InputReceived, ModelCalled, ModelReplied, Recorded, ToolReturned

__all__ = [
    "Item",
    "Shown",
    "added",
    "approval_id",
    "approval_item",
    "call_off_wire",
    "call_item",
    "call_on_wire",
    "calls_on_wire",
    "content_of",
    "input_item",
    "items_of_session",
    "label_of",
    "list_item",
    "open_call",
    "reply_items",
    "result_item",
    "said_item",
    "settle_server_call",
    "spoken_item",
    "text_of_item",
    "text_part",
    "unfinished",
]

Item = dict[str, Any]
_OWN = ("mcp_call", "mcp_approval_request")
"""Items of calls that say themselves what came of them."""
_OURS = re.compile(r"call_(\d+_\d+_\d+)")
_OURS_SAID = re.compile(rf"\b{_OURS.pattern}\b")


class Shown(msgspec.Struct, frozen=True):
    """How a session is shown: which of its tools are the client's, who else runs tools, what goes with reasoning."""

    session: str
    agent: str
    client_tools: frozenset[str]
    encrypted: bool = False
    remotes: Mapping[str, tuple[str, str]] = {}
    """The MCP server's label, and its own name for the tool, of each tool that runs on one."""

    def named(self, tool: str) -> tuple[str, str]:
        """Who runs a tool that the server answers for, and under which name: the agent, or an MCP server."""
        return self.remotes.get(tool, (self.agent, tool))


@lru_cache(maxsize=4_096)
def _mark(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()[:16]


def call_on_wire(session: str, call: str) -> str:
    """A call's id as clients see it."""
    found = _OURS.fullmatch(call)
    return f"call_{_mark(session)}_{found[1]}" if found else call


def calls_on_wire(session: str, words: str) -> str:
    """Words for a client that name calls of a session: with their ids as it sees them."""
    return _OURS_SAID.sub(lambda found: call_on_wire(session, found[0]), words)


def call_off_wire(sessions: Collection[str], call: str) -> str:
    """A call's id as the journal knows it, when it belongs to one of these sessions; else as it stands."""
    for session in sessions:
        head = f"call_{_mark(session)}_"
        if call.startswith(head):
            return f"call_{call.removeprefix(head)}"
    return call


def text_part(text: str, logprobs: Sequence[Item] = ()) -> Item:
    """A piece of text that a model said, and how likely its tokens were."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [_spelt(one) for one in logprobs]}


def _spelt(token: Item) -> Item:
    """How likely a token was, with the bytes of each: a provider that does not say them leaves them to its reader."""
    others = [{**one, "bytes": _bytes_of(one)} for one in token.get("top_logprobs") or ()]
    return {**token, "bytes": _bytes_of(token), "top_logprobs": others}


def _bytes_of(token: Item) -> list[int]:
    given = token.get("bytes")
    return list(str(token.get("token", "")).encode(errors="replace")) if given is None else given


def reply_items(shown: Shown, call: str, parts: Sequence[Part]) -> list[tuple[Item, str]]:
    """A reply as items in its own order, each with the id of its call if it is one; thoughts without words come last.

    `call` names the model call, as `label_of` does.
    """
    made: list[tuple[Item, str]] = []
    said = calls = 0
    likely, kept = logprobs_in(tuple(parts)), items_in(parts)
    for index, part in enumerate(parts):
        if isinstance(part, Text | Thinking) and part.text:
            item = said_item(shown, call, said, part)
            if index in likely and isinstance(part, Text):
                item["content"] = [text_part(part.text, likely[index])]
            made.append((told(item, kept[index]) if index in kept and isinstance(part, Text) else item, ""))
            said += 1
        elif isinstance(part, ToolCall):
            item = call_item(shown, call, calls, part)
            made.append((_kept_call(shown, call, index, item, kept[index]) if index in kept else item, part.call))
            calls += 1
        elif index in kept:
            made.append((_kept_item(shown, call, index, kept[index]), ""))
    silent = [part for part in parts if shown.encrypted and isinstance(part, Thinking) and not part.text]
    return made + [(said_item(shown, call, said + place, part), "") for place, part in enumerate(silent)]


def label_of(call: str, attempt: int) -> str:
    """What the items of a model call are named by. Another attempt is another label: what was told of the one that
    failed is not told on by the next."""
    return call if attempt == 1 else f"{call}r{attempt}"


def said_item(shown: Shown, call: str, place: int, part: Text | Thinking, *, status: str = "completed") -> Item:
    """What a model said or thought, as the item at this place of the reply."""
    if isinstance(part, Text):
        name = _name("msg", shown, call, place)
        return {"id": name, "type": "message", "role": "assistant", "status": status, "content": [text_part(part.text)]}
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    made: Item = {"id": _name("rs", shown, call, place), "type": "reasoning", "summary": summary, "status": status}
    if shown.encrypted:
        made["encrypted_content"] = pack("reasoning", part)
    return made


def call_item(shown: Shown, call: str, place: int, part: ToolCall) -> Item:
    if part.name in shown.client_tools:
        return {
            "id": _name("fc", shown, call, place),
            "type": "function_call",
            "call_id": call_on_wire(shown.session, part.call),
            "name": part.name,
            "arguments": part.arguments,
            "status": "completed",
        }
    label, name = shown.named(part.name)
    return {
        "id": _name("mcp", shown, call, place),
        "type": "mcp_call",
        "server_label": label,
        "name": name,
        "arguments": part.arguments,
        "status": "in_progress",
        "output": None,
        "error": None,
        "approval_request_id": None,
    }


_KEPT_IDS = {"mcp_approval_response": "mcpa", "mcp_list_tools": "mcpl", "mcp_call": "mcp"}


def _kept_item(shown: Shown, call: str, index: int, item: Item) -> Item:
    """An item that a conversation keeps for its clients. A question keeps its id: its answer names that."""
    prefix = _KEPT_IDS.get(item["type"])
    return {**item, "id": _name(prefix, shown, call, index)} if prefix else dict(item)


def _kept_call(shown: Shown, call: str, index: int, made: Item, item: Item) -> Item:
    """A call that was brought along as what it was: one that an MCP server ran, or a question that was denied."""
    if item["type"] != "mcp_call":
        return dict(item)
    said = {"arguments": made["arguments"], "name": made["name"], "output": None, "error": None}
    return {**item, **said, "id": _name("mcp", shown, call, index), "status": "in_progress"}


def open_call(shown: Shown, call: ToolCall, *, asked: bool) -> Item:
    """A call of an earlier response, as the item of the one that hears what it comes to."""
    found = _OURS.fullmatch(call.call)
    step, _, place = found[1].rpartition("_") if found else ("", "", "0")
    item = call_item(shown, step, int(place) - 1, call)
    if asked and item["type"] == "mcp_call":
        item["approval_request_id"] = approval_id(shown.session, call.call)
    return item


def approval_id(session: str, call: str) -> str:
    """The id of the question whether a call may run."""
    return f"mcpr_{session}_{call}"


def _name(prefix: str, shown: Shown, call: str, place: int) -> str:
    return f"{prefix}_{shown.session}_{call.removeprefix('model_')}_{place}"


def added(item: Item) -> Item:
    """The item as it is announced: nothing said yet."""
    empty: Item = {"content": [], "summary": [], "arguments": ""}
    made = {name: empty.get(name, value) for name, value in item.items() if name != "encrypted_content"}
    return {**made, "status": "in_progress"}


def unfinished(item: Item, told: str) -> Item:
    """An item whose model call failed: what was told of it, and that no more will come."""
    made = {**item, "status": "incomplete"}
    match item["type"]:
        case "message":
            made["content"] = [text_part(told)]
        case "reasoning":
            made["summary"] = [{"type": "summary_text", "text": told}] if told else []
        case _:
            made["arguments"] = told
    return made


def result_item(session: str, position: int, event: ToolReturned) -> Item:
    """What a call came to."""
    plain = all(isinstance(part, Text) for part in event.parts)
    return {
        "id": f"fco_{session}_{position}",
        "type": "function_call_output",
        "call_id": call_on_wire(session, event.call),
        "output": text_of(event.parts) if plain else content_of(event.parts),
        "status": "completed",
    }


def content_of(parts: Sequence[Part]) -> list[Item]:
    """What a person said, as content of a message."""
    made: list[Item] = []
    for part in parts:
        match part:
            case Text(text=text):
                made.append({"type": "input_text", "text": text})
            case Image(media_type=media_type, url=url, data=data, detail=detail):
                shown = url or f"data:{media_type};base64,{data}"
                made.append({"type": "input_image", "detail": detail or "auto", "image_url": shown})
            case File(media_type=media_type, name=name, url=url, data=data):
                made.append({"type": "input_file", "filename": name, "file_url": url} if url else
                            {"type": "input_file", "filename": name,
                             "file_data": f"data:{media_type};base64,{data}"})  # fmt: skip
            case _:
                continue
    return made


def input_message(session: str, position: int, event: InputReceived) -> Item:
    """What a person said, as an item."""
    return {
        "id": f"msg_{session}_{position}",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": content_of(event.parts),
    }


def spoken_item(owner: str, index: int, role: str, text: str) -> Item:
    """What a system or a developer said: it is kept with the response, or the conversation, `owner`."""
    content = [{"type": "input_text", "text": text}]
    return {"id": f"msg_{owner}_{role}_{index}", "type": "message", "role": role, "status": "completed",
            "content": content}  # fmt: skip


def input_item(shown: Shown, record: Recorded) -> list[Item]:
    """The items of one record of an input: what was said, what calls came to, replies that were brought along."""
    match record.event:
        case InputReceived():
            return [input_message(shown.session, record.position, record.event)]
        case ToolReturned():
            return [result_item(shown.session, record.position, record.event)]
        case ModelReplied(call=call, parts=parts):
            return [item for item, _ in reply_items(shown, call, parts)]
        case ApprovalGiven(call=call, decision=decision, note=note):
            name = f"mcpa_{shown.session}_{record.position}"
            return [{"id": name, "type": "mcp_approval_response", "approve": decision == "approve",
                     "approval_request_id": approval_id(shown.session, call), "reason": note or None}]  # fmt: skip
        case _:
            return []


def items_of_session(how: Callable[[int], Shown], records: Sequence[Recorded]) -> list[tuple[Item, int]]:
    """Every item of some records, whole turns, with the position it comes from, oldest first; erased ones are left out.

    `how` says how the record at a position is shown."""
    found: list[tuple[Item, int]] = []
    calls: dict[str, Item] = {}
    labels: dict[str, str] = {}
    for record in records:
        if record.redacted:
            continue
        event, shown = record.event, how(record.position)
        if isinstance(event, ModelCalled):
            labels[event.call] = label_of(event.call, event.attempt)
        if isinstance(event, ToolReturned) and (kind := calls.get(event.call, {}).get("type", "function_call")) in _OWN:
            if kind == "mcp_call":
                settle_server_call(calls[event.call], event)
            continue
        if isinstance(event, ModelReplied):
            made = reply_items(shown, labels.get(event.call, event.call), event.parts)
            found += [(item, record.position) for item, _ in made]
            calls |= {call: item for item, call in made if call}
        else:
            found += [(item, record.position) for item in input_item(shown, record)]
    return found


def list_item(response: str, label: str, tools: list[dict[str, Any]]) -> Item:
    """What an MCP server offers."""
    return {"id": f"mcpl_{response}_{label}", "type": "mcp_list_tools", "server_label": label, "tools": tools}


def approval_item(session: str, call: str, item: Item) -> Item:
    """The question whether a call of the server's may run."""
    return {
        "id": approval_id(session, call),
        "type": "mcp_approval_request",
        "name": item["name"],
        "arguments": item["arguments"],
        "server_label": item["server_label"],
    }


def settle_server_call(item: Item, event: ToolReturned) -> None:
    """Put the outcome into the item of a call that the server ran."""
    told = text_of(event.parts)
    if event.error:
        item |= {"status": "failed", "output": None, "error": _tool_error(told)}
    else:
        item |= {"status": "completed", "output": told}


def _tool_error(message: str) -> Any:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": message}]}


def text_of_item(item: Item) -> str:
    """What the deltas of an item add up to."""
    match item["type"]:
        case "message":
            return item["content"][0]["text"] if item["content"] else ""
        case "reasoning":
            return item["summary"][0]["text"] if item["summary"] else ""
        case _:
            return item["arguments"]
