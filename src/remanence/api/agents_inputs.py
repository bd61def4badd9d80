"""What is put into a session: messages, results, answers, cancels, each once.

Every event of a request has an idempotency key of its own, made of the request's key and its place, so that a request
that is sent again goes on where the first one broke off and does nothing twice.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from remanence.api.agents_bodies import (
    ApprovalInput,
    CancelInput,
    ComputerUseInput,
    InputEvent,
    InputMessage,
    InputText,
    MessageInput,
    ToolResultInput,
)
from remanence.api.agents_objects import turn_id
from remanence.api.auth import owned_session
from remanence.commands import approvals, sessions
from remanence.commands.approvals import Ruling
from remanence.commands.caller import Caller
from remanence.commands.sessions import Once
from remanence.content import Image, Part, Text
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, NotFound, RemanenceError, Unsupported
from remanence.spec import IfBusy

__all__ = ["UnknownPendingCall", "messages_in", "parts_of", "perform"]

_DATA_URL = re.compile(r"data:(image/[a-zA-Z0-9.+-]{1,64});base64,(.+)", re.DOTALL)


class UnknownPendingCall(InvalidInput):
    """There is no such call that waits for a result from the client; perhaps it has one already. Nothing was written.

    The vendors' client knows these very words, and asks again for a moment: the call may be about to be registered.
    """

    code: ClassVar[str] = "invalid_request_error"

    def __init__(self, call: str) -> None:
        super().__init__(f"Unknown pending tool call: {call}", param="call_id")


# --- contents ---------------------------------------------------------------------------------------------------------


def parts_of(caller: Caller, said: str | Sequence[InputMessage], path: str) -> tuple[Part, ...]:
    """What was said, as parts: the contents of all messages one after the other. `path` is where it lies.

    Raises InvalidInput and TooLarge, with the path.
    """
    parts: tuple[Part, ...]
    if isinstance(said, str):
        parts = (Text(said),)
    else:
        parts = tuple(
            _part(content, f"{path}[{number}].content[{place}]")
            for number, message in enumerate(said)
            for place, content in enumerate(message.content)
        )
    try:
        sessions.check_input(caller, parts)
    except InvalidInput as error:
        error.param = path
        raise
    return parts


def messages_in(said: str | Sequence[InputMessage]) -> tuple[int, ...]:
    """How many parts each message has; nothing when there is only one."""
    counts = () if isinstance(said, str) else tuple(len(message.content) for message in said)
    return counts if len(counts) > 1 else ()


def _part(content: object, path: str) -> Part:
    if isinstance(content, InputText):
        return Text(content.text)
    url = str(getattr(content, "image_url", ""))
    if re.match(r"https?://", url):
        return Image("", url=url)
    found = _DATA_URL.fullmatch(url)
    try:
        if found is None:
            raise ValueError("it is neither http(s)://... nor data:image/...;base64,...")
        base64.b64decode(found[2], validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidInput(f"{path}.image_url: {error}. Nothing was written.", param=f"{path}.image_url") from None
    return Image(found[1], data=found[2])


# --- events -----------------------------------------------------------------------------------------------------------


async def perform(
    caller: Caller, s: Session, events: Sequence[InputEvent], *, if_busy: IfBusy, key: str | None, seen: bool = False
) -> None:
    """Let the events happen, in order. The first that cannot is the error; those before it have happened.

    `seen`: a message may only go to the session as it is in `s`, else Conflict.
    """
    said = [
        parts_of(caller, event.input, f"events[{number}].input") if isinstance(event, MessageInput) else ()
        for number, event in enumerate(events)
    ]
    for number, event in enumerate(events):
        own = f"{key}:{number}" if key else None
        try:
            if isinstance(event, MessageInput):
                counts, to = messages_in(event.input), s if seen else s.id
                await sessions.send(caller, to, said[number], if_busy=if_busy, key=own, messages=counts)
            else:
                once = Once(own, msgspec.to_builtins(event.model_dump(mode="json"))) if own else None
                await _act(caller, s.id, event, f"events[{number}]", once)
        except UnknownPendingCall:
            raise  # the vendors' client knows these very words
        except RemanenceError as error:
            if number:
                error.message += f" The {number} before it in this request had happened: send what is left."
            raise


_Act = CancelInput | ToolResultInput | ApprovalInput | ComputerUseInput


async def _act(caller: Caller, session: str, event: _Act, path: str, once: Once | None) -> None:
    """Let an event happen that is no message."""
    match event:
        case CancelInput():
            await sessions.cancel(caller, session, once=once)
        case ToolResultInput():
            await _result(caller, session, event, path, once)
        case ApprovalInput():
            await _approval(caller, session, event, path, once)
        case ComputerUseInput():
            path = f"{path}.type"
            raise Unsupported(f"{path}: this release has no browsers to answer for.", param=path)


async def _result(caller: Caller, session: str, event: ToolResultInput, path: str, once: Once | None) -> None:
    if event.success and event.error is not None:
        raise InvalidInput(f"{path}.error: a call that succeeded has no error.", param=f"{path}.error")
    output = (event.output or "") if event.success else event.error or "The call failed."
    parts: tuple[Part, ...]
    if isinstance(output, str):
        parts = (Text(output),)
    else:
        parts = tuple(_part(content, f"{path}.output[{place}]") for place, content in enumerate(output))
    s = await owned_session(caller, session)
    known = s.call(event.call_id)
    in_turn = event.turn_id == turn_id(s.id, s.turns)
    try:
        if known is not None and in_turn and known.state == "question":
            await approvals.answer(caller, session, event.call_id, parts, once=once)
            return
        if known is not None and not in_turn:
            raise NotFound("another turn's")
        await approvals.tool_result(caller, session, event.call_id, parts, error=not event.success, once=once)
    except (NotFound, Conflict) as error:
        if type(error) not in (NotFound, Conflict):
            raise
        raise UnknownPendingCall(event.call_id) from None


async def _approval(caller: Caller, session: str, event: ApprovalInput, path: str, once: Once | None) -> None:
    decision = event.response.decision
    if event.request_id.startswith("doubt_"):
        if decision == "approve":
            raise InvalidInput(
                f"{path}.response.decision: an effect in doubt cannot be approved. Nothing was recorded. Give it up "
                "with `deny`, or say under /admin/v1/doubts that it happened or shall run again.",
                param=f"{path}.response.decision",
            )
        call = event.request_id.removeprefix("doubt_")
        await approvals.resolve(caller, session, call, outcome="give_up", note="over the Agents API")
        return
    ruling = Ruling("approve" if decision == "approve" else "deny", "dismissed" if decision == "cancel" else "")
    await approvals.rule(caller, session, event.request_id, ruling, once=once)
