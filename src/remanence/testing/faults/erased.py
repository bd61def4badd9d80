"""What is told, ordered to be erased while others use it, and looked for afterwards: `erasures.py` says in which races.

Everything an order is about holds one rare word, and nobody says it anew once the order is given. So when a receipt is
signed and the sessions rest, the word is nowhere: in no record, no memory, no hit of a search, no entry of the registry
and no byte of the database's files. What is written down by whoever had it in view before is no exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from remanence.commands import erasure
from remanence.commands.entries import entries_of
from remanence.commands.memory import Looking
from remanence.commands.proof import check_receipt
from remanence.commands.receipts import Receipt, What
from remanence.commands.traces import file_chunks
from remanence.commands.verification import sessions_all
from remanence.core.memory.journal import journal_of
from remanence.errors import Conflict, NotFound, StoreUnavailable
from remanence.events import MemoryKept
from remanence.ports import RawRecord
from remanence.recollections import Place
from remanence.stores.vectors import packed
from remanence.testing.faults.racer import KEEPER, vector_of
from remanence.testing.faults.racing import Answer, Course, only

__all__ = ["Ordered", "Told", "Use", "audit_erased", "erase", "order", "saying", "told", "uses", "word", "words_in"]

_RECEIPTS_SEARCHED: Final = 3
"""For so many receipts the files are searched as `verify-erasure` does it; for all words they are read as they are."""
_LONG: Final = 100_000
_TIMES: Final = 5


Use = tuple[str, dict[str, Any]]
"""A verb and what is given to it."""

_REFUSALS: Final = {"edit": "Conflict", "undo": "Conflict", "withdraw": "Conflict", "fork": "Conflict"}
"""What may be said to whoever uses what is being erased. To anybody else nothing: their verbs are always done."""


class Ordered(msgspec.Struct, frozen=True):
    """What an order is about, and the rare words that go with it."""

    what: What
    name: str
    gone: Sequence[str]
    memories: Sequence[str] = ()
    """Memories that go, which nobody can change any more."""

    @property
    def short(self) -> str:
        return f"{self.what} {self.name}"


class Told(msgspec.Struct):
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

    def orders(self) -> dict[str, Ordered]:
        """What may be ordered."""
        return {
            "session": Ordered("session", self.session, (self.said,), (self.note,)),
            "user": Ordered("user", self.user, (self.said, self.kept), (self.note, self.written)),
            "note": Ordered("memory", self.note, (self.said,), (self.note,)),
            "written": Ordered("memory", self.written, (self.kept,), (self.written,)),
        }


# --- what is told, and what is done with it ---------------------------------------------------------------------------


def word(c: Course) -> str:
    """One that nobody has said before."""
    return f"quince{c.rt.options.make_id('w')}".replace("_", "")


async def told(c: Course, *, nobody: bool = False) -> Told | None:
    """Have somebody say and note something, or `nobody`: a session without a user. None when its worker was killed so
    often that the call was given up."""
    user, said, kept = "" if nobody else c.rt.options.make_id("user"), word(c), word(c)
    session, other = await c.surely("open", agent=KEEPER, user=user), await c.surely("open", agent=KEEPER, user=user)
    await c.surely("send", session=session, text=f"note The key lies under the {said} pot behind the shed.", key="k")
    await c.until(session, lambda s: s.turns > 0 and s.turn is None)
    notes = [r.event.memory for r in await c.records(session) if isinstance(r.event, MemoryKept)]
    if not notes:
        return None
    place = Place("default", f"user:{user}" if user else "project")
    written = await c.rt.memory.keep(f"The ladder stands in the {kept} corner of the shed.", place)
    if c.dice.random() < 0.5:
        await c.rt.memory.catch_up()
    return Told(user, session, other, said, notes[0], kept, written.id)


def uses(c: Course, told: Told) -> list[Use]:
    """What somebody does meanwhile with what is erased. Nothing of it says the rare words."""
    path = c.folder / c.rt.options.make_id("bundle")
    done: list[Use] = [
        ("send", {"session": told.session, "text": "tell me where the key of the shed lies"}),
        ("send", {"session": told.other, "text": "tell me where the key of the shed lies"}),
        ("send", {"session": told.other, "text": "look key shed pot ladder corner"}),
        ("fork", {"session": told.session}),
        ("consolidate", {"user": told.user}) if told.user else ("recall", {"text": "ladder"}),
        ("rebuild", {}),
        ("export", {"session": told.session, "path": str(path)}),
        ("send", {"session": told.session, "text": "correct The key is lost."}),
        ("send", {"session": told.session, "text": "change The key lies in the drawer."}),
        ("recall", {"text": "key of the shed"}),
        ("verify", {"session": told.session}),
        ("edit", {"memory": told.written, "text": "The ladder is lent."}),
        ("embed", {}),
    ]
    return done


async def erase(c: Course, told: Told, uses: Sequence[Use], what: str = "") -> list[Answer]:
    """Order one thing or two, or the same twice, while all the rest is done; then look."""
    orders = told.orders()
    first = what or c.dice.choice(tuple(orders))
    second = c.dice.choice((first, first, what or c.dice.choice(tuple(orders))))
    given = [orders[first], orders[second]][: c.dice.choice((1, 1, 2))]
    return await order(c, given, uses, (told.session, told.other))


async def order(c: Course, given: Sequence[Ordered], uses: Sequence[Use], sessions: Sequence[str]) -> list[Answer]:
    """Order this while that is done in these sessions; then look. Returns what was answered to the uses."""
    c.gone.update(sessions)
    answers = await c.all(*[await asked(c, one, sessions) for one in given], *uses)
    _all_answered(c, given, answers, uses)
    used = answers[len(given) :]
    forks = [answer.ok for answer, (verb, _) in zip(used, uses, strict=True) if answer.good and verb == "fork"]
    c.gone.update(forks)
    how = f"{[one.short for one in given]} against {[_short(use) for use in uses]}: {[_what(a) for a in answers]}"
    gone = dict.fromkeys(w for one, answer in zip(given, answers, strict=False) if answer.good for w in one.gone)
    c.erased.update(dict.fromkeys(gone, how))
    for one, answer in zip(given, answers, strict=False):
        if answer.died:
            c.unknown.append((one.what, one.name, one.gone))
    await _look(c, (*sessions, *forks), tuple(gone), how)
    return used


async def asked(c: Course, one: Ordered, sessions: Sequence[str]) -> Use:
    """An order as a racer is given it: with the records that it has to reach."""
    return "erase", {"what": one.what, "name": one.name, "said": await saying(c, sessions, one.gone)}


def _all_answered(c: Course, given: Sequence[Ordered], answers: Sequence[Answer], uses: Sequence[Use]) -> None:
    """Who may be refused, and why.

    An order finds nothing only when another one of the same moment has erased it all: the racer looks at the records
    for that. A memory is not there any more only for whoever changes one that is erased.
    """
    orders, gone = answers[: len(given)], {memory for one in given for memory in one.memories}
    alone = all(answer.refused == "NotFound" for answer in orders)
    only(c, orders, "" if alone else "NotFound", f"{[one.short for one in given]}")
    for answer, (verb, with_) in zip(answers[len(given) :], uses, strict=True):
        allowed = _REFUSALS.get(verb, "")
        if with_.get("memory") in gone:
            allowed += " NotFound"
        only(c, [answer], allowed, f"{verb} what is erased")


async def saying(c: Course, sessions: Sequence[str], gone: Sequence[str]) -> list[tuple[str, int]]:
    """The records of these sessions, and of what people note, that say one of these words now."""
    found = list[tuple[str, int]]()
    for session in dict.fromkeys((*sessions, journal_of(c.rt.caller.project, "default"))):
        rows = await _rows(c, session)
        found += [(session, row.position) for row in rows if any(word.encode() in row.payload for word in gone)]
    return found


async def _rows(c: Course, session: str) -> Sequence[RawRecord]:
    try:
        return await c.rt.database.raw(session, limit=_LONG)
    except NotFound:
        return ()  # the journal of a store into which nobody has written yet


def _short(use: Use) -> str:
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
    await _all_in_receipts(c)
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


async def _all_in_receipts(c: Course) -> None:
    """Whatever was erased is in a receipt, whoever carried out the order. What is brought in may come erased."""
    said = {(one.session, one.position) for receipt in await erasure.receipts(c.rt.caller) for one in receipt.records}
    async for session in sessions_all(c.rt.caller):
        rows = await _rows(c, session) if session not in c.brought else ()
        if left := [r.position for r in rows if r.payload_digest is not None and (session, r.position) not in said]:
            c.broken(f"records {left} of {session} were erased, and are in no receipt")


async def _versions(c: Course, receipt: Receipt) -> str:
    """What is there under the ids of memories that should be gone."""
    versions = [one async for one in c.rt.memory.export() if one.id in receipt.memories]
    return "".join(f"; {m.session}#{m.position} at {m.recorded_at} version {m.version}: {m.text}" for m in versions)


async def _nowhere(c: Course) -> None:
    """No byte of the files holds a word; where one does, it is said in which records and entries it stands."""
    in_files, ours = set[str](), c.rt.url.startswith("sqlite")
    for path in await c.rt.database.files():
        in_files |= await asyncio.to_thread(words_in, path, tuple(c.erased), ours=ours)
    for word in in_files:
        c.broken(f"{word} is in the files after {c.erased[word]}: {await _places(c, word.encode())}")
    await _in_no_memory(c, "at the end")


def words_in(path: Path, words: Sequence[str], *, ours: bool = False) -> set[str]:
    """Which words stand in a file, or their vectors. `ours`: this process has it open as a database (`file_chunks`)."""
    found = set[str]()
    with suppress(FileNotFoundError):
        for chunk in file_chunks(path, ours=ours):
            lower = chunk.lower()
            found |= {word for word in words if word.encode() in lower or packed(vector_of(word), None) in chunk}
    return found


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
