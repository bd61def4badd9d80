"""What was spent: a view over the journals, brought up to date when somebody asks.

Every outcome of a model call is one entry: when, of which session, which model, how many tokens, at what price. The
entries of a stretch of a journal and the move of the view's cursor past it are one transaction, so an outcome is
counted once, whoever else counts at the same time. A session's inherited records are counted where they were written.

A call without a known price is counted as such, never as free. A failed call for which nothing was billed is no entry.
Where the database can only be read, what is not counted in it yet is read, and added to the answer alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from remanence.commands.caller import Caller
from remanence.content import Usage
from remanence.errors import NotFound, StoreCorrupt, StoreReadOnly, UnknownEvent
from remanence.events import CompactionFailed, ContextCompacted, ModelCalled, ModelFailed, ModelReplied, Recorded
from remanence.ports import Cursor, Reading, Summary, UsageQuery, UsageRow
from remanence.stores.refusals import records_missing
from remanence.stores.usage_rows import day_of, hour_of

__all__ = ["USAGE", "bring_up_to_date", "project", "usage"]

USAGE = "usage"
"""The name of the view's projection."""

_SESSIONS, _AT_ONCE = 200, 16
_RECORDS = 1_000
_LOOK_BACK_RECORDS = 500

Entry = tuple[int, Summary, str, Usage, int | None]
Late = list[tuple[str, Entry]]
"""Entries with their sessions, which the database cannot take."""


async def usage(caller: Caller, query: UsageQuery) -> tuple[Sequence[UsageRow], list[str]]:
    """Sums of what was spent up to now, and the sessions whose journals could not be read for it.

    Raises InvalidInput for a field that usage is not kept by.
    """
    late: Late = []
    unread = await bring_up_to_date(caller, late)
    rows = await caller.database.views.usage(query)
    return _with(rows, late, query) if late else rows, unread


def _with(rows: Sequence[UsageRow], late: Late, query: UsageQuery) -> list[UsageRow]:
    """The sums with the entries added that are in none of them yet."""
    sums = {row.key: row for row in rows}
    for session, (at, summary, model, used, cost) in late:
        if query.project not in (None, summary.project) or (query.since and hour_of(at) < hour_of(query.since)):
            continue
        named = {
            "agent": summary.agent,
            "user": summary.user,
            "model": model,
            "day": day_of(at),
            "project": summary.project,
            "session": session,
        }
        key = tuple(named[field] for field in query.by)
        before = sums.get(key, UsageRow(key, 0, Usage(), 0))
        sums[key] = UsageRow(
            key,
            before.calls + 1,
            before.usage + used,
            before.usd_micros + (cost or 0),
            before.unpriced_calls + (cost is None),
        )
    return sorted(sums.values(), key=lambda row: row.key)


async def bring_up_to_date(caller: Caller, late: Late | None = None) -> list[str]:
    """Read every journal the view is behind on, as far as it goes now. Returns those that cannot be read. Where nothing
    can be written, the entries go to `late`."""
    seen: set[str] = set()
    unread: list[str] = []
    while True:
        cursors = await caller.database.store.behind(USAGE, limit=_SESSIONS + len(seen))
        cursors = [cursor for cursor in cursors if cursor.session not in seen]
        if not cursors:
            return unread
        for start in range(0, len(cursors), _AT_ONCE):
            # Together, because what is written at the same time shares a commit. And once each: a session that is
            # written to all the while must not hold up the answer.
            some = cursors[start : start + _AT_ONCE]
            seen.update(cursor.session for cursor in some)
            read = await asyncio.gather(*(_tried(caller, cursor, late) for cursor in some))
            unread += [cursor.session for cursor, good in zip(some, read, strict=True) if not good]


async def _tried(caller: Caller, cursor: Cursor, late: Late | None) -> bool:
    try:
        await project(caller, cursor, late=late)
    except (NotFound, StoreCorrupt, UnknownEvent):  # a row under a damaged name is not found by it
        return False
    return True


async def project(caller: Caller, cursor: Cursor, read: Reading | None = None, *, late: Late | None = None) -> None:
    """Add one session from a cursor to its head; `read` is another way to its records, `late` takes what the database
    cannot.

    Raises StoreCorrupt, UnknownEvent for a journal that cannot be read.
    """
    database = caller.database
    read = read or database.store.read
    summary = (await database.views.session(cursor.session)).summary
    called: dict[str, str] = {}
    after = cursor.position
    while after < cursor.head:
        limit = min(_RECORDS, cursor.head - after)
        records = await read(cursor.session, after=after, limit=limit)
        entries: list[Entry] = []
        for record in records:
            entry = await _entry(caller, record, summary, called)
            if entry is not None:
                entries.append(entry)
        if not records:
            raise records_missing(cursor.session, after, cursor.head)
        upto = records[-1].position
        try:
            await database.views.record_usage(Cursor(cursor.session, after, upto), entries)
        except StoreReadOnly:
            if late is None:
                raise
            late += [(cursor.session, entry) for entry in entries]
        after = upto


async def _entry(caller: Caller, record: Recorded, summary: Summary, called: dict[str, str]) -> Entry | None:
    """What one record adds. `called` keeps, between records, which model each call went to."""
    match record.event:
        case ModelCalled(call=call, model=model):
            called[call] = model
        case ModelReplied(model=model, call=call, usage=used, cost_usd_micros=cost):
            return record.at, summary, model or await _model(caller, record, call, called), used, cost
        case ModelFailed(call=call, billed_tokens=billed, cost_usd_micros=cost) if billed or cost:
            model = await _model(caller, record, call, called)
            return record.at, summary, model, Usage(input_tokens=billed), cost
        case ContextCompacted(call=call, model=model, usage=used, cost_usd_micros=cost) if call:
            return record.at, summary, model, used, cost
        case CompactionFailed(model=model, usage=used, billed_tokens=billed, cost_usd_micros=cost) if model:
            return record.at, summary, model, used if used.total_tokens else Usage(input_tokens=billed), cost
        case _:
            pass
    return None


async def _model(caller: Caller, record: Recorded, call: str, called: dict[str, str]) -> str:
    """The model a call went to; its intent may lie before what is read now."""
    if call not in called:
        after = max(record.position - _LOOK_BACK_RECORDS, 0)
        for earlier in await caller.database.store.read(record.session, after=after, limit=_LOOK_BACK_RECORDS):
            if isinstance(earlier.event, ModelCalled):
                called[earlier.event.call] = earlier.event.model
    return called.get(call, "")
