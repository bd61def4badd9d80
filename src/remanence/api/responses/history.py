"""What was said in a session before, as messages for another one."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from remanence.api.responses.fold import Fold
from remanence.api.responses.items import call_on_wire
from remanence.api.responses.kept import read_all
from remanence.commands.caller import Caller
from remanence.content import Message, Part, Text, ToolCall, ToolResult
from remanence.core.context import Transcript
from remanence.core.state import Window
from remanence.events import ToolReturned, TurnStarted

__all__ = ["renamed", "said_before", "told_again"]

_ASKED = "This call was not run in this branch of the conversation: nobody had said whether it may."


async def said_before(
    caller: Caller, session: str, upto: int, *, waiting: bool = False, whole: bool = False
) -> tuple[Message, ...]:
    """Everything a session's model would be told, up to a position; calls under the ids that clients know. `waiting`:
    also what waits for the output of a call; `whole`: also what no model is sent, for a journal that goes on from it.
    """
    text, first = Transcript(whole=whole), 0
    for record in await read_all(caller, session, upto=upto):
        text.add(record)
        if isinstance(record.event, TurnStarted) and not first:
            first = record.event.turn
    said = text.messages(Window(first or 1, 1)).messages
    return renamed(session, (*said, *text.waiting()) if waiting else said)


async def told_again(caller: Caller, session: str, fold: Fold) -> tuple[Message, ...]:
    """The reply that a response ended with for its client's calls, and what its other calls came to until then."""
    if fold.reply is None:
        return ()
    left = {part.call: part.name for part in fold.reply.parts if isinstance(part, ToolCall)}
    left = {call: name for call, name in left.items() if call not in fold.with_client}
    said = [Message("assistant", fold.reply.parts)]
    for record in await read_all(caller, session, after=fold.reply_at, upto=fold.end) if left else ():
        match record.event:
            case ToolReturned(call=call, parts=parts, error=error) if call in left:
                said.append(Message("tool", (ToolResult(call, left.pop(call), parts, error),)))
            case _:
                pass
    said += [Message("tool", (ToolResult(call, name, (Text(_ASKED),), True),)) for call, name in left.items()]
    return tuple(said)


def renamed(session: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with their calls under the ids that clients know: elsewhere the session's own could be taken."""

    def known(part: Part) -> Part:
        if isinstance(part, ToolCall | ToolResult):
            return replace(part, call=call_on_wire(session, part.call))
        return part

    return tuple(replace(message, parts=tuple(map(known, message.parts))) for message in messages)
