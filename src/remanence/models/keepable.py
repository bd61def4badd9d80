"""What models and tools say, made fit for the journal. They are code of others, and a value of Python may be anything.

What cannot be kept must not reach a write: the store refuses it, nobody could drive the session any more, and what the
model or the tool did would be taken for lost. So it is looked at here, where it is known whose word it is.
"""

from __future__ import annotations

from typing import cast

from remanence.content import ToolCall, Usage, is_amount
from remanence.errors import plain_words
from remanence.events import Event, encode_readable
from remanence.ports import ModelReply

__all__ = ["no_reply", "seconds", "unfit", "words"]

WORDS_MAX = 4_000
CALLS_MAX = 1_000
"""What a session does with the calls of one reply takes the square of their number: others would wait for seconds."""


def unfit(event: Event) -> str:
    """Why an outcome could not be read back from the journal; empty when it can."""
    try:
        encode_readable(event)
    except ValueError as error:
        return plain_words(str(error))
    return ""


def words(message: object) -> str:
    """A message of an error as text that can be kept: of a bounded length, without halves of characters."""
    text = str(message)
    text = text if len(text) <= WORDS_MAX else f"{text[:WORDS_MAX]}... [cut]"
    return text.encode(errors="replace").decode()


def seconds(asked: object) -> float:
    """A time to wait, as somebody asked for it; 0 for what is none."""
    return float(asked) if isinstance(asked, int | float) and asked > 0 else 0.0


def no_reply(reply: object) -> str:
    """Why what a model handed back is no reply; empty when it is one."""
    if not isinstance(reply, ModelReply):
        return f"it is a {type(reply).__name__}"
    if not isinstance(cast("object", reply.parts), tuple | list):
        return f"its parts are a {type(reply.parts).__name__}"
    calls = sum(isinstance(part, ToolCall) for part in reply.parts)
    if calls > CALLS_MAX:
        return f"it makes {calls:,} calls at once, and {CALLS_MAX:,} are the most"
    usage, cost = cast("object", reply.usage), cast("object", reply.cost_usd_micros)
    if not isinstance(usage, Usage):
        return f"its usage is a {type(usage).__name__}"
    counts: list[object] = [getattr(usage, field) for field in usage.__struct_fields__]
    for count in counts if cost is None else [*counts, cost]:
        if not is_amount(count):
            return f"it says that {count!r:.100} was used, which is no amount"
    return ""
