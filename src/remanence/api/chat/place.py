"""How far a reader of a chat stream has read: ids for its events, and what follows one of them.

This wire format has no numbers of its own. The `id:` of an event says, for the words and for the arguments of each
call, how many characters were told and their checksum: `57.9ab3f001-30.1c2d3e4f`. The same request, under the same
`Idempotency-Key` and with the id as `Last-Event-ID`, is told the rest. When the reply was begun again with other words
meanwhile (its worker died, its line broke), the checksum does not hold, and that is said instead.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from zlib import crc32

from remanence.api.chat.answer import Arguments, CallBegun, Piece, Words, contradicted
from remanence.api.chat.shapes import ChatChunk
from remanence.errors import InvalidInput

__all__ = ["Tally", "beyond"]

_LANE = r"\d{1,9}\.[0-9a-f]{1,8}"
_ID = re.compile(rf"{_LANE}(?:-{_LANE}){{0,127}}")


class Tally:
    """Characters told, and their checksums: of the words, then of the arguments of each call that has begun."""

    def __init__(self, lanes: list[tuple[int, int]] | None = None) -> None:
        """`lanes`: what was told already; `begun` then."""
        self.begun = lanes is not None
        self.lanes = lanes or [(0, 0)]

    @classmethod
    def of(cls, event_id: str) -> Tally:
        """The place an id names. Raises InvalidInput."""
        if _ID.fullmatch(event_id) is None:
            raise InvalidInput(
                f"last-event-id: {event_id[:80]!r} is no id of an event of a chat stream. Nothing was sent. Leave the "
                "header out to be told the answer from its beginning.",
                param="last-event-id",
            )
        lanes = [lane.split(".") for lane in event_id.split("-")]
        return cls([(int(count), int(checksum, 16)) for count, checksum in lanes])

    def __str__(self) -> str:
        return "-".join(f"{count}.{checksum:x}" for count, checksum in self.lanes)

    def take(self, chunk: ChatChunk) -> None:
        """Count what a chunk tells."""
        for choice in chunk.choices:
            if choice.delta.content:
                self._add(0, choice.delta.content)
            for piece in choice.delta.tool_calls or ():
                self._add(piece.index + 1, piece.function.arguments or "" if piece.function else "")

    def _add(self, lane: int, text: str) -> None:
        while len(self.lanes) <= lane:
            self.lanes.append((0, 0))
        count, checksum = self.lanes[lane]
        self.lanes[lane] = count + len(text), crc32(text.encode(errors="surrogatepass"), checksum)


async def beyond(pieces: AsyncGenerator[Piece], told: Tally) -> AsyncGenerator[Piece]:
    """The pieces without what was told. Raises ModelError when they do not begin with it."""
    owed = tuple(told.lanes)  # `told` goes on counting while this is read
    heard = [(0, 0)] * len(owed)
    async with aclosing(pieces):
        async for piece in pieces:
            match piece:
                case Words(text=text):
                    if rest := _rest(heard, owed, 0, text):
                        yield Words(rest)
                case CallBegun(number=number):
                    if number + 1 >= len(owed):
                        yield piece
                case Arguments(number=number, text=text):
                    if rest := _rest(heard, owed, number + 1, text):
                        yield Arguments(number, rest)
                case _:
                    if tuple(heard) != owed:
                        raise contradicted()
                    yield piece


def _rest(heard: list[tuple[int, int]], owed: Sequence[tuple[int, int]], lane: int, text: str) -> str:
    """What of a text was not told in its lane."""
    if lane >= len(owed):
        return text
    (count, checksum), (whole, expected) = heard[lane], owed[lane]
    known, rest = text[: whole - count], text[whole - count :]
    heard[lane] = count + len(known), crc32(known.encode(errors="surrogatepass"), checksum)
    if heard[lane][0] == whole and heard[lane][1] != expected:
        raise contradicted()
    return rest
