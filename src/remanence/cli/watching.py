"""Following one session from the terminal: its state as it unfolds, and the moment when nothing more comes by itself.

A session *rests* when no machine will move it on: it is idle, or a person has to answer. A rest says in one sentence
what it waits for and gives the exact commands that answer it, so that whoever sees it needs no manual.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Literal, NamedTuple

from remanence.cli.command import spelled
from remanence.cli.lines import call_words, question_words
from remanence.cli.output import clean, moment, usd
from remanence.cli.reach import Reach
from remanence.commands.shapes import FreezeShape
from remanence.core.decide import KEYED_ATTEMPTS
from remanence.core.session import evolve, fold
from remanence.core.state import CLIENT_EPOCH, Call, Pause, Session
from remanence.events import Recorded
from remanence.ports import Delta

__all__ = ["QUIET_S", "Quiet", "Rest", "Watch", "hold_over", "rest_of"]

QUIET_S = 0.5
"""How long nothing must have happened before a doubt counts as one that only a person can settle: its tool may know."""

_READ_RECORDS = 2_000

RestWord = Literal["approval", "answer", "doubt", "budget", "thaw", "client", "timer"]


class Rest(NamedTuple):
    """What a session waits for. `commands` answer it, the first one as people mostly will."""

    word: RestWord
    sentence: str
    commands: tuple[str, ...] = ()
    call: Call | None = None

    @property
    def human(self) -> bool:
        """Whether a person has to do something; a timer goes off by itself."""
        return self.word != "timer"


class Quiet(NamedTuple):
    """Nothing happened for a while."""


class Watch:
    """One session, followed from where it stands. `state` is folded along with what `items` gives."""

    def __init__(self, reach: Reach, state: Session) -> None:
        self.reach = reach
        self.state = state

    @classmethod
    async def of(cls, reach: Reach, session: str) -> Watch:
        """A watch from the session's present. Raises NotFound."""
        return cls(reach, await reach.journals.state(session))

    @classmethod
    async def before(cls, reach: Reach, session: str, position: int) -> Watch:
        """A watch from right before a record: what followed it comes again. Reads the journal up to there."""
        s = Session(session)
        while s.head < position - 1:
            limit = min(_READ_RECORDS, position - 1 - s.head)
            s = fold(s, await reach.journals.records(session, after=s.head, limit=limit))
        return cls(reach, s)

    async def items(self) -> AsyncIterator[Recorded | Delta | Quiet]:
        """What happens from now on, for ever; `Quiet` each time that nothing did for `QUIET_S`."""
        async with aclosing(self.reach.journals.follow(self.state.id, after=self.state.head)) as source:
            coming: asyncio.Task[Recorded | Delta] | None = None
            try:
                while True:
                    coming = coming or asyncio.ensure_future(anext(source))
                    done, _ = await asyncio.wait([coming], timeout=QUIET_S)
                    if not done:
                        yield Quiet()
                        continue
                    item, coming = coming.result(), None
                    if isinstance(item, Recorded):
                        self.state = evolve(self.state, item)
                    yield item
            finally:
                if coming is not None:
                    coming.cancel()
                    await asyncio.wait([coming])


def rest_of(s: Session) -> Rest | None:
    """What the session waits for, when nothing will move it on by itself; None when something will, or it is idle.

    A doubt counts only once it is quiet: a tool that can reconcile settles it without anybody.
    """
    turn = s.turn
    if turn is not None and any(_runs(call) for call in turn.calls):
        return None
    if turn is not None and turn.model is not None and turn.model.running:
        return None
    if s.frozen is not None and (turn is not None or s.queue):
        return Rest("thaw", f"The session is frozen ({clean(s.frozen)}).", (spelled("sessions", "thaw", s.id),))
    if turn is None:
        return None
    if s.pause is not None:
        return _budget(s.pause)
    if turn.model is not None or any(_goes_on(call) for call in turn.calls):
        return None
    waiting = {call.state: call for call in reversed(turn.calls)}
    if "in_doubt" in waiting:
        return _doubt(s, waiting["in_doubt"])
    if "asked" in waiting:
        return _approval(s, waiting["asked"])
    if "question" in waiting:
        return _question(s, waiting["question"], alone=sum(call.state == "question" for call in turn.calls) == 1)
    if "running" in waiting:
        call = waiting["running"]
        words = call_words(call.name, call.arguments)
        return Rest("client", f"The application that opened the session has to run {words}.", call=call)
    if "sleeping" in waiting:
        return Rest("timer", f"It sleeps until {moment(waiting['sleeping'].due_at)}.", call=waiting["sleeping"])
    return None


def hold_over(s: Session, holds: Sequence[FreezeShape]) -> Rest | None:
    """The freeze of something larger than the session that stops it, if one stands."""
    scopes = ("all", f"project:{s.project}", f"agent:{s.agent}")
    hold = next((hold for hold in holds if hold.scope in scopes), None)
    if hold is None or (s.turn is None and not s.queue):
        return None
    kind, _, name = hold.scope.partition(":")
    flags = {"all": ("--all",), "agent": ("--agent", name), "project": ("--whole-project",)}
    why = f": {clean(hold.reason)}" if hold.reason else ""
    return Rest(
        "thaw",
        f"{hold.scope} is frozen by {clean(hold.by)}{why}.",
        (spelled("sessions", "thaw", *flags[kind], project=s.project),),
    )


def _runs(call: Call) -> bool:
    return call.state == "running" and call.epoch != CLIENT_EPOCH


def _goes_on(call: Call) -> bool:
    """Whether the loop moves this call on without anybody."""
    if call.state == "in_doubt":
        return call.replay == "keyed" and call.attempt < KEYED_ATTEMPTS
    return call.state in ("new", "allowed", "approved", "refused", "settled", "rerun")


def _approval(s: Session, call: Call) -> Rest:
    who = f" by {' or '.join(clean(name) for name in call.approvers)}" if call.approvers else ""
    count = f" ({len(call.approvals)} of {call.needed} so far)" if call.needed > 1 else ""
    name = ("--as", call.approvers[0]) if call.approvers else ()
    return Rest(
        "approval",
        f"{call_words(call.name, call.arguments)} waits for an approval{who}{count}.",
        (
            spelled("approvals", "approve", s.id, call.call, *name),
            spelled("approvals", "deny", s.id, call.call, *name),
        ),
        call,
    )


def _question(s: Session, call: Call, *, alone: bool) -> Rest:
    which = () if alone else ("--answers", call.call)
    sentence = f"The agent asks: {question_words(call.name, call.arguments)}"
    return Rest("answer", sentence, (spelled("sessions", "send", s.id, "YOUR ANSWER", *which),), call)


def _doubt(s: Session, call: Call) -> Rest:
    resolve = ("doubts", "resolve", s.id, call.call)
    return Rest(
        "doubt",
        f"Nobody can vouch for whether {call_words(call.name, call.arguments)} happened ({clean(call.reason)}).",
        (
            spelled(*resolve, "--happened", "WHAT CAME OF IT"),
            spelled(*resolve, "--run-again"),
            spelled(*resolve, "--give-up"),
        ),
        call,
    )


def _budget(pause: Pause) -> Rest:
    over = max(pause.used + pause.needed - pause.limit, 1) if pause.needed else 10_000
    if pause.unit == "tokens":
        amount = ("--tokens", str(over))
        words = f"{pause.used:,} of {pause.limit:,} tokens are used, and the next call may need {pause.needed:,}"
    else:
        amount = ("--usd", usd(over).removeprefix("$"))
        words = f"{usd(pause.used)} of {usd(pause.limit)} is used, and the next call may need {usd(pause.needed)}"
    sentence = f"The budget of {pause.scope} is reached: {words}."
    if pause.reason:
        sentence = f"The budget of {pause.scope} holds it up: {pause.reason}."
    return Rest("budget", sentence, (spelled("budgets", "raise", pause.scope, *amount),))
