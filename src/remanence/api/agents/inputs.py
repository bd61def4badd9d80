"""What is put into a session: messages, results, answers, cancels; those of one request together, and once.

A request is one append. Each of its events is judged by the session as the ones before it leave it; when one cannot be,
none happens. Whether the session is busy is asked once, of the session as it is before the request: the messages of one
request are one submission, and the first of them is not what keeps the second out. A key belongs to the whole of a
request.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import ClassVar

from remanence.api.agents.bodies import (
    ApprovalInput,
    CancelInput,
    ComputerUseInput,
    InputEvent,
    InputMessage,
    InputText,
    MessageInput,
    ToolResultInput,
)
from remanence.api.agents.objects import turn_id
from remanence.commands import approvals, sessions
from remanence.commands.approvals import Ruling
from remanence.commands.caller import Bound, Caller, body_digest
from remanence.commands.together import Judged, together
from remanence.content import Image, Part, Text
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, NotFound, RemanenceError, Unsupported
from remanence.events import Event, InputReceived, ToolReturned
from remanence.spec import AgentSpec, IfBusy

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
    """Let the events happen, in order and all of them. The first that cannot is the error, and none has happened then.

    `seen`: a message may only go to the session as it is in `s`, else Conflict.
    """
    bound = _bound(s, events, if_busy, key) if key is not None else None
    if len(events) == 1 and isinstance(events[0], MessageInput):
        said, counts = parts_of(caller, events[0].input, "events[0].input"), messages_in(events[0].input)
        await sessions.send(caller, s if seen else s.id, said, if_busy=if_busy, key=bound, messages=counts)
        return
    judged = [_judged(caller, event, f"events[{number}]", if_busy) for number, event in enumerate(events)]
    try:
        await together(caller, s.id, *judged, check=_check(events, if_busy), once=bound)
    except UnknownPendingCall:
        raise  # the vendors' client knows these very words
    except RemanenceError as error:
        if len(events) > 1:
            error.message += f" None of the {len(events)} events of the request happened."
        raise


def _check(events: Sequence[InputEvent], if_busy: IfBusy) -> Callable[[Session], None] | None:
    """What is asked of the session before any of the events, if anything is."""
    says = any(isinstance(event, MessageInput) for event in events)
    return sessions.check_idle if says and if_busy == "reject" else None


def _bound(s: Session, events: Sequence[InputEvent], if_busy: IfBusy, key: str) -> Bound:
    """The key of a request, in its session. `if_busy` matters to messages only."""
    said = [event.model_dump(mode="json") for event in events]
    busy = if_busy if any(isinstance(event, MessageInput) for event in events) else ""
    return Bound(f"events:{s.id}:{key}", body_digest((said, busy)))


def _judged(caller: Caller, event: InputEvent, path: str, if_busy: IfBusy) -> Judged:
    """How an event is judged. Raises InvalidInput for one that no session could take."""
    match event:
        case MessageInput():
            parts, counts = parts_of(caller, event.input, f"{path}.input"), messages_in(event.input)
            given = InputReceived(caller.make_id("in"), parts, user=caller.actor, if_busy=if_busy, messages=counts)
            return lambda _, spec: sessions.said(caller, spec, given)
        case CancelInput():
            return lambda s, _: sessions.cancelled(caller, s)
        case ToolResultInput():
            return _result(caller, event, path)
        case ApprovalInput():
            return _approval(caller, event, path)
        case ComputerUseInput():
            path = f"{path}.type"
            raise Unsupported(f"{path}: this release has no browsers to answer for.", param=path)


def _result(caller: Caller, event: ToolResultInput, path: str) -> Judged:
    if event.success and event.error is not None:
        raise InvalidInput(f"{path}.error: a call that succeeded has no error.", param=f"{path}.error")
    if not event.success and event.output is not None:
        raise InvalidInput(f"{path}.output: a call that failed has an `error`, no output.", param=f"{path}.output")
    output = (event.output or "") if event.success else event.error or "The call failed."
    parts: tuple[Part, ...]
    if isinstance(output, str):
        parts = (Text(output),)
    else:
        parts = tuple(_part(content, f"{path}.output[{place}]") for place, content in enumerate(output))
    given = ToolReturned(event.call_id, parts, not event.success)

    def judge(s: Session, spec: AgentSpec) -> Event:
        known = s.call(event.call_id)
        try:
            if known is not None and event.turn_id != turn_id(s.id, s.turns):
                raise NotFound("another turn's")
            if known is not None and known.state == "question":
                return approvals.answered(caller, s, event.call_id, parts)
            return approvals.returned(caller, s, spec, given)
        except (NotFound, Conflict):
            raise UnknownPendingCall(event.call_id) from None

    return judge


def _approval(caller: Caller, event: ApprovalInput, path: str) -> Judged:
    decision = event.response.decision
    if event.request_id.startswith("doubt_"):
        if decision == "approve":
            raise InvalidInput(
                f"{path}.response.decision: an effect in doubt cannot be approved. Nothing was recorded. Give it up "
                "with `deny`, or say under /admin/v1/doubts that it happened or shall run again.",
                param=f"{path}.response.decision",
            )
        call, note = event.request_id.removeprefix("doubt_"), "over the Agents API"
        gives_up = approvals.Resolution("give_up", note=note)
        return _if_asked(path, lambda s, _: approvals.resolved(caller, s, call, gives_up))
    ruling = Ruling("approve" if decision == "approve" else "deny", "dismissed" if decision == "cancel" else "")
    return _if_asked(path, lambda s, _: approvals.ruled(caller, s, event.request_id, ruling))


def _if_asked(path: str, judged: Judged) -> Judged:
    """The same; what nobody asks in this session is a wrong field. A 404 would be said of the session."""

    def judge(s: Session, spec: AgentSpec) -> Event:
        try:
            return judged(s, spec)
        except NotFound as error:
            raise InvalidInput(f"{path}.request_id: {error.message}", param=f"{path}.request_id") from None

    return judge
