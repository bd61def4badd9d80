"""The proof that nothing is left of what a receipt says was erased.

`check_receipt` believes nothing but what it looks up: the signature, each record's skeleton under the digest it had,
each memory's absence, the bytes of the database's own files, and, when it is told whose the receipt is, that nothing
says so any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from remanence.commands.bundle import Origin
from remanence.commands.caller import Caller
from remanence.commands.entries import entries_of
from remanence.commands.lineage import own_pages
from remanence.commands.pseudonyms import BLOCK, Pseudonyms
from remanence.commands.receipts import Reached, Receipt, flaw_of_signature, tracer_of
from remanence.commands.traces import Tracer, file_chunks, texts_of
from remanence.core.memory.journal import owner_of
from remanence.errors import NotFound
from remanence.events import MemoryKept, decode_event, encode_event, skeleton
from remanence.ports import RawRecord, SessionQuery
from remanence.recollections import MemoryListing

__all__ = ["Check", "check_receipt"]

_PAGE = 500
_ALL = 2**31 - 1


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: whether it holds, and what was found, in words."""

    what: str
    holds: bool
    found: str


async def check_receipt(caller: Caller, receipt: Receipt, *, name: str = "", files: bool = True) -> Sequence[Check]:
    """Look at everything a receipt says, and search the database's `files` for what it erased.

    `name` is that of the user, the subject or the block that it is about: whoever knows it has it checked as well.
    Raises NotFound for a receipt of another project.
    """
    if receipt.order.project != caller.project:
        raise NotFound(f"Erasure {receipt.order.id} is not one of this project. Nothing was checked.")
    flaw, key = await flaw_of_signature(caller, receipt)
    left = await _records_left(caller, receipt.records)
    memories = await _memories_left(caller, receipt)
    named = (await _name(caller, receipt, name),) if name else ()
    searched = (await _files(caller, receipt),) if files else ()
    return (
        Check("signature", not flaw, flaw or f"signed by this database (key {key})"),
        Check("records", not left, _said(left, f"{len(receipt.records)} records: skeletons under their digests")),
        Check("memories", not memories, _said(memories, f"{len(receipt.memories)} memories: none is left")),
        *named,
        *searched,
    )


async def _name(caller: Caller, receipt: Receipt, name: str) -> Check:
    """Whether the receipt is about this name, and whether anything from before still says it."""
    order, database, tracer = receipt.order, caller.database, await tracer_of(caller)
    if tracer.pseudonym(order.id, name) not in (order.name, order.name.removeprefix(BLOCK)):
        return Check("name", False, "the receipt is about somebody, or something, else")
    if order.what != "user":
        return Check("name", True, "the receipt is about it")
    names = Pseudonyms(replace(order, name=name), tracer)
    left, since = list[str](), 0
    for session, position in await database.naming([name]):
        row = await database.views.session(session)
        for record in await database.store.read(session, after=position - 1, limit=1):
            if owner_of(row.summary.project) == order.project and names.named_in(record):
                since += record.at > receipt.finished_at
                left += [f"{session}#{position}"] if record.at <= receipt.finished_at else []
    rows = await database.views.sessions(SessionQuery(project=order.project, user=name, limit=_PAGE))
    left += [row.session for row in rows if row.opened_at <= receipt.finished_at]
    said = "the receipt is about this user, and no record from before names them"
    return Check("name", not left, _said(left, f"{said} ({since} since)" if since else said))


async def _records_left(caller: Caller, records: Iterable[Reached]) -> list[str]:
    """Those records that still say something, or are not the ones the receipt means."""
    wanted: dict[str, dict[int, str]] = {}
    for one in records:
        wanted.setdefault(one.session, {})[one.position] = one.digest
    left: list[str] = []
    for session, digests in wanted.items():
        seen: set[int] = set()
        try:
            async for rows in own_pages(caller.database, Origin(session, min(digests), max(digests))):
                here = [row for row in rows if row.position in digests]
                seen |= {row.position for row in here}
                left += [f"{session}#{row.position}" for row in here if not _bare(row, digests[row.position])]
        except NotFound:
            continue  # the whole session is gone
        left += [f"{session}#{position} (missing)" for position in digests.keys() - seen]
    return left


def _bare(row: RawRecord, digest: str) -> bool:
    """Whether a record says nothing any more, and is the one of this digest (hexadecimal; never an empty one)."""
    if row.payload_digest is None or row.payload_digest.hex() != digest:
        return False
    return bool(digest) and encode_event(skeleton(decode_event(row.payload))) == row.payload


async def _memories_left(caller: Caller, receipt: Receipt) -> list[str]:
    memories, order = caller.database.memories, receipt.order
    left: list[str] = []
    for memory in receipt.memories:
        try:
            await memories.get(order.project, memory)
        except NotFound:
            continue
        left.append(memory)
    left += await _still_written(caller, receipt)
    bare = {memory for memory in receipt.memories if memory.startswith(BLOCK)}
    if bare:  # the receipt does not know their names: is it one of those there are, from before?
        tracer = await tracer_of(caller)
        listing = MemoryListing(project=order.project, kinds=("block",), closed=True, limit=_ALL)
        before = [one.id for one in await memories.list(listing) if one.recorded_at <= receipt.finished_at]
        left += [name for name in before if f"{BLOCK}{tracer.pseudonym(order.id, name)}" in bare]
    return left


async def _still_written(caller: Caller, receipt: Receipt) -> list[str]:
    """Records from before that still say what one of these memories was: its index is not all there is of it."""
    database, wanted = caller.database, set(receipt.memories)
    left: list[str] = []
    for session, position in await database.naming(receipt.memories) if wanted else ():
        if owner_of((await database.views.session(session)).summary.project) != receipt.order.project:
            continue
        for record in await database.store.read(session, after=position - 1, limit=1):
            event, before = record.event, record.at <= receipt.finished_at
            if before and isinstance(event, MemoryKept) and event.memory in wanted and texts_of(event):
                left.append(f"{session}#{position} ({event.memory})")
    return left


async def _files(caller: Caller, receipt: Receipt) -> Check:
    """Search the files themselves: free pages and logs hold what no query shows."""
    await caller.database.scrub()
    paths = await caller.database.files()
    if not paths:
        return Check("files", True, "the database's files are not on this machine; they were not searched")
    tracer, prints = await tracer_of(caller), frozenset(receipt.prints)
    ours = caller.database.url.startswith("sqlite")
    found = {path.name: await asyncio.to_thread(_search, tracer, prints, path, ours=ours) for path in paths}
    elsewhere = await _said_elsewhere(caller, tracer, frozenset[str]().union(*found.values()))
    where = [f"{len(left)} in {name}" for name, here in found.items() if (left := here - elsewhere.keys())]
    words = f"{len(paths)} files searched for {len(prints)} prints"
    words += "" if ours else ", the server's write-ahead log was not"
    if elsewhere:
        words += f" ({len(elsewhere)} are what others say, too, such as {min(elsewhere.values())})"
    return Check("files", not where, f"{words}: found {', '.join(where)}" if where else f"{words}: none is left")


async def _said_elsewhere(caller: Caller, tracer: Tracer, prints: frozenset[str]) -> dict[str, str]:
    """Where these prints stand in records that nobody ordered to be erased, or in what was declared."""
    database, places = caller.database, dict[str, str]()
    if not prints:
        return places
    query = SessionQuery(opened="oldest_first", limit=_PAGE)
    while rows := await database.views.sessions(query):
        for row in rows:
            async for records in own_pages(database, Origin(row.session, 1, _ALL)):
                for record in records:
                    # As it is, and as its texts lie in an index: a person may have said some JSON.
                    said = (record.payload, record.payload.replace(b'\\"', b'"'), record.actor.encode())
                    for one in tracer.find(prints, said):
                        places.setdefault(one, f"{row.session}#{record.position}")
        query = replace(query, after=rows[-1].session)
    for scope in {budget.scope for budget in await database.controls.budgets()}:
        places |= dict.fromkeys(tracer.find(prints, (scope.encode(),)), "a budget")
    for kind in await database.registry.kinds():
        for entry in await entries_of(caller, kind, project=None):
            places |= dict.fromkeys(tracer.find(prints, (entry.id.encode(), entry.body)), f"the registry ({kind})")
    for version in await database.specs.versions(None):
        declared = msgspec.json.encode(await database.specs.get(version.version))
        places |= dict.fromkeys(tracer.find(prints, (declared,)), f"agent {version.agent}")
    return places


def _search(tracer: Tracer, prints: frozenset[str], path: Path, *, ours: bool) -> set[str]:
    try:
        return tracer.find(prints, file_chunks(path, ours=ours))
    except FileNotFoundError:
        return set()  # a log that was emptied and removed meanwhile


def _said(left: Sequence[str], otherwise: str) -> str:
    if not left:
        return otherwise
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return f"still there: {', '.join(left[:5])}{more}"
