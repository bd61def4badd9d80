"""What must be true after any fault run: the figures that have to be zero.

An effect that may not run twice and arrived twice is a *duplicate*, with one exception that no worker can prevent: its
worker stood still between its last look at its lease and the landing of the effect, another worker took over, was told
that the effect had not happened, and ran it again. Such an effect was *overtaken* on its way. It is told apart by the
moments that the world keeps of each arrival and those of the pauses, and every double arrival is named in `stories`.

A *silent repeat* is another matter and has no exception: a `never` call that the journal starts more often than
somebody said that it had not happened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from remanence.core.session import fold
from remanence.core.state import Session
from remanence.events import (
    ApprovalGiven,
    CallJudged,
    InputJoined,
    InputReceived,
    Recorded,
    ToolLost,
    ToolResolved,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Budget
from remanence.testing.faults.scenario import Acknowledged
from remanence.testing.faults.sums import Sums
from remanence.testing.faults.world import Arrival, World

__all__ = ["Figures", "Pause", "check"]

NEVER = ("notify", "courier")


class Pause(NamedTuple):
    """One worker (its process id) that was stopped, from and until (microseconds)."""

    worker: int
    began: int
    ended: int


class Figures(Sums):
    """What came of the effects, inputs and approvals of runs.

    The stories are of effects that arrived twice and may not: the key, what the tool promises, what happened to it.
    """

    KEPT = ("runs", "kills", "effects", "doubts", "overtaken_effects")

    effects: int = 0
    doubts: int = 0
    overtaken_effects: int = 0
    duplicate_effects: int = 0
    silent_repeats: int = 0
    lost_effects: int = 0
    lost_inputs: int = 0
    lost_approvals: int = 0
    cap_overshoot: int = 0
    stuck_sessions: int = 0
    broken_journals: int = 0


def check(
    records: Sequence[Recorded],
    world: World,
    told: Acknowledged,
    budgets: Sequence[Budget],
    pauses: Sequence[Pause] = (),
    *,
    settled: bool,
) -> Figures:
    """Hold one finished run against the world and against what its person was told."""
    s = fold(Session(records[0].session), records)
    figures = Figures(runs=1, stuck_sessions=int(not settled or s.turn is not None or bool(s.queue)))
    figures.duplicate_effects = len(world.conflicting())
    figures.silent_repeats = _silent_repeats(records)
    for arrivals in _double_arrivals(world):
        overtaken = [any(_stood_still(arrival, pause) for pause in pauses) for arrival in arrivals]
        excused = min(sum(overtaken), len(arrivals) - 1)
        figures.overtaken_effects += excused
        figures.duplicate_effects += len(arrivals) - 1 - excused
        figures.stories.append(_story(arrivals, overtaken, records))
    figures.lost_effects = _claimed_but_absent(records, world)
    figures.effects = sum(sum(world.counts(tool).values()) for tool in ("refund", "notify", "courier"))
    figures.doubts = sum(type(r.event).__name__ == "ToolLost" for r in records)
    figures.lost_inputs = _lost_inputs(records, told)
    figures.lost_approvals = _lost_approvals(records, told)
    figures.cap_overshoot = sum(max(0, b.spent + b.reserved - b.limit) for b in budgets)
    return figures


def _double_arrivals(world: World) -> list[list[Arrival]]:
    """The `never` effects that arrived more than once. Keyed ones may, but always as the same exact effect."""
    by_key: dict[str, list[Arrival]] = {}
    for arrival in world.arrivals():
        if arrival.tool in NEVER:
            by_key.setdefault(arrival.effect_key, []).append(arrival)
    return [arrivals for arrivals in by_key.values() if len(arrivals) > 1]


def _stood_still(arrival: Arrival, pause: Pause) -> bool:
    """Whether the worker was stopped after its last look and before its effect had landed."""
    return arrival.worker == pause.worker and arrival.looked_at < pause.ended and pause.began < arrival.landed_at


def _silent_repeats(records: Sequence[Recorded]) -> int:
    """Starts of `never` calls beyond the first that neither `reconcile` nor a person asked for."""
    starts: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for r in records:
        match r.event:
            case ToolStarted(replay="never", call=call):
                starts[call] += 1
            case ToolResolved(outcome="run_again", call=call):
                asked[call] += 1
            case _:
                pass
    return sum(max(0, count - 1 - asked[call]) for call, count in starts.items())


def _story(arrivals: Sequence[Arrival], overtaken: Sequence[bool], records: Sequence[Recorded]) -> str:
    """What the journal and the world say of one effect, by the clock."""
    first = arrivals[0]
    call = first.effect_key.rpartition(":")[2]
    lines = [
        (r.at, f"{type(r.event).__name__} #{r.position} epoch {r.epoch} by {r.actor}")
        for r in records
        if (isinstance(r.event, ToolStarted | ToolLost | ToolResolved) and r.event.call == call)
    ]
    for arrival, late in zip(arrivals, overtaken, strict=True):
        lines.append((arrival.looked_at, f"process {arrival.worker} looked at its lease"))
        lines.append((arrival.landed_at, f"its effect landed{', after a pause in between' if late else ''}"))
    told = "; ".join(f"+{(at - min(lines)[0]) / 1_000:.1f} ms {what}" for at, what in sorted(lines))
    return f"{first.effect_key} ({first.tool}, replay never): {told}"


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
