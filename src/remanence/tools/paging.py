"""`open_result`: what the window does not show whole any more, a page at a time, or the passages that fit a query.

A reference names a record of the session's own journal (`CALL@POSITION` a tool's result, `CALL` the same without its
place, `input@POSITION` what somebody said, `turns:A-B` whole turns), so an agent can open nothing but its own past.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from remanence.content import Message, Text, ToolCall, ToolResult, parse_arguments, text_of
from remanence.core.builtins import OPEN_RESULT
from remanence.core.context import Transcript
from remanence.core.context.stubs import identifiers
from remanence.errors import NotFound, RemanenceError
from remanence.events import InputReceived, Recorded, ToolReturned, TurnStarted
from remanence.ports import Database, Tool, ToolCallContext, ToolOutcome
from remanence.spec import ToolSpec
from remanence.tools.results import failure

__all__ = ["best_passages", "open_result_tool", "page_of"]

PAGE_CHARS: Final = 6_000
PASSAGE_CHARS: Final = 800
PASSAGES: Final = 6
_RECORDS: Final = 1_000
_REF: Final = re.compile(r"(?P<call>[\w-]+?)@(?P<position>\d{1,18})|turns:(?P<first>\d{1,9})-(?P<last>\d{1,9})")
_WORDS: Final = re.compile(r"\w+")


def open_result_tool(database: Database) -> Mapping[str, Tool]:
    """The tool over one database, by name."""
    return {OPEN_RESULT.name: _OpenResult(database)}


class _OpenResult:
    """The tool, as a `remanence.ports.Tool`. It only reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def spec(self) -> ToolSpec:
        return OPEN_RESULT

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        """Open what `ref` names. A reference that names nothing is an outcome the model can act on."""
        given = parse_arguments(call.arguments)
        ref, query, page = str(given["ref"]).strip(), str(given.get("query", "")).strip(), int(given.get("page", 1))
        try:
            text, untrusted = await self._whole(context, ref)
        except RemanenceError as error:
            return failure(f"{ref} could not be opened: {error.message}")
        if text is None:
            return failure(f"There is nothing under {ref!r} in this session. Use a reference as it was shown to you.")
        shown = best_passages(text, query) if query else page_of(text, page)
        return ToolOutcome((Text(shown),), untrusted=untrusted or context.untrusted)

    async def reconcile(self, effect_key: str) -> None:
        """Nothing is ever in doubt here."""

    async def _whole(self, context: ToolCallContext, ref: str) -> tuple[str | None, bool]:
        named = _REF.fullmatch(ref)
        if named is None:
            return await self._by_call(context, ref)
        if named["first"]:
            return await self._turns(context.session, int(named["first"]), int(named["last"]))
        position = int(named["position"])
        if position < 1:
            return None, False
        for record in await self._database.store.read(context.session, after=position - 1, limit=1):
            event = record.event
            if isinstance(event, ToolReturned) and event.call == named["call"]:
                return await self._result(event), event.untrusted
            if isinstance(event, InputReceived) and named["call"] == "input":
                return text_of(event.parts), False
        return None, False

    async def _by_call(self, context: ToolCallContext, call: str) -> tuple[str | None, bool]:
        """The result of a call whose place nobody knows: first where the window is, then from the beginning."""
        for start in dict.fromkeys((max(context.window_from - 1, 0), 0)):
            async for record in self._records(context.session, start):
                if isinstance(record.event, ToolReturned) and record.event.call == call:
                    return await self._result(record.event), record.event.untrusted
        return None, False

    async def _result(self, event: ToolReturned) -> str:
        if event.blob is None:
            return text_of(event.parts)
        try:
            return (await self._database.blobs.get(event.blob)).decode(errors="replace")
        except NotFound:
            return text_of(event.parts)  # erased since: what was shown of it is all there is

    async def _turns(self, session: str, first: int, last: int) -> tuple[str | None, bool]:
        """What was said in these turns, as a transcript."""
        text, began = Transcript(), False
        async for record in self._records(session, 0):
            if isinstance(record.event, TurnStarted) and record.event.turn > last:
                break
            began = began or (isinstance(record.event, TurnStarted) and record.event.turn >= first)
            text.add(record)
            if not began:
                text.turns.clear()
        turns = [turn for turn in text.turns if first <= turn.number <= last]
        lines = [f"turn {turn.number}, {line}" for turn in turns for line in _lines(turn.messages)]
        return ("\n".join(lines) or None), False

    async def _records(self, session: str, after: int) -> AsyncIterator[Recorded]:
        while True:
            records = await self._database.store.read(session, after=after, limit=_RECORDS)
            for record in records:
                yield record
            if len(records) < _RECORDS:
                return
            after = records[-1].position


def _lines(messages: Sequence[Message]) -> list[str]:
    lines: list[str] = []
    for message in messages:
        role = message.role
        for part in message.parts:
            if isinstance(part, Text):
                lines.append(f"{role}: {part.text}")
            elif isinstance(part, ToolCall):
                lines.append(f"{role} calls {part.name}({part.arguments})")
            elif isinstance(part, ToolResult):
                lines.append(f"{part.name} returns: {text_of(part.parts)}")
    return lines


def page_of(text: str, page: int) -> str:
    """One page of a text, and where it stands in it."""
    pages = max(1, -(-len(text) // PAGE_CHARS))
    if page > pages:
        return f"[there is no page {page}: it has {pages}]"
    shown = text[(page - 1) * PAGE_CHARS : page * PAGE_CHARS]
    return shown if pages == 1 else f"{shown}\n[page {page} of {pages}]"


def best_passages(text: str, query: str) -> str:
    """The passages of a text that hold most of the query's words (identifiers count three times), in their order."""
    wanted = {word.casefold(): 1 for word in _WORDS.findall(query)}
    wanted |= {name.casefold(): 3 for name in identifiers(query)}
    passages = [text[start : start + PASSAGE_CHARS] for start in range(0, len(text), PASSAGE_CHARS // 2)]
    scored = [
        (sum(weight for word, weight in wanted.items() if word in passage.casefold()), -index)
        for index, passage in enumerate(passages)
    ]
    best: list[int] = []
    for score, place in sorted(scored, reverse=True):
        if score and len(best) < PASSAGES and not {-place - 1, -place + 1} & set(best):
            best.append(-place)
    if not best:
        return f"[nothing in its {len(text):,} characters fits {query!r}; without a query you get its pages]"
    return "\n[...]\n".join(passages[index] for index in sorted(best))
