"""Races over what is erased: whoever remembers, corrects, quotes, indexes or forks it meanwhile.

Everything an order is about holds one rare word, and nobody says it anew once the order is given. So when a receipt is
signed and the sessions rest, the word is nowhere: in no record, no memory, no hit of a search, no entry of the registry
and no byte of the database's files. What is written down by whoever had it in view before is no exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from remanence.commands import erasure
from remanence.commands.entries import entries_of
from remanence.commands.memory import Looking
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import Receipt, What
from remanence.commands.verification import sessions_all
from remanence.core.memory.journal import journal_of
from remanence.errors import Conflict, NotFound, StoreUnavailable
from remanence.events import MemoryKept
from remanence.ports import RawRecord
from remanence.recollections import Place
from remanence.testing.faults.racer import KEEPER
from remanence.testing.faults.racing import Answer, Course, only

__all__ = ["ERASURES", "audit_erased"]

_RECEIPTS_SEARCHED: Final = 3
"""For so many receipts the files are searched as `verify-erasure` does it; for all words they are read as they are."""
_LONG: Final = 100_000
_TIMES: Final = 5


_Use = tuple[str, dict[str, Any]]
"""A verb and what is given to it."""

_REFUSALS: Final = {"edit": "Conflict", "undo": "Conflict", "withdraw": "Conflict", "fork": "Conflict"}
"""What may be said to whoever uses what is being erased. To anybody else nothing: their verbs are always done."""


class _Ordered(msgspec.Struct, frozen=True):
    """What an order is about, and the rare words that go with it."""

    what: What
    name: str
    gone: Sequence[str]

    @property
    def short(self) -> str:
        return f"{self.what} {self.name}"


class _Told(msgspec.Struct):
    """A person, two sessions of theirs, what was said and noted there, and what a person noted about them."""

    user: str
    session: str
    other: str
    said: str
    """The rare word of what they said, and the agent noted as `note`."""
    note: str
    kept: str
    """The rare word of what a person noted as `written`."""
    written: str


async def erased_while_remembered(c: Course) -> None:
    """What is erased is in nothing that an agent, a person or an index makes of it meanwhile."""
    told = await _told(c)
    if told is None:
        return
    orders = c.dice.sample(_uses(c, told), c.dice.randrange(2, 6))
    await _erase(c, told, orders)


async def erased_while_edited(c: Course) -> None:
    """A person who edits, withdraws and takes back what is erased does so before, or is told."""
    told = await _told(c)
    if told is None:
        return
    await _edited(c, told.written)
    memory = c.dice.choice((told.written, told.note))
    verbs: list[_Use] = [
        ("undo", {"memory": told.written}),
        ("undo", {"memory": memory}),
        ("withdraw", {"memory": memory}),
        ("edit", {"memory": memory, "text": "The shed is green."}),
        ("send", {"session": told.session, "text": "change The shed is gone."}),
        ("rebuild", {}),
    ]
    await _erase(c, told, c.dice.sample(verbs, 3))


async def erased_while_said(c: Course) -> None:
    """A turn that was begun before the order, and takes its note after it, leaves nothing of it."""
    user = c.rt.options.make_id("user")
    session, rare = await c.surely("open", agent=KEEPER, user=user), _word(c)
    await c.surely("send", session=session, text=f"note The key lies under the {rare} pot behind the shed.", key="k")
    if c.dice.random() < 0.5:
        await c.surely("send", session=session, text="look key shed pot", key="l")
    await asyncio.sleep(c.dice.choice((0, 0, 0.005, 0.01, 0.02, 0.05)))
    told = _Told(user, session, session, rare, "", _word(c), "")
    await _erase(c, told, c.dice.sample(_uses(c, told)[:7], 2), c.dice.choice(("session", "user")))


ERASURES: Final[Sequence[Callable[[Course], Awaitable[None]]]] = (
    erased_while_remembered,
    erased_while_edited,
    erased_while_said,
)


# --- what is told, and what is done with it ---------------------------------------------------------------------------


def _word(c: Course) -> str:
    return f"quince{c.rt.options.make_id('w')}".replace("_", "")


async def _told(c: Course) -> _Told | None:
    user, said, kept = c.rt.options.make_id("user"), _word(c), _word(c)
    session, other = await c.surely("open", agent=KEEPER, user=user), await c.surely("open", agent=KEEPER, user=user)
    await c.surely("send", session=session, text=f"note The key lies under the {said} pot behind the shed.", key="k")
    await c.until(session, lambda s: s.turns > 0 and s.turn is None)
    notes = [r.event.memory for r in await c.records(session) if isinstance(r.event, MemoryKept)]
    if not notes:
        return None  # its worker was killed so often that the call was given up
    place = Place("default", f"user:{user}")
    written = await c.rt.memory.keep(f"The ladder stands in the {kept} corner of the shed.", place)
    if c.dice.random() < 0.5:
        await c.rt.memory.catch_up()
    return _Told(user, session, other, said, notes[0], kept, written.id)


async def _edited(c: Course, memory: str) -> None:
    edited = await c.rt.memory.edit(memory, "The shed is painted.")
    if edited.version < 2:
        c.broken(f"{memory} was edited, and has one version")


def _uses(c: Course, told: _Told) -> list[_Use]:
    """What somebody does meanwhile with what is erased. Nothing of it says the rare words."""
    path = c.folder / c.rt.options.make_id("bundle")
    uses: list[_Use] = [
        ("send", {"session": told.session, "text": "tell me where the key of the shed lies"}),
        ("send", {"session": told.other, "text": "tell me where the key of the shed lies"}),
        ("send", {"session": told.other, "text": "look key shed pot ladder corner"}),
        ("fork", {"session": told.session}),
        ("consolidate", {"user": told.user}),
        ("rebuild", {}),
        ("export", {"session": told.session, "path": str(path)}),
        ("send", {"session": told.session, "text": "correct The key is lost."}),
        ("send", {"session": told.session, "text": "change The key lies in the drawer."}),
        ("recall", {"text": "key of the shed"}),
        ("verify", {"session": told.session}),
        ("edit", {"memory": told.written, "text": "The ladder is lent."}),
    ]
    return uses


async def _erase(c: Course, told: _Told, uses: Sequence[_Use], what: str = "") -> None:
    """Order one thing or two, or the same twice, while all the rest is done; then look."""
    orders: dict[str, _Ordered] = {
        "session": _Ordered("session", told.session, (told.said,)),
        "user": _Ordered("user", told.user, (told.said, told.kept)),
        "note": _Ordered("memory", told.note, (told.said,)),
        "written": _Ordered("memory", told.written, (told.kept,)),
    }
    first = what or c.dice.choice(tuple(orders))
    second = c.dice.choice((first, first, what or c.dice.choice(tuple(orders))))
    given = [orders[first], orders[second]][: c.dice.choice((1, 1, 2))]
    c.gone.update((told.session, told.other))
    asked: list[_Use] = [
        ("erase", {"what": one.what, "name": one.name, "said": await _saying(c, told, one.gone)}) for one in given
    ]
    answers = await c.all(*asked, *uses)
    _all_answered(c, told, given, answers, uses)
    used = answers[len(given) :]
    forks = [answer.ok for answer, (verb, _) in zip(used, uses, strict=True) if answer.good and verb == "fork"]
    c.gone.update(forks)
    how = f"{[one.short for one in given]} against {[_short(use) for use in uses]}: {[_what(a) for a in answers]}"
    gone = dict.fromkeys(w for one, answer in zip(given, answers, strict=False) if answer.good for w in one.gone)
    c.erased.update(dict.fromkeys(gone, how))
    for one, answer in zip(given, answers, strict=False):
        if answer.died:
            c.unknown.append((one.what, one.name, one.gone))
    await _look(c, (told.session, told.other, *forks), tuple(gone), how)


def _all_answered(
    c: Course, told: _Told, given: Sequence[_Ordered], answers: Sequence[Answer], uses: Sequence[_Use]
) -> None:
    """Who may be refused, and why.

    An order finds nothing only when another one of the same moment has erased it all: the racer looks at the records
    for that. A memory is not there any more only for whoever changes one that is erased.
    """
    orders, names = answers[: len(given)], {one.name for one in given}
    gone = {told.note for name in (told.session, told.user, told.note) if name in names}
    gone |= {told.written for name in (told.user, told.written) if name in names}
    alone = all(answer.refused == "NotFound" for answer in orders)
    only(c, orders, "" if alone else "NotFound", f"{[one.short for one in given]}")
    for answer, (verb, with_) in zip(answers[len(given) :], uses, strict=True):
        allowed = _REFUSALS.get(verb, "")
        if with_.get("memory") in gone:
            allowed += " NotFound"
        only(c, [answer], allowed, f"{verb} what is erased")


async def _saying(c: Course, told: _Told, gone: Sequence[str]) -> list[tuple[str, int]]:
    """The records that say these words now."""
    sessions = dict.fromkeys((told.session, told.other, journal_of(c.rt.caller.project, "default")))
    found = list[tuple[str, int]]()
    for session in sessions:
        rows = await _rows(c, session)
        found += [(session, row.position) for row in rows if any(word.encode() in row.payload for word in gone)]
    return found


async def _rows(c: Course, session: str) -> Sequence[RawRecord]:
    try:
        return await c.rt.database.raw(session, limit=_LONG)
    except NotFound:
        return ()  # the journal of a store into which nobody has written yet


def _short(use: _Use) -> str:
    verb, given = use
    return f"{verb} {given.get('text', '')}".strip()


def _what(answer: Answer) -> str:
    return answer.refused or ("crashed" if answer.crashed else "died" if answer.died else "ok")


# --- what must hold ---------------------------------------------------------------------------------------------------


async def _look(c: Course, sessions: Sequence[str], gone: Sequence[str], how: str) -> None:
    """As soon as these sessions rest, they do not say it, and no search finds it."""
    for session in sessions:
        await c.until(session, lambda s: s.deleted or s.frozen is not None or (s.turn is None and not s.queue))
        for row in await c.rt.database.raw(session, limit=_LONG):
            if any(word.encode() in row.payload for word in gone):
                c.broken(f"{session}#{row.position} says {row.payload[:300]!r} after {how}")
    for word in gone:
        hits = await c.rt.memory.search(word, Looking(closed=True))
        if any(word in hit.memory.text for hit in hits):
            c.broken(f"a search finds {word} after {how}")


async def audit_erased(c: Course) -> None:
    """When all is over: orders that were left are carried on, every receipt holds, and no erased word is anywhere."""
    await _carry_on(c)
    await _at_rest(c)
    await c.rt.memory.catch_up()
    found = await _receipts_hold(c)
    if c.erased and not found:
        c.broken("there is no receipt of anything")
    await _nowhere(c)
    await c.rt.memory.rebuild()
    await _in_no_memory(c, "after it was made again")


async def _carry_on(c: Course) -> None:
    for what, name, gone in c.unknown:
        for _ in range(_TIMES):  # another process may have taken it up
            try:
                await erasure.resume(c.rt.caller)
                await c.rt.memory.erase(what, name, reason="once more")
            except NotFound:
                break
            except (Conflict, StoreUnavailable) as error:
                c.messages[f"erase once more: {error.message}"] += 1
                continue
            break
        c.erased.update(dict.fromkeys(gone, f"{what} {name}, whose eraser died"))
    await erasure.resume(c.rt.caller)
    left = [e.id for e in await entries_of(c.rt.caller, erasure.KIND, project=None) if b'"receipt":null' in e.body]
    if left:
        c.broken(f"nobody finished the orders {left}")


async def _at_rest(c: Course) -> None:
    """Also the sessions that consolidate."""
    async for session in sessions_all(c.rt.caller):
        await c.until(session, lambda s: s.deleted or s.frozen is not None or (s.turn is None and not s.queue))


async def _receipts_hold(c: Course) -> int:
    receipts = await erasure.receipts(c.rt.caller)
    for number, receipt in enumerate(receipts):
        checks = await check_receipt(c.rt.caller, receipt, files=number < _RECEIPTS_SEARCHED)
        for check in checks:
            if not check.holds:
                c.broken(f"the receipt of {receipt.order}: {check.what}: {check.found}{await _versions(c, receipt)}")
    return len(receipts)


async def _versions(c: Course, receipt: Receipt) -> str:
    """What is there under the ids of memories that should be gone."""
    versions = [one async for one in c.rt.memory.export() if one.id in receipt.memories]
    return "".join(f"; {m.session}#{m.position} at {m.recorded_at} version {m.version}: {m.text}" for m in versions)


async def _nowhere(c: Course) -> None:
    """No byte of the files holds a word; where one does, it is said in which records and entries it stands."""
    words = {word.encode(): how for word, how in c.erased.items()}
    in_files = set[bytes]()
    for path in await c.rt.database.files():
        in_files |= await asyncio.to_thread(_words_in, path, words.keys())
    for word in in_files:
        c.broken(f"{word.decode()} is in the files after {words[word]}: {await _places(c, word)}")
    await _in_no_memory(c, "at the end")


def _words_in(path: Path, words: Any) -> set[bytes]:
    try:
        content = path.read_bytes().lower()
    except FileNotFoundError:
        return set()
    return {word for word in words if word in content}


async def _places(c: Course, word: bytes) -> list[str]:
    found = list[str]()
    async for session in sessions_all(c.rt.caller):
        rows = await c.rt.database.raw(session, limit=_LONG)
        found += [f"{session}#{row.position} {row.payload[:200]!r}" for row in rows if word in row.payload]
    for kind in await c.rt.database.registry.kinds():
        entries = await entries_of(c.rt.caller, kind, project=None)
        found += [f"{kind} {entry.id} {entry.body[:200]!r}" for entry in entries if word in entry.body]
    return found or ["in no record and no entry"]


async def _in_no_memory(c: Course, when: str) -> None:
    async for memory in c.rt.memory.export():
        for word, how in c.erased.items():
            if word in memory.text or word in memory.speaker:
                c.broken(f"{memory.id} says it {when}: {memory.text[:200]!r}, after {how}")
