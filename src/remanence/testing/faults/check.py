"""What must be true after any fault run: the figures that have to be zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from remanence.core.session import fold
from remanence.core.state import Session
from remanence.events import (
    ApprovalGiven,
    CallJudged,
    InputJoined,
    InputReceived,
    Recorded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Budget
from remanence.testing.faults.scenario import Acknowledged
from remanence.testing.faults.world import World

__all__ = ["Figures", "check"]


class Figures(msgspec.Struct):
    """Sums over runs. All but `runs`, `kills`, `effects` and `doubts` have to be 0."""

    runs: int = 0
    kills: int = 0
    effects: int = 0
    doubts: int = 0
    duplicate_effects: int = 0
    lost_effects: int = 0
    lost_inputs: int = 0
    lost_approvals: int = 0
    cap_overshoot: int = 0
    stuck_sessions: int = 0
    broken_journals: int = 0

    def add(self, other: Figures) -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def failures(self) -> int:
        """The sum of what has to be 0."""
        kept = ("runs", "kills", "effects", "doubts")
        return sum(getattr(self, name) for name in self.__struct_fields__ if name not in kept)


def check(
    records: Sequence[Recorded], world: World, told: Acknowledged, budgets: Sequence[Budget], *, settled: bool
) -> Figures:
    """Hold one finished run against the world and against what its person was told."""
    s = fold(Session(records[0].session), records)
    figures = Figures(runs=1, stuck_sessions=int(not settled or s.turn is not None or bool(s.queue)))
    figures.duplicate_effects = _duplicates(world)
    figures.lost_effects = _claimed_but_absent(records, world)
    figures.effects = sum(sum(world.counts(tool).values()) for tool in ("refund", "notify", "courier"))
    figures.doubts = sum(type(r.event).__name__ == "ToolLost" for r in records)
    figures.lost_inputs = _lost_inputs(records, told)
    figures.lost_approvals = _lost_approvals(records, told)
    figures.cap_overshoot = sum(max(0, b.spent + b.reserved - b.limit) for b in budgets)
    return figures


def _duplicates(world: World) -> int:
    """`never` tools may arrive once for a key; keyed ones more often, but always as the same exact effect."""
    twice = sum(count - 1 for tool in ("notify", "courier") for count in world.counts(tool).values())
    return twice + len(world.conflicting())


def _claimed_but_absent(records: Sequence[Recorded], world: World) -> int:
    """Effects a finished turn says happened, which the world never saw."""
    keys = [key for r in records if isinstance(r.event, TurnEnded) for key in r.event.happened]
    return sum(not world.happened(key) for key in keys)


def _lost_approvals(records: Sequence[Recorded], told: Acknowledged) -> int:
    """Acknowledged approvals that are not in the journal, that were asked for again under the policy they were given
    under, or that started nothing."""
    given = Counter(r.event.call for r in records if isinstance(r.event, ApprovalGiven))
    lost = sum((Counter(told.approvals) - given).values())
    standing: dict[str, str] = {}
    for r in records:
        match r.event:
            case ApprovalGiven(call=call, policy=policy):
                standing[call] = policy
            case CallJudged(verdict="ask", call=call, policy=policy):
                lost += standing.get(call) == policy
            case _:
                pass
    started = {r.event.call for r in records if isinstance(r.event, ToolStarted)}
    return lost + len(standing.keys() - started)


def _lost_inputs(records: Sequence[Recorded], told: Acknowledged) -> int:
    """Acknowledged inputs that are not in the journal, or that no turn took, or that were taken out of order."""
    received = {r.event.input: r.position for r in records if isinstance(r.event, InputReceived)}
    taken: list[int] = []
    for r in records:
        if isinstance(r.event, TurnStarted):
            taken += r.event.inputs
        elif isinstance(r.event, InputJoined):
            taken.append(r.event.position)
    missing = sum(received.get(name) not in taken for name in told.inputs)
    return missing + int(taken != sorted(taken)) + (len(taken) - len(set(taken)))
