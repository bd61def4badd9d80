"""A journal as a conversation: what people said, what the agent answered, what its tools returned, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from remanence.content import Part
from remanence.events import InputReceived, ModelReplied, Recorded, ToolReturned, TurnEnded

__all__ = ["Message", "messages_of"]


class Message(msgspec.Struct, frozen=True):
    """One thing that was said. `stop` is why an answer ended when it did not end by itself."""

    position: int
    at: int
    role: Literal["user", "assistant", "tool", "end"]
    name: str
    parts: tuple[Part, ...]
    stop: str = ""
    error: bool = False
    redacted: bool = False


def messages_of(records: Sequence[Recorded]) -> list[Message]:
    """The messages in a stretch of a journal."""
    return [message for record in records if (message := message_of(record)) is not None]


def message_of(record: Recorded) -> Message | None:
    """The message a record is, if it is one."""
    position, at, gone = record.position, record.at, record.redacted
    match record.event:
        case InputReceived(parts=parts, user=user):
            return Message(position, at, "user", user or record.actor, parts, redacted=gone)
        case ModelReplied(parts=parts, model=model, stop=stop):
            return Message(
                position, at, "assistant", model, parts, "" if stop in ("stop", "tool_calls") else stop, redacted=gone
            )
        case ToolReturned(parts=parts, call=call, error=error):
            return Message(position, at, "tool", call, parts, error=error, redacted=gone)
        case TurnEnded(status=status, reason=reason) if status != "completed":
            return Message(position, at, "end", status, (), reason)
        case _:
            return None
