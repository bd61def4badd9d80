"""Counting what a request would send, and summing up a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import msgspec
from msgspec.json import encode
from msgspec.structs import replace

from remanence.api.named import Served, requested
from remanence.api.responses.endings import Endings
from remanence.api.responses.history import renamed
from remanence.api.responses.input import pack, refuse
from remanence.api.responses.items import Item
from remanence.api.responses.kept import fold_of, usage_of
from remanence.api.responses.place import Asked, ask, history_of
from remanence.api.responses.request import AGENT, CompactBody, ResponseBody
from remanence.commands.caller import Caller, state_of
from remanence.commands.metering import Meter
from remanence.content import File, Image, Message, Part, Text, ToolResult, text_of
from remanence.core.tokens import Family, family_of, message_tokens, text_tokens
from remanence.errors import InvalidInput
from remanence.events import ModelReplied
from remanence.ports import ModelRequest
from remanence.spec import AgentSpec

__all__ = ["ContextTooLong", "check_fits", "compact", "counted"]

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1_600
"""What a picture is taken for, however large its file is."""
SUMMARY_TOKENS = 4_096
LAST_RECORDS = 100
ORDER = (
    "Sum up the conversation so far, for yourself: you will go on with it and see nothing of it but this summary. Keep "
    "every fact, name, number, decision, open question and promise that may matter. Write the summary and nothing else."
)


def counted(asked: Asked, history: tuple[Message, ...]) -> Item:
    """An estimate of the input tokens of a request."""
    spec = asked.spec
    tools = [(tool.name, tool.description, tool.parameters) for tool in spec.tools]
    size = len(spec.instructions.encode()) + (len(msgspec.json.encode(tools)) if tools else 0)
    size += len(msgspec.json.encode(spec.settings.output_schema)) if spec.settings.output_schema else 0
    size += sum(_size(message) for message in (*history, *asked.given.messages))
    return {"object": "response.input_tokens", "input_tokens": -(-size // BYTES_PER_TOKEN)}


class ContextTooLong(InvalidInput):
    """A conversation and its input are longer than the model reads."""

    code = "context_length_exceeded"


async def check_fits(served: Served, caller: Caller, asked: Asked, endings: Endings) -> None:
    """Refuse what the model cannot read, when it is known how much that is: with `truncation: auto`, what is sent
    whatever else is left out. An agent keeps its window short itself."""
    spec, cuts = asked.spec, asked.echo.truncation == "auto"
    window = served.gateway.context_window(spec.model) if spec.name == AGENT else None
    if window is None:
        return
    before = 0 if cuts else await _said_before(caller, asked, endings)
    told = _newest(asked.given.messages) if cuts else asked.given.messages
    family = family_of(spec.model)
    needed = (before or _fixed_tokens(spec, family)) + sum(_surely(message, family) for message in told)
    if needed <= window:
        return
    if cuts:
        what = "What the input says last, with the instructions and tools,"
        hint = "`truncation` leaves out whole items from the beginning and shortens none; say less"
    else:
        what = "The input"
        hint = "say less, sum the conversation up with /v1/responses/compact, or set `truncation` to `auto`"
    raise ContextTooLong(
        f"{what} is about {needed} tokens long, and {asked.echo.model} reads {window}. Nothing was written; {hint}.",
        param="input",
    )


def _newest(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The end of an input, which no window leaves out: what a person says, or what calls came to."""
    return tuple(takewhile(lambda message: message.role == messages[-1].role, reversed(messages)))


def _fixed_tokens(spec: AgentSpec, family: Family) -> int:
    """An estimate of what goes with every prompt of a request."""
    tools = [(tool.name, tool.description, tool.parameters) for tool in spec.tools]
    shape = spec.settings.output_schema
    size = text_tokens(spec.instructions, family)
    return round(size + sum(text_tokens(encode(one).decode(), family) for one in (tools, shape) if one))


def _surely(message: Message, family: Family) -> int:
    """What a message is estimated for. How long a document is to its reader, the size of its file does not say."""
    return message_tokens(replace(message, parts=_without_documents(message.parts)), family)


def _without_documents(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(
        replace(part, parts=_without_documents(part.parts)) if isinstance(part, ToolResult) else part
        for part in parts
        if not isinstance(part, File) or part.media_type.startswith("text/")
    )


async def _said_before(caller: Caller, asked: Asked, endings: Endings) -> int:
    """How long the conversation is by its last reply, as its provider counted; 0 when that is not known. It costs the
    same however long the conversation is."""
    if asked.previous is not None:
        ending = endings.of(asked.previous)
        if ending is not None:
            return ending.tokens
        reply = (await fold_of(caller, asked.previous)).reply
    else:
        if asked.talk is None or not asked.talk.session:
            return 0
        s = await state_of(caller, asked.talk.session)
        records = await caller.database.store.read(s.id, after=max(0, s.head - LAST_RECORDS))
        replies = [record.event for record in records if isinstance(record.event, ModelReplied)]
        reply = replies[-1] if replies else None
    return reply.usage.total_tokens if reply is not None else 0


def _size(message: Message) -> int:
    total = 0
    for part in message.parts:
        if isinstance(part, Image):
            total += IMAGE_TOKENS * BYTES_PER_TOKEN
        elif isinstance(part, File):
            total += len(part.data or part.url or "")
        elif isinstance(part, Text):
            total += len(part.text.encode())
        else:
            total += len(msgspec.json.encode(part))
    return total


async def compact(served: Served, caller: Caller, meter: Meter, body: CompactBody) -> Item:
    """A conversation as one item: a summary of it by the model."""
    found = await requested(served, caller, body.model)
    if found.agent is not None:
        refuse("model", f"{body.model} is an agent; name a model to write the summary")
    given = "" if body.input is None else body.input
    asked = await ask(
        served,
        caller,
        ResponseBody(
            model=body.model,
            input=given or [],
            instructions=body.instructions,
            previous_response_id=body.previous_response_id,
            prompt_cache_key=body.prompt_cache_key,
            prompt_cache_retention=body.prompt_cache_retention,
            service_tier=body.service_tier,
        ),
    )
    told = asked.given.messages
    if asked.previous is not None:
        told = renamed(asked.previous.session, told)
    history = (*await history_of(caller, asked), *told)
    if not history:
        refuse("input", "there is nothing to sum up")
    spec = asked.spec
    request = ModelRequest(
        spec.model, spec.instructions, (*_closed(history), Message("user", (Text(ORDER),))), (), spec.settings,
        SUMMARY_TOKENS, spec.limits.model_timeout_s, "",
    )  # fmt: skip
    made = await meter.reply(caller, request, None)
    name = caller.make_id("cmp")
    item = {"id": name, "type": "compaction", "encrypted_content": pack("compaction", text_of(made.parts))}
    return {
        "id": name.replace("cmp_", "resp_"),
        "object": "response.compaction",
        "created_at": caller.clock.now() // 1_000_000,
        "output": [item],
        "usage": usage_of(made.usage),
    }


def _closed(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages without calls that have no output: a provider would refuse them."""
    answered = {p.call for m in messages for p in m.parts if isinstance(p, ToolResult)}
    kept: list[Message] = []
    for message in messages:
        parts = tuple(part for part in message.parts if getattr(part, "call", None) in {None, *answered})
        if parts:
            kept.append(Message(message.role, parts))
    return tuple(kept)
