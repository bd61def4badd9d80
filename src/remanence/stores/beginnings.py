"""What a session without a title begins with: the first words that were said to it, for lists.

They are read from the journal while the list is made, and kept nowhere else: what is redacted or erased is gone from
lists as well, without anybody who would have to think of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from remanence.content import text_of
from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events import InputReceived
from remanence.stores.rows import Row, kind_in, recorded

__all__ = ["LOOKED_AT", "first_words"]

LOOKED_AT = 4
"""Of so many first records of its own; what is said to a session is nearly always the second."""
CHARS = 120
_READ_CHARS = 2_000


def first_words(rows: Iterable[Row]) -> str:
    """The beginning of the first input among these records, on one line; empty without one.

    What is so long that it lies beside the journal is not fetched, and what cannot be read is no list's fault.
    """
    for row in rows:
        if row.payload is None or kind_in(row.payload) != InputReceived.__name__:
            continue
        try:
            record = recorded("", row)
        except (StoreCorrupt, UnknownEvent):
            continue
        if record.redacted or not isinstance(record.event, InputReceived):
            continue
        if words := " ".join(text_of(record.event.parts)[:_READ_CHARS].split()):
            return words if len(words) <= CHARS else f"{words[: CHARS - 1]}…"
    return ""
