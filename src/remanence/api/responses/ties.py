"""Answers to approvals that come with the whole conversation: tied to the session that asked.

A client that keeps the conversation itself names no response to go on from. The id of each question says in which
session it was asked; that session goes on. What the client sends of the past must be what that session says: then
nothing it sent is lost. It is compared by meaning (texts, pictures, arguments of calls, results), not by ids, and
without the thoughts of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec

from remanence.api.responses.input import Approval, Given, refuse
from remanence.api.responses.items import approval_id
from remanence.api.responses.kept import read_all
from remanence.api.responses.questions import asker_of
from remanence.commands import approvals
from remanence.commands.approvals import Ruling
from remanence.commands.caller import Caller, state_of
from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult, arguments_digest, text_of
from remanence.core.state import Session
from remanence.errors import InvalidInput, NotFound
from remanence.events import ApprovalGiven, InputReceived, ModelReplied, ToolReturned

__all__ = ["ruled", "session_of", "without_past"]


def session_of(given: Given) -> str:
    """The one session that asked what is answered. Raises InvalidInput for a question that is none of ours."""
    for answer in given.approvals:
        if not asker_of(answer.call):
            raise unknown(answer.call, answer.path)
    asking = {asker_of(answer.call): answer.path for answer in given.approvals}
    if len(asking) > 1:
        refuse(
            [*asking.values()][-1], "it was asked in another session than the answer before it: send them one by one"
        )
    return next(iter(asking))


def unknown(name: str, path: str) -> InvalidInput:
    """An answer to what nobody asks here. It is no 404: that would be said of what the address names."""
    return InvalidInput(
        f"Approval request with id '{name[:200]}' not found: it was not asked here, or its turn has ended. Nothing was "
        "written.",
        param=f"{path}.approval_request_id",
    )


def ruled(caller: Caller, s: Session, answer: Approval, ruling: Ruling) -> ApprovalGiven:
    """The fact that an answer is in a session as it stands. Raises as `approvals.ruled`, but for a question that is
    not open there: it is named as the client knows it."""
    try:
        return approvals.ruled(caller, s, answer.call.removeprefix(approval_id(s.id, "")), ruling)
    except NotFound:
        raise unknown(answer.call, answer.path) from None


async def without_past(caller: Caller, given: Given, session: str, agent: str) -> Given:
    """What is new in an input, after the past that the session knows. Raises InvalidInput for a question that is not
    open here, when `agent` did not ask, or when the past is another one."""
    try:
        s = await state_of(caller, session)
    except NotFound:
        s = None
    if s is None or s.project != caller.project or s.deleted:
        raise unknown(given.approvals[0].call, given.approvals[0].path)
    if s.agent != agent:
        refuse("model", "another agent asked what is answered here, and only that one can go on")
    for answer in given.approvals:  # one that comes too late is told so
        ruled(caller, s, answer, Ruling())
    waiting = {call.call for call in s.turn.calls if call.state != "returned"} if s.turn else set[str]()
    if _marks(given.messages[: given.past], waiting) != _marks(await _said(caller, s), waiting):
        raise InvalidInput(
            f"What comes before the answer is not what session {session} says, in which it was asked. Nothing was "
            "written. Send every item as it was given, or the answer alone with the `previous_response_id` that asked.",
            param="input",
        )
    return msgspec.structs.replace(given, messages=given.messages[given.past :], past=0)


async def _said(caller: Caller, s: Session) -> list[Message]:
    """What was said in a session."""
    said: list[Message] = []
    for record in await read_all(caller, s.id, upto=s.head):
        match record.event:
            case InputReceived(parts=parts) if not record.redacted:
                said.append(Message("user", parts))
            case ModelReplied(parts=parts) if not record.redacted:
                said.append(Message("assistant", parts))
            case ToolReturned(call=call, parts=parts) if not record.redacted:
                said.append(Message("tool", (ToolResult(call, "", parts),)))
            case _:
                pass
    return said


def _marks(messages: Sequence[Message], waiting: AbstractSet[str]) -> tuple[list[object], Counter[str]]:
    """What was said, in order; and what calls were made and came to, which may have been side by side. Of those that
    are still `waiting` a client shows some, and of some only the question."""
    said: list[object] = []
    done: Counter[str] = Counter()
    for message in messages:
        for part in message.parts:
            match part:
                case ToolCall(call=call) if call in waiting:
                    pass
                case ToolCall(arguments=arguments):
                    done[arguments_digest("", arguments)] += 1
                case ToolResult(parts=parts):
                    done[f"= {text_of(parts).strip()}"] += 1
                case _:
                    said += [(message.role, mark) for mark in _mark(part)]
    return said, done


def _mark(part: Part) -> list[object]:
    match part:
        case Text(text=text) if text.strip():
            return [text.strip()]
        case Image() | File():
            return [type(part).__name__]
        case _:
            return []
