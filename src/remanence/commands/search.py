"""Finding sessions by what was said and done in them, and the projection that keeps the words.

Every record with something a person may look for is found by its words: what people, models and tools said, the names
and arguments of calls, reasons, notes, titles. Thoughts of a model are not: they were not said. A record of a fork's
past is found in the session that wrote it.

The projection runs in idle time; whoever searches brings it up to date first, as far as that goes in a moment, and is
told how many sessions had to be left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from remanence import screens
from remanence.commands.caller import Caller
from remanence.content import File, Part, Text, ToolCall, ToolResult
from remanence.core.words import excerpt, wanted, words_of
from remanence.errors import NotFound, StoreCorrupt, StoreReadOnly, UnknownEvent
from remanence.events import (
    ApprovalGiven,
    CancelAsked,
    Event,
    InputReceived,
    MemoryKept,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recorded,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    ToolLost,
    ToolResolved,
    ToolReturned,
    TurnEnded,
    kind_of,
)
from remanence.ports import Cursor, Reading, SessionQuery, SessionRow
from remanence.screens import SCREENS, Hit, Search, Seen
from remanence.stores.refusals import records_missing

__all__ = ["Found", "Searched", "asked", "catch_up", "project", "search", "seen_in", "shown", "text_in"]

WORDS_MAX = 4_000
"""So many different words of one record are kept; a tool's result can be a book."""
EXCERPT_CHARS = 160
_RECORDS = 1_000
_SESSIONS, _AT_ONCE = 256, 16
_MICROS = 1_000_000


class Found(msgspec.Struct, frozen=True):
    """A session that was found: its newest record that fits, and the words around, those that fit marked True."""

    row: SessionRow
    position: int
    kind: str
    excerpt: list[tuple[str, bool]]


class Searched(msgspec.Struct, frozen=True):
    """What a search found. `unread`: so many sessions have records that were not looked at yet."""

    found: list[Found]
    unread: int


async def search(caller: Caller, text: str, query: SessionQuery, *, within_s: float = 0.25) -> Searched:
    """Sessions in which all the words of a text were said in one record, the last opened first.

    The last word may be the beginning of one, unless a space follows it. Bringing the words up to date takes at most
    about `within_s`. What is deleted is left out.
    """
    unread = await catch_up(caller, within_s=within_s)
    (found,) = await caller.database.screens.ask(asked(text, query))
    return Searched(shown(text, found), unread)


def asked(text: str, query: SessionQuery) -> screens.Found:
    """The question behind a search."""
    words, prefix = wanted(text)
    query = msgspec.structs.replace(query, without_status=query.without_status or "deleted")
    return screens.Found(Search(words, prefix, query))


def shown(text: str, found: Iterable[Any]) -> list[Found]:
    """Its answer, with the words around."""
    words, prefix = wanted(text)
    return [_found(words, prefix, *one) for one in found]


def _found(words: Sequence[str], prefix: str, hit: Hit, record: Recorded | None = None) -> Found:
    if record is None:
        return Found(hit.row, hit.position, "", [])
    event = record.event
    return Found(hit.row, hit.position, kind_of(event), excerpt(text_in(event), words, prefix, EXCERPT_CHARS))


# --- the projection ---------------------------------------------------------------------------------------------------


async def catch_up(caller: Caller, *, within_s: float) -> int:
    """Read what is new, for about so long; returns how many sessions are left, of those that can be read."""
    until = caller.clock.now() + int(within_s * _MICROS)
    unreadable: set[str] = set()
    while True:
        cursors = await caller.database.store.behind(SCREENS, limit=_SESSIONS + len(unreadable))
        cursors = [cursor for cursor in cursors if cursor.session not in unreadable]
        for start in range(0, len(cursors), _AT_ONCE):
            if caller.clock.now() >= until:
                return len(cursors) - start
            # Together, because what is written at the same time shares a commit.
            some = cursors[start : start + _AT_ONCE]
            outcomes = await asyncio.gather(*(_tried(caller, cursor) for cursor in some))
            unreadable.update(cursor.session for cursor, good in zip(some, outcomes, strict=True) if not good)
        if len(cursors) < _SESSIONS:
            return 0


async def _tried(caller: Caller, cursor: Cursor) -> bool:
    try:
        await project(caller, cursor)
    except (NotFound, StoreCorrupt, StoreReadOnly, UnknownEvent):
        return False
    return True


async def project(caller: Caller, cursor: Cursor, read: Reading | None = None) -> None:
    """Add one session from a cursor to its head; `read` is another way to its records.

    Raises StoreCorrupt, UnknownEvent for a journal that cannot be read.
    """
    read = read or caller.database.store.read
    after = cursor.position
    while after < cursor.head:
        limit = min(_RECORDS, cursor.head - after)
        records = await read(cursor.session, after=after, limit=limit)
        if not records:
            raise records_missing(cursor.session, after, cursor.head)
        upto = records[-1].position
        await caller.database.screens.record(Cursor(cursor.session, after, upto), seen_in(records))
        after = upto


def seen_in(records: Sequence[Recorded]) -> Seen:
    """What a stretch of a journal adds."""
    told = [r for r in records if not r.redacted]  # of the rest the tools named are left, and no word is asked for
    words = tuple((r.position, words_of(text, WORDS_MAX)) for r in told if (text := text_in(r.event)))
    tags: dict[str, str] | None = None
    tagged_at = 0
    doubts: dict[str, bool] = {}
    for record in records:
        match record.event:
            case SessionOpened(metadata=metadata) | SessionForked(metadata=metadata):
                tags, tagged_at = metadata or None, record.position
            case SessionAnnotated(metadata=metadata):
                tags, tagged_at = metadata, record.position
            case ToolLost(call=call):
                doubts[call] = True
            case ToolResolved(call=call):
                doubts[call] = False
            case _:
                pass
    return Seen(
        words=tuple((position, each) for position, each in words if each),
        tags=tags,
        tagged_at=tagged_at,
        lost=tuple(call for call, lost in doubts.items() if lost),
        settled=tuple(call for call, lost in doubts.items() if not lost),
        turns=tuple((r.at, r.event.status) for r in records if isinstance(r.event, TurnEnded)),
        deleted=any(isinstance(record.event, SessionDeleted) for record in records),
    )


# --- what a record says -----------------------------------------------------------------------------------------------


def text_in(event: Event) -> str:
    """What a person may look for in an event; empty when there is nothing. Lines are parted by line feeds."""
    match event:
        case SessionOpened(title=title) | SessionForked(title=title):
            return title
        case InputReceived(parts=parts) | ModelReplied(parts=parts) | ToolReturned(parts=parts):
            return _joined(parts)
        case ToolResolved(parts=parts, note=note):
            return "\n".join(text for text in (note, _joined(parts)) if text)
        case QuestionAsked(question=question, options=options):
            return "\n".join((question, *options))
        case ApprovalGiven(note=text) | ModelFailed(message=text) | ToolLost(reason=text) | MemoryKept(text=text):
            return text
        case CancelAsked(reason=text) | SessionFrozen(reason=text):
            return text
        case _:
            return ""


def _joined(parts: Iterable[Part]) -> str:
    return "\n".join(text for part in parts if (text := _text_of(part)))


def _text_of(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case File(name=name):
            return name or ""
        case ToolCall(name=name, arguments=arguments):
            return f"{name} {_values_of(arguments)}"
        case ToolResult(parts=parts):
            return _joined(parts)
        case _:
            return ""


def _values_of(arguments: str) -> str:
    """The names and values in the arguments of a call, as they are meant, not as JSON escapes them."""
    try:
        return " ".join(_leaves(msgspec.json.decode(arguments)))
    except (msgspec.DecodeError, RecursionError):
        return arguments


def _leaves(value: Any) -> Iterable[str]:
    match value:
        case dict():
            for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]
                yield str(key)  # pyright: ignore[reportUnknownArgumentType]
                yield from _leaves(inner)
        case list():
            for inner in value:  # pyright: ignore[reportUnknownVariableType]
                yield from _leaves(inner)
        case _:
            yield str(value)
