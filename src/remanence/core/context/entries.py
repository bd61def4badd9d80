"""The messages of a transcript, each weighed once, and the turns they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult
from remanence.core.ledger import FILE_TOKENS_MAX, IMAGE_TOKENS_MAX

__all__ = ["BYTES_PER_TOKEN", "Entry", "TurnText", "encode", "entry_of"]

BYTES_PER_TOKEN = 4
"""The estimate the window budget uses; reservations use the bound in `core/ledger.py` instead."""
IMAGE_BYTES = 1_600 * BYTES_PER_TOKEN
"""What a picture counts for in the window budget, however large its file is."""

encode = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """A message, weighed once: its size for the window budget, an upper bound of its tokens, its digest.

    `position` is that of the record a tool's result came in (0: none did).
    """

    message: Message
    size: int
    tokens_max: int
    digest: bytes
    position: int = 0


class TurnText:
    """The messages of one turn, and the position it came from."""

    __slots__ = ("bytes", "entries", "from_position", "inputs", "number", "recalled")

    def __init__(self, number: int, from_position: int) -> None:
        self.number = number
        self.from_position = from_position
        self.inputs = 0
        """How many messages, at the beginning, are what people said to begin it (and what was recalled for it)."""
        self.recalled = False
        self.entries: list[Entry] = []
        self.bytes = 0

    @property
    def messages(self) -> list[Message]:
        """What was said, in order."""
        return [entry.message for entry in self.entries]

    def say(self, entry: Entry) -> None:
        """One more message."""
        self.entries.append(entry)
        self.bytes += entry.size

    def remember(self, entry: Entry) -> None:
        """What was recalled for the turn, before its inputs."""
        self.entries.insert(0, entry)
        self.bytes += entry.size
        self.inputs += 1
        self.recalled = True

    def head(self, count: int) -> TurnText:
        """The same turn with its first messages alone."""
        turn = TurnText(self.number, self.from_position)
        turn.inputs, turn.recalled, turn.entries = self.inputs, self.recalled, self.entries[:count]
        turn.bytes = sum(entry.size for entry in turn.entries)
        return turn


def entry_of(message: Message, position: int = 0) -> Entry:
    """A message, weighed."""
    encoded = encode(message)
    size, tokens_max = _weigh(message, encoded)
    return Entry(message, size, tokens_max, hashlib.sha256(encoded).digest(), position)


def _weigh(message: Message, encoded: bytes) -> tuple[int, int]:
    """The size of a message for the window budget, and an upper bound of its tokens."""
    size = tokens_max = len(encoded)
    if all(isinstance(part, Text | ToolCall) for part in message.parts):
        return size, tokens_max
    for part in _media(message.parts):
        inline = len(part.data or "")
        if isinstance(part, Image):
            size += IMAGE_BYTES - inline
            tokens_max += IMAGE_TOKENS_MAX - inline
        elif not (inline and part.media_type.startswith("text/")):
            tokens_max += FILE_TOKENS_MAX - inline
    return size, tokens_max


def _media(parts: tuple[Part, ...]) -> Iterator[Image | File]:
    for part in parts:
        if isinstance(part, Image | File):
            yield part
        elif isinstance(part, ToolResult):
            yield from _media(part.parts)
