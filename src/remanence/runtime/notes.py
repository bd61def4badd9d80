"""What processes over one database tell each other of their sessions, and how it is written.

A message is the name of its sender and some notes, as JSON. A note that cannot be read (another release sends others)
makes its message nothing: what it said is in the journal as well.

What a running call says is one row of characters, in the order in which it was said. A note with a piece of it says how
many characters came before. So whoever reads knows by one number how far they are: what they have is passed over, and a
gap is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from remanence.values import Delta, DeltaKind

__all__ = [
    "Called",
    "Hello",
    "Here",
    "Message",
    "News",
    "Note",
    "Piece",
    "Progress",
    "Unwish",
    "Wish",
    "messages_of",
    "read_message",
    "runs_of",
]

CHARS_MAX = 1_000
"""How much text a note carries: six bytes for each character in the worst case, and a message holds 7,900."""

RUN_CHARS = 8
"""How much of that the frame of one piece counts for."""

_HALVES = re.compile("[\ud800-\udfff]")
Run = tuple[int, DeltaKind, str]
"""The part of the reply, its kind, and characters of it."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Somebody reads here: who works?"""


class Here(msgspec.Struct, frozen=True, array_like=True, tag="here"):
    """There is a worker here."""


class Called(msgspec.Struct, frozen=True, array_like=True):
    """A model call, and how many characters of it are known."""

    call: str = ""
    attempt: int = 0
    said: int = 0


class Wish(msgspec.Struct, frozen=True, array_like=True, tag="wish"):
    """Somebody here follows a session; without `pieces`, only what is journaled of it."""

    session: str
    pieces: bool
    known: Called = Called()


class Unwish(msgspec.Struct, frozen=True, array_like=True, tag="unwish"):
    """Nobody here follows it any more."""

    session: str


class News(msgspec.Struct, frozen=True, array_like=True, tag="news"):
    """Records were journaled, from one position to another; 0 and 0: a look may be worth it."""

    session: str
    first: int
    last: int


class Piece(msgspec.Struct, frozen=True, array_like=True, tag="piece"):
    """What a call said after its first `known.said` characters. `position` is that of the call's record."""

    session: str
    position: int
    known: Called
    runs: tuple[Run, ...]


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """What a running tool says about itself."""

    session: str
    call: str
    text: str


Note = Hello | Here | Wish | Unwish | News | Piece | Progress


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Notes, and who sends them."""

    sender: str
    notes: tuple[Note, ...]


_decoder = msgspec.json.Decoder(Message)


def read_message(message: bytes) -> Message | None:
    """The message; None when it is none of this release."""
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError):
        return None


def messages_of(sender: str, notes: Sequence[Note], bytes_max: int) -> Iterator[bytes]:
    """Notes as messages, each with as many as fit; one that fits into none is left out."""
    head = b"[" + msgspec.json.encode(sender) + b",["
    room = bytes_max - len(head) - 2
    held: list[bytes] = []
    size = 0
    for note in notes:
        encoded = _encoded(note)
        if len(encoded) > room:
            continue
        if size + len(encoded) > room:
            yield head + b",".join(held) + b"]]"
            held, size = [], 0
        held.append(encoded)
        size += len(encoded) + 1
    if held:
        yield head + b",".join(held) + b"]]"


def _encoded(note: Note) -> bytes:
    try:
        return msgspec.json.encode(note)
    except UnicodeEncodeError:
        return msgspec.json.encode(_writable(note))


def _writable(note: Note) -> Note:
    """The note without halves of characters, which JSON cannot carry. They are replaced, so that the count stays."""
    if isinstance(note, Piece):
        runs: tuple[Run, ...] = tuple((index, kind, _whole(text)) for index, kind, text in note.runs)
        return Piece(note.session, note.position, note.known, runs)
    if isinstance(note, Progress):
        return Progress(note.session, note.call, _whole(note.text))
    return Hello()


def _whole(text: str) -> str:
    return _HALVES.sub("\ufffd", text)


def runs_of(deltas: Sequence[Delta]) -> Iterator[tuple[Run, ...]]:
    """Pieces of a reply, those of one part in a row put together, in portions that fit into a note.

    The name of a tool is one piece, and stays one.
    """
    portion: list[Run] = []
    room = CHARS_MAX
    for index, kind, text in _together(deltas):
        while text:
            if portion and room < (len(text) + RUN_CHARS if kind == "tool_name" else RUN_CHARS + 1):
                yield tuple(portion)
                portion, room = [], CHARS_MAX
            said, text = text[: room - RUN_CHARS], text[room - RUN_CHARS :]
            portion.append((index, kind, said))
            room -= RUN_CHARS + len(said)
    if portion:
        yield tuple(portion)


def _together(deltas: Sequence[Delta]) -> Iterator[Run]:
    texts: list[str] = []
    of: tuple[int, DeltaKind] | None = None
    for delta in deltas:
        if delta.kind == "progress":
            continue
        if of is not None and of != (delta.index, delta.kind):
            yield (*of, "".join(texts))
            texts = []
        of = delta.index, delta.kind
        texts.append(delta.text)
    if of is not None:
        yield (*of, "".join(texts))
