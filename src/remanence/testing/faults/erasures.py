"""Races over what is erased: whoever remembers, corrects, quotes, indexes, copies or forks it meanwhile.

What is told in them, and what must hold, is in `erased.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from remanence.app import Remanence
from remanence.commands import erasure
from remanence.commands.verification import sessions_all, verify_session
from remanence.errors import NotFound
from remanence.events import MemoryKept
from remanence.recollections import Place
from remanence.testing.faults.erased import Ordered, Told, Use, erase, order, told, uses, word, words_in
from remanence.testing.faults.racer import KEEPER
from remanence.testing.faults.racing import Course

__all__ = ["ERASURES", "erased_while_noted_by_agents"]


_ORDER_S: Final = 0.5
"""An order takes about so long."""


async def erased_while_remembered(c: Course) -> None:
    """What is erased is in nothing that an agent, a person or an index makes of it meanwhile."""
    said = await told(c)
    if said is None:
        return
    orders = c.dice.sample(uses(c, said), c.dice.randrange(2, 6))
    await erase(c, said, orders)


async def erased_while_edited(c: Course) -> None:
    """A person who edits, withdraws and takes back what is erased does so before, or is said."""
    said = await told(c)
    if said is None:
        return
    await _edited(c, said.written)
    memory = c.dice.choice((said.written, said.note))
    verbs: list[Use] = [
        ("undo", {"memory": said.written}),
        ("undo", {"memory": memory}),
        ("withdraw", {"memory": memory}),
        ("edit", {"memory": memory, "text": "The shed is green."}),
        ("send", {"session": said.session, "text": "change The shed is gone."}),
        ("rebuild", {}),
    ]
    await erase(c, said, c.dice.sample(verbs, 3))


async def erased_while_said(c: Course) -> None:
    """A turn that was begun before the order, and takes its note after it, leaves nothing of it."""
    user = c.rt.options.make_id("user")
    session, rare = await c.surely("open", agent=KEEPER, user=user), word(c)
    await c.surely("send", session=session, text=f"note The key lies under the {rare} pot behind the shed.", key="k")
    if c.dice.random() < 0.5:
        await c.surely("send", session=session, text="look key shed pot", key="l")
    await asyncio.sleep(c.dice.choice((0, 0, 0.005, 0.01, 0.02, 0.05)))
    said = Told(user, session, session, rare, "", word(c), "")
    await erase(c, said, c.dice.sample(uses(c, said)[:7], 2), c.dice.choice(("session", "user")))


async def erased_by_several(c: Course) -> None:
    """An order that others take for one that was left, and carry on: it is carried out, and has a receipt."""
    said = await told(c)
    if said is None:
        return
    carried: list[Use] = [("resume", {"after_s": c.dice.uniform(0, _ORDER_S)}) for _ in range(4)]
    used = c.dice.sample(uses(c, said), c.dice.randrange(0, 3))
    await erase(c, said, [*carried, *used], c.dice.choice(("session", "user", "note", "written")))


async def _edited(c: Course, memory: str) -> None:
    edited = await c.rt.memory.edit(memory, "The shed is painted.")
    if edited.version < 2:
        c.broken(f"{memory} was edited, and has one version")


async def erased_of_nobody(c: Course) -> None:
    """What was said in a session without a user, and noted for all of the project."""
    said = await told(c, nobody=True)
    if said is not None:
        await erase(c, said, c.dice.sample(uses(c, said), 3), c.dice.choice(("session", "note", "written")))


async def erased_about_a_subject(c: Course) -> None:
    """Whatever was noted about a subject by anybody, while others note more about it, in words of their own."""
    subject, words = c.rt.options.make_id("shed"), [word(c) for _ in range(3)]
    users = [c.rt.options.make_id("user") for _ in words]
    places = ["project", *(f"user:{user}" for user in users[1:])]
    for rare, place in zip(words, places, strict=True):
        await c.rt.memory.keep(f"The door is painted {rare}.", Place("default", place), subjects=[subject])
    session = await c.surely("open", agent=KEEPER, user=users[1])
    verbs: list[Use] = [
        ("keep", {"text": f"The {place} door is open.", "scope": place, "subjects": [subject]}) for place in places
    ]
    verbs += [("rebuild", {}), ("embed", {}), ("recall", {"text": "the door"})]
    verbs += [("send", {"session": session, "text": "tell me what the door is painted"})] * 2
    given = [Ordered("subject", subject, words)] * c.dice.choice((1, 2))
    await order(c, given, c.dice.sample(verbs, 4), (session,))


async def erased_while_noted_by_agents(c: Course) -> None:
    """Whatever agents noted about a subject, each of what it was told, while they note more about it and correct it."""
    subject, words = c.rt.options.make_id("shed"), [word(c) for _ in range(3)]
    users = [c.rt.options.make_id("user"), c.rt.options.make_id("user"), ""]
    sessions = [await c.surely("open", agent=KEEPER, user=user) for user in users]
    says = zip(sessions, words, strict=True)
    await c.all(*(("send", {"session": s, "text": f"about {subject} The door is {rare}."}) for s, rare in says))
    notes = [note for session in sessions for note in await _noted(c, session)]
    if len(notes) < len(sessions):
        return  # a worker was killed so often that a call was given up, or over what was said
    given = [Ordered("subject", subject, words, notes)] * c.dice.choice((1, 2))
    await order(c, given, c.dice.sample(_more_about(c, subject, sessions, notes), c.dice.randrange(3, 6)), sessions)


async def _noted(c: Course, session: str) -> list[str]:
    """What an agent noted, once it rests."""
    await c.until(session, lambda s: s.turn is None and not s.queue)
    return [r.event.memory for r in await c.records(session) if isinstance(r.event, MemoryKept)]


def _more_about(c: Course, subject: str, sessions: Sequence[str], notes: Sequence[str]) -> list[Use]:
    """What agents and people do with what is known about a subject. Nothing of it says the rare words."""
    path = c.folder / c.rt.options.make_id("bundle")
    says = (f"about {subject} The door is open.", "correct The door is oiled.", "change The door is gone.")
    asks = ("tell me what the door is", "look door")
    verbs: list[Use] = [("send", {"session": one, "text": text}) for one in sessions for text in (*says, *asks)]
    verbs += [("fork", {"session": one}) for one in sessions]
    verbs += [("edit", {"memory": notes[0], "text": "The door is shut."}), ("withdraw", {"memory": notes[1]})]
    verbs += [("keep", {"text": "The door creaks.", "scope": "project", "subjects": [subject]})]
    verbs += [("export", {"session": sessions[0], "path": str(path)}), ("recall", {"text": "the door"})]
    return [*verbs, ("rebuild", {}), ("embed", {}), ("verify", {"session": sessions[1]})]


async def erased_while_copied(c: Course) -> None:
    """A copy that is made meanwhile is whole, and can be rid of the same by the same order; one that is made afterwards
    holds nothing of it."""
    said = await told(c)
    if said is None:
        return
    path = c.folder / c.rt.options.make_id("copy")
    verbs: list[Use] = [("copy", {"path": str(path)}), *c.dice.sample(uses(c, said), 2)]
    gone = said.orders()[what := c.dice.choice(("session", "user", "note", "written"))]
    (copied, *_) = await erase(c, said, verbs, what)
    if copied.good and set(gone.gone) <= c.erased.keys():
        await _erased_in_copy(c, path, gone)
        later = c.folder / c.rt.options.make_id("copy")
        if (await c.ask(c.dice.randrange(3), "copy", path=str(later))).good and words_in(later, tuple(gone.gone)):
            c.broken(f"a copy that was made after {gone.short} was erased holds it")


async def _erased_in_copy(c: Course, path: Path, gone: Ordered) -> None:
    async with Remanence(f"sqlite:///{path}", worker=False) as copy:
        async for session in sessions_all(copy.caller):
            found = await verify_session(copy.caller, session)
            if not found.sound:
                c.broken(f"{session} is not whole in a copy that was made meanwhile: {found}")
        await erasure.resume(copy.caller)
        with suppress(NotFound):  # it was copied after it was erased
            await copy.memory.erase(gone.what, gone.name, reason="also here")
    if left := words_in(path, tuple(gone.gone)):
        c.broken(f"{left} of {gone.short} is in a copy that was made meanwhile, after it was erased there as well")


async def erased_and_brought_back(c: Course) -> None:
    """Whoever brings a bundle from before discloses it anew: it is in that session alone, and an order reaches it."""
    said = await told(c)
    if said is None:
        return
    path, again = c.folder / c.rt.options.make_id("bundle"), c.rt.options.make_id("again")
    if not (await c.ask(0, "export", session=said.session, path=str(path))).good:
        return
    first = Ordered("user", said.user, (), (said.note, said.written))
    (brought, *_) = await order(c, [first], [("bring", {"path": str(path), "session": again})], (said.session,))
    if not brought.good:
        return
    c.gone.add(again)
    await c.surely("erase", what="user", name=said.user, said=[])
    await c.surely("erase", what="session", name=again, said=[])
    c.erased.update(dict.fromkeys((said.said, said.kept), f"user {said.user}, and {again}, which was brought in again"))


ERASURES: Final[Sequence[Callable[[Course], Awaitable[None]]]] = (
    erased_while_remembered,
    erased_while_edited,
    erased_while_said,
    erased_by_several,
    erased_of_nobody,
    erased_about_a_subject,
    erased_while_noted_by_agents,
    erased_while_copied,
    erased_and_brought_back,
)
