"""What processes race for on one database, and what must hold whoever wins.

Each race is a function of the course: it sets something up, has every process ask for it at once, and looks at what
came of it. The laws are the same for all: what was acknowledged is there, once; of those who cannot all have their way
all but one are refused in words; no request ends in a stack trace; `verify` finds nothing. A process that was killed in
the middle did it once or not at all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from remanence.core.state import Session
from remanence.events import (
    ApprovalGiven,
    CompactionBegun,
    Event,
    InputReceived,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    SessionOpened,
    ToolResolved,
    ToolStarted,
)
from remanence.testing.faults.erased import audit_erased
from remanence.testing.faults.erasures import ERASURES
from remanence.testing.faults.racing import Course, Raced, make_trouble, onlooker, only, rests
from remanence.testing.faults.world import World

__all__ = ["RACES", "run_erasures", "run_races"]

Race = Callable[[Course], Awaitable[None]]
LANES: Final = 3
"""Races that go on at the same time."""
_BUDGET: Final = 5_000


async def one_key_opens(c: Course) -> None:
    """The same opening under one key is one session; another opening under it is refused."""
    key, other = c.rt.options.make_id("key"), c.dice.random() < 0.5
    given = [{"agent": "racer", "user": f"u{n if other else 0}", "key": key} for n in range(3)]
    answers = await c.each("open", *given)
    made = {answer.ok for answer in answers if answer.good}
    if len(made) > 1:
        c.broken(f"one key opened {made}")
    only(c, answers, "KeyReused" if other else "", "open under one key")
    for session in made:
        opened = [r for r in await c.records(session) if isinstance(r.event, SessionOpened)]
        if len(opened) != 1:
            c.broken(f"{session} was opened {len(opened)} times")


async def one_key_says(c: Course) -> None:
    """The same input under one key is one input."""
    session, other = await c.surely("open", agent="racer"), c.dice.random() < 0.5
    given = [{"session": session, "text": f"pay {n if other else 0}", "key": "k"} for n in range(3)]
    answers = await c.each("send", *given)
    heads = {answer.ok for answer in answers if answer.good}
    said = [r for r in await c.records(session) if isinstance(r.event, InputReceived)]
    if len(heads) > 1 or len(said) > 1 or (heads and not said):
        c.broken(f"{session}: one key said {len(said)} inputs at {heads}")
    only(c, answers, "KeyReused" if other else "", "send under one key")


async def all_talk(c: Course) -> None:
    """What is said at once is all kept; the effects of it happen once each."""
    session = await c.surely("open", agent="racer")
    words = c.dice.choice(("pay", "hello"))
    orders = [("send", {"session": session, "text": f"{words} {n}"}) for n in range(6)]
    if c.dice.random() < 0.3:
        orders.append(("cancel", {"session": session}))
    only(c, await c.all(*orders), "Conflict", "send and cancel")


async def one_answers(c: Course) -> None:
    """Of several who answer one call, one is heard, and the effect happens once, or not."""
    session = await c.surely("open", agent="racer")
    await c.surely("send", session=session, text="ask 1", key="k")
    s = await c.until(session, lambda s: _call(s, "asked") is not None)
    call = s and _call(s, "asked")
    if call is None:
        return
    said = [c.dice.choice(("approve", "approve", "deny")) for _ in range(3)]
    given = [{"session": session, "call": call, "by": f"p{n}", "decision": said[n]} for n in range(3)]
    answers = await c.each("approve", *given)
    only(c, answers, "Conflict NotFound", "answer one call")
    await c.until(session, lambda s: s.turn is None)
    heard = [r.event for r in await c.records(session) if isinstance(r.event, ApprovalGiven)]
    good = [said[n] for n, answer in enumerate(answers) if answer.good]
    if len(heard) > 1 or len(good) > 1 or (good and [one.decision for one in heard] != good):
        c.broken(f"{session}: told {good} that they were heard, and the journal has {heard}")
    done = [key for key in c.world.counts("refund") if key.startswith(f"{session}:")]
    if len(done) != sum(one.decision == "approve" for one in heard):
        c.broken(f"{session}: after {heard} the effects {done} happened")


async def one_resolves(c: Course) -> None:
    """Of several who settle one doubt, one is heard."""
    session = await c.surely("open", agent="racer")
    await c.surely("send", session=session, text="doubt 1", key="k")
    s = await c.until(session, lambda s: bool(s.doubts))
    if s is None:
        return
    call, effect = s.doubts[0].call, s.doubts[0].effect_key
    said = [c.dice.choice(("happened", "run_again", "give_up")) for _ in range(3)]
    given = [{"session": session, "call": call, "by": f"p{n}", "outcome": said[n]} for n in range(3)]
    answers = await c.each("resolve", *given)
    only(c, answers, "Conflict NotFound", "settle one doubt")
    heard: list[str] = []
    while s := await c.until(session, lambda s: bool(s.doubts) or s.turn is None):
        heard = [r.event.outcome for r in await c.records(session) if isinstance(r.event, ToolResolved)]
        if not s.doubts:
            break
        await c.surely("resolve", session=session, call=call, by="p9", outcome="give_up")  # its worker died over it
    good = [said[n] for n, answer in enumerate(answers) if answer.good]
    if len(good) > 1 or (good and heard[:1] != good):
        c.broken(f"{session}: told {good} that they were heard, and the journal has {heard}")
    again, sent = heard.count("run_again"), c.world.counts("courier")[effect]
    if sent > 1 + again:
        c.broken(f"{session}: the courier went {sent} times, after {heard}")


async def forks_while_said(c: Course) -> None:
    """A fork of a session that is written to has a whole past."""
    session = await c.surely("open", agent="racer")
    await c.surely("send", session=session, text="pay 0", key="k")
    await c.until(session, lambda s: s.turns > 0 and s.turn is None)
    orders = [("fork", {"session": session}), ("send", {"session": session, "text": "pay 1"})] * 2
    orders += [
        ("fork", {"session": session, "turn": 1}),
        ("upgrade", {"session": session, "agent": "racer", "number": 2}),
    ]
    answers = await c.all(*orders)
    only(c, answers, "Conflict", "fork and send")
    forks = [answer.ok for answer, (verb, _) in zip(answers, orders, strict=True) if answer.good and verb == "fork"]
    await c.all(*(("send", {"session": fork, "text": "pay 2"}) for fork in forks))
    for fork in forks:
        s = await c.until(fork, lambda s: s.turn is None and not s.queue)
        if s is not None and s.turns < 1:
            c.broken(f"{fork}, a fork of {session}, has no past")


async def deleted_while_used(c: Course) -> None:
    """One deletes; whoever reads, says, forks, exports meanwhile does it before, or is told."""
    session = await c.surely("open", agent="racer")
    c.gone.add(session)
    await c.surely("send", session=session, text="pay 0", key="k")
    orders = [("delete", {"session": session})] * 2 + _uses(c, session)
    answers = await c.all(*orders)
    only(c, answers, "Conflict NotFound Frozen InvalidInput", "delete and use")
    if sum(answer.good for answer in answers[:2]) > 1:
        c.broken(f"{session} was deleted twice")
    if any(answer.good for answer in answers[:2]):
        await c.until(session, rests)


async def erased_while_used(c: Course) -> None:
    """Who is erased is gone from the session, and from what was forked off it meanwhile."""
    user = c.rt.options.make_id("user")
    session, secret = await c.surely("open", agent="racer", user=user), c.rt.options.make_id("secret")
    c.gone.add(session)
    await c.surely("send", session=session, text=f"pay {secret}", key="k")
    what = c.dice.choice((("session", session), ("user", user)))
    orders = [("erase", {"what": what[0], "name": what[1]})] * 2 + _uses(c, session)
    answers = await c.all(*orders)
    only(c, answers, "Conflict NotFound Frozen InvalidInput", "erase and use")
    forks = [answer.ok for answer, (verb, _) in zip(answers, orders, strict=True) if answer.good and verb == "fork"]
    c.gone.update(forks)
    if any(answer.good for answer in answers[:2]):
        for one in (session, *forks):
            await c.until(one, rests)
            said = [r.position for r in await c.records(one) if isinstance(r.event, InputReceived) and secret in str(r)]
            if said:
                c.broken(f"{one} still says at {said} what was erased with {what}: {answers[:2]}")


async def brought_at_once(c: Course) -> None:
    """One file brought in several times at once is one session, with the budgets it had."""
    session = await c.surely("open", agent="racer")
    await c.surely("limit", scope=f"session:{session}", tokens=_BUDGET)
    await c.surely("send", session=session, text="pay 0", key="k")
    await c.until(session, lambda s: s.turns > 0 and s.turn is None)
    path, copy = c.folder / f"{session}.bundle", c.rt.options.make_id("copy")
    if not (await c.ask(0, "export", session=session, path=str(path))).good:
        return
    orders = [("bring", {"path": str(path), "session": copy})] * 3
    orders += [("send", {"session": copy, "text": f"pay {n}"}) for n in range(2)]
    answers = await c.all(*orders)
    only(c, answers, "Conflict NotFound", "bring one file")
    if sum(answer.good for answer in answers[:3]) > 1:
        c.broken(f"{copy} was brought in twice")
    await asyncio.to_thread(path.unlink)
    if await _is_there(c, copy):
        await _budget_holds(c, copy, _BUDGET)


async def pushed_at_once(c: Course) -> None:
    """Versions that are registered at once have one number each, and the same one has the same."""
    agent = c.dice.choice(("racer", "frozen"))
    numbers = [c.dice.randrange(10, 1_000_000) for _ in range(2)]
    answers = await c.each("push", *({"agent": agent, "number": numbers[n % 2]} for n in range(3)))
    only(c, answers, "", "push")
    versions = await c.rt.database.specs.versions(c.rt.caller.project, agent)
    known = {version.version: version.number for version in versions}
    if sorted(known.values()) != list(range(1, len(versions) + 1)):
        c.broken(f"the versions of {agent} are numbered {sorted(known.values())}")
    for answer in answers:
        if answer.good and known.get(answer.ok[1]) != answer.ok[0]:
            c.broken(f"{answer.ok} was registered, and there is {known.get(answer.ok[1])}")


async def raised_at_once(c: Course) -> None:
    """Every raise that was acknowledged counts, whoever else raises and whatever is reserved meanwhile."""
    session = await c.surely("open", agent="racer")
    scope, first = f"session:{session}", c.dice.choice((1_000, _BUDGET))
    await c.surely("limit", scope=scope, tokens=first)
    raises = [c.dice.randrange(1, 400) for _ in range(4)]
    orders = [("send", {"session": session, "text": f"pay {n}"}) for n in range(2)]
    answers = await c.all(*orders, *(("more", {"scope": scope, "tokens": by}) for by in raises))
    only(c, answers, "Conflict", "raise a budget")
    sure = first + sum(by for by, answer in zip(raises, answers[2:], strict=True) if answer.good)
    most = sure + sum(by for by, answer in zip(raises, answers[2:], strict=True) if answer.died)
    limit = (await c.rt.database.controls.budgets(scope))[0].limit
    if not sure <= limit <= most:
        c.broken(f"{scope}: {first} raised by {raises}, {[a.good for a in answers[2:]]}, is {limit}, not {sure}")
    await c.surely("more", scope=scope, tokens=5_000)
    limit = (await c.rt.database.controls.budgets(scope))[0].limit
    await _budget_holds(c, session, limit)


async def frozen_while_claimed(c: Course) -> None:
    """Once a freeze is acknowledged no effect starts until it is lifted, and then all goes on."""
    async with c.frozen:  # who lifts a freeze lifts it for all
        await _frozen_while_claimed(c)


async def _frozen_while_claimed(c: Course) -> None:
    opened = [await c.surely("open", agent="frozen") for _ in range(3)]
    scope = c.dice.choice(("agent:frozen", "sessions"))
    says = [("send", {"session": session, "text": f"pay {n}"}) for n in range(2) for session in opened]
    talk = asyncio.create_task(c.all(*says))
    if scope == "sessions":
        freezes = [("freeze_session", {"session": session}) for session in opened]
        thaws = [("thaw_session", {"session": session}) for session in opened]
    else:
        freezes, thaws = [("freeze", {"scope": scope})] * 3, [("thaw", {"scope": scope})] * 3
    stopped = await c.all(*freezes)
    if all(answer.good for answer in stopped):
        before = [await _effects(c, session) for session in opened]
        await asyncio.sleep(c.dice.choice((0.0, 0.02, 0.3)))
        after = [await _effects(c, session) for session in opened]
        if before != after:
            c.broken(f"under a freeze of {scope} effects started: {before}, then {after} in {opened}")
    only(c, [*stopped, *(await talk)], "Conflict", "freeze and send")
    only(c, await c.all(*thaws), "NotFound Conflict", "thaw")
    await _all_thawed(c, scope, opened)
    for session in opened:
        await c.until(session, lambda s: s.turn is None and not s.queue)


async def upgraded_while_running(c: Course) -> None:
    """A session goes on with one of the versions it was told to go on with, the last that was acknowledged."""
    session = await c.surely("open", agent="racer")
    says = [("send", {"session": session, "text": f"pay {n}"}) for n in range(2)]
    ups = [("upgrade", {"session": session, "agent": "racer", "number": n + 1}) for n in range(3)]
    answers = await c.all(*says, *ups)
    only(c, answers, "Conflict", "upgrade and send")
    good = [answer for answer in answers[2:] if answer.good]
    if len({answer.ok for answer in good}) != len(good):
        c.broken(f"{session} was upgraded twice at one position: {answers[2:]}")
    await c.until(session, lambda s: s.turn is None and not s.queue)


RACES: Final[Sequence[Race]] = (
    one_key_opens,
    one_key_says,
    all_talk,
    one_answers,
    one_resolves,
    forks_while_said,
    deleted_while_used,
    erased_while_used,
    brought_at_once,
    pushed_at_once,
    raised_at_once,
    frozen_while_claimed,
    upgraded_while_running,
)


# --- what the laws look at --------------------------------------------------------------------------------------------


def _call(s: Session, state: str) -> str | None:
    return next((call.call for call in s.turn.calls if call.state == state), None) if s.turn else None


def _uses(c: Course, session: str) -> list[tuple[str, dict[str, object]]]:
    """What somebody else may do with a session meanwhile, in any order."""
    path = c.folder / f"{c.rt.options.make_id('bundle')}"
    uses: list[tuple[str, dict[str, object]]] = [
        ("fork", {"session": session}),
        ("export", {"session": session, "path": str(path)}),
        ("read", {"session": session}),
        ("verify", {"session": session}),
        ("send", {"session": session, "text": "pay 1"}),
        ("freeze_session", {"session": session}),
        ("cancel", {"session": session}),
        ("list", {}),
    ]
    return c.dice.sample(uses, 4)


async def _is_there(c: Course, session: str) -> bool:
    known = await c.ask(0, "read", session=session)
    return known.good


async def _effects(c: Course, session: str) -> list[int]:
    intents = ModelCalled | ToolStarted | CompactionBegun
    return [r.position for r in await c.records(session) if isinstance(r.event, intents)]


async def _budget_holds(c: Course, session: str, limit: int) -> None:
    """The budget of a session that rests is what it was set to, and spent is what its calls came to. One whose outcome
    was lost, to a kill or to a machine that held its worker up past the lease, counts for the most it may cost."""
    if await c.until(session, lambda s: s.turn is None and not s.queue) is None:
        return
    used = sum(_came_to(r.event) for r in await c.records(session))
    budgets = [b for b in await c.rt.database.controls.budgets(f"session:{session}") if b.unit == "tokens"]
    if [(b.limit, b.reserved, b.spent) for b in budgets] != [(limit, 0, used)]:
        c.broken(f"{session}: a budget of {limit} of which {used} were used is {budgets}")


def _came_to(event: Event) -> int:
    match event:
        case ModelReplied(usage=usage):
            return usage.input_tokens + usage.output_tokens
        case ModelFailed(billed_tokens=billed):
            return billed
        case _:
            return 0


async def _all_thawed(c: Course, scope: str, opened: Sequence[str]) -> None:
    """Who was killed over a freeze or a thaw may have left either."""
    if scope != "sessions":
        if any(hold.scope.endswith("frozen") for hold in await c.rt.database.controls.holds()):
            await c.surely("thaw", scope=scope)
        return
    for session in opened:
        if (await (await c.rt.get(session)).state()).frozen is not None:
            await c.surely("thaw_session", session=session)


# --- the races --------------------------------------------------------------------------------------------------------


async def run_races(
    url: str,
    folder: Path,
    rounds: int | Sequence[Race],
    *,
    seed: int = 0,
    tell: Callable[[Raced], None] | None = None,
    trouble_every: int = 0,
) -> Raced:
    """Run so many races, every kind in turn, or these, in an order drawn by lot, and audit everything at the end.

    `trouble_every`: about once in so many races a process is killed, or stopped past its leases; 0 is never.
    """
    dice = random.Random(seed)
    async with onlooker(url) as rt:
        course = Course(rt, World(folder / "world.db"), folder, dice)
        await asyncio.gather(*(racer.start() for racer in course.racers))
        drawn = _in_turn(RACES, rounds) if isinstance(rounds, int) else list(rounds)
        dice.shuffle(drawn)
        left = iter(drawn)

        async def lane() -> None:
            for race in left:
                await race(course)
                course.figures.runs += 1
                if tell is not None:
                    tell(course.figures)

        trouble = asyncio.create_task(make_trouble(course, course.racers, trouble_every))
        await asyncio.gather(*(lane() for _ in range(LANES)))
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        await course.audit()
        await audit_erased(course)
        await asyncio.gather(*(racer.stop() for racer in course.racers))
        course.world.close()
    course.figures.said = sorted(course.messages)
    return course.figures


async def run_erasures(
    url: str,
    folder: Path,
    rounds: int,
    *,
    seed: int = 0,
    tell: Callable[[Raced], None] | None = None,
    trouble_every: int = 0,
) -> Raced:
    """Run so many races over what is erased alone."""
    races = _in_turn(ERASURES, rounds)
    return await run_races(url, folder, races, seed=seed, tell=tell, trouble_every=trouble_every)


def _in_turn(races: Sequence[Race], rounds: int) -> list[Race]:
    return [races[n % len(races)] for n in range(rounds)]
