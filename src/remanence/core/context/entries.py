"""The messages of a transcript, each weighed once, and the turns they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult
from remanence.core.ledger import FILE_TOKENS_MAX, IMAGE_TOKENS_MAX
from remanence.core.tokens import Family, message_tokens

__all__ = ["Entry", "TurnText", "encode", "entry_of"]

encode = msgspec.json.Encoder().encode
_PLAIN = (Text, ToolCall)
"""Parts that hold nothing but text."""


class Entry(NamedTuple):
    """A message, weighed once: its tokens as estimated for the window budget, an upper bound of them, its digest.

    Of a message without media the bound is its length in bytes. `position` is that of the record a tool's result came
    in (0: none did).
    """

    message: Message
    tokens: int
    tokens_max: int
    digest: bytes
    position: int = 0


class TurnText:
    """The messages of one turn, and the position it came from."""

    __slots__ = ("entries", "from_position", "inputs", "number", "recalled", "tokens")

    def __init__(self, number: int, from_position: int) -> None:
        self.number = number
        self.from_position = from_position
        self.inputs = 0
        """How many messages, at the beginning, are what people said to begin it (and what was recalled for it)."""
        self.recalled = False
        self.entries: list[Entry] = []
        self.tokens = 0

    @property
    def messages(self) -> list[Message]:
        """What was said, in order."""
        return [entry.message for entry in self.entries]

    def say(self, entry: Entry) -> None:
        """One more message."""
        self.entries.append(entry)
        self.tokens += entry.tokens

    def remember(self, entry: Entry) -> None:
        """What was recalled for the turn, before its inputs."""
        self.entries.insert(0, entry)
        self.tokens += entry.tokens
        self.inputs += 1
        self.recalled = True

    def head(self, count: int) -> TurnText:
        """The same turn with its first messages alone."""
        turn = TurnText(self.number, self.from_position)
        turn.inputs, turn.recalled, turn.entries = self.inputs, self.recalled, self.entries[:count]
        turn.tokens = sum(entry.tokens for entry in turn.entries)
        return turn


def entry_of(message: Message, position: int = 0, family: Family = "cl100k") -> Entry:
    """A message, weighed."""
    encoded = encode(message)
    tokens = message_tokens(message, family)
    return Entry(message, tokens, _bound(message, encoded), hashlib.sha256(encoded).digest(), position)


def _bound(message: Message, encoded: bytes) -> int:
    """An upper bound of the tokens of a message."""
    tokens_max = len(encoded)
    if all(isinstance(part, _PLAIN) for part in message.parts):
        return tokens_max
    for part in _media(message.parts):
        inline = len(part.data or "")
        if isinstance(part, Image):
            tokens_max += IMAGE_TOKENS_MAX - inline
        elif not (inline and part.media_type.startswith("text/")):
            tokens_max += FILE_TOKENS_MAX - inline
    return tokens_max


def _media(parts: tuple[Part, ...]) -> Iterator[Image | File]:
    for part in parts:
        if isinstance(part, Image | File):
            yield part
        elif isinstance(part, ToolResult):
            yield from _media(part.parts)
