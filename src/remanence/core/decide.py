"""The agent loop as a pure function: `decide(session, spec, now, epoch) -> Action`.

No clock, no dice, no input or output: what should happen next follows from the state alone, so that whoever holds the
lease after a crash decides the same. The driver asks again and again: a `Note` is a fact that follows from the state
and is folded at once; `CallModel` and `RunTool` are intents, journaled before they are dispatched; `Rest` ends the
round. Notes gather and are written together with the next intent, in one transaction.

The order of the questions is the policy of the loop:

1. What did a dead worker leave behind? (an effect started under an older epoch has no one to report it)
2. Is the turn being cancelled? Then close every call, say what already happened, and end it.
3. Is the session frozen, or paused at a budget? Then rest: nothing may start.
4. Otherwise go on: judge and run the calls of the last reply, or call the model, or end the turn.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from remanence.content import parse_arguments
from remanence.core.builtins import ANSWERED, parse_question, parse_wake
from remanence.core.fitness import unfit
from remanence.core.policy import Allow, Ask, Deny, Verdict, judge
from remanence.core.state import CLIENT_EPOCH, Call, Compacting, Queued, Session, Turn, effect_key, said
from remanence.events import (
    ApprovalExpired,
    CallJudged,
    CompactionFailed,
    Event,
    InputJoined,
    ModelFailed,
    QuestionAsked,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec, ToolSpec

__all__ = ["Action", "CallModel", "Note", "Recall", "Rest", "RunTool", "decide"]

STARTS_MAX = 5
"""How often a `safe` or `keyed` call is started whose workers die: it may be the tool that kills them."""

KEYED_ATTEMPTS = 3
"""How often a keyed call is started before its doubt is put to a person."""

_MICROS = 1_000_000


class Note(msgspec.Struct, frozen=True):
    """A fact that follows from the state: fold it and decide again."""

    event: Event


class CallModel(msgspec.Struct, frozen=True):
    """Intent: call the model. The driver adds the window."""

    call: str
    attempt: int


class RunTool(msgspec.Struct, frozen=True):
    """Intent: run this call under the effect key of `event`."""

    event: ToolStarted
    arguments: str


class Rest(msgspec.Struct, frozen=True):
    """Nothing to start now. `wake_at`: look again then; `abort`: calls to stop; `reconcile`: doubts to look up."""

    why: str
    wake_at: int | None = None
    abort: tuple[str, ...] = ()
    reconcile: tuple[str, ...] = ()


class Recall(msgspec.Struct, frozen=True):
    """Ask the memory what fits the inputs of this turn: a look-up, no effect. Its outcome is `MemoryRecalled`."""

    turn: int


Action = Note | CallModel | RunTool | Recall | Rest


def decide(s: Session, spec: AgentSpec, *, now: int, epoch: int) -> Action:
    """What to do next. `now` in microseconds; `epoch` is that of the lease the decision would be written under."""
    turn = s.turn
    if s.compacting is not None and s.compacting.epoch < epoch:
        return Note(_lost_compaction(spec, s.compacting))
    if turn is None:
        if s.deleted and not s.queue:
            return Rest("deleted")
        if not s.deleted and (s.frozen is not None or not s.queue):
            ask, dates = _reconcile(s, [doubt.call for doubt in s.doubts], now)
            return Rest("frozen" if s.queue else "idle", wake_at=min(dates, default=None), reconcile=ask)
        return Note(TurnStarted(s.turns + 1, _taken(s.queue)))
    lost = _lost(s, spec, turn, now=now, epoch=epoch)
    if lost is not None:
        return Note(lost)
    cancel = turn.cancel or ("the session was deleted" if s.deleted else _interrupted(s))
    if cancel is not None:
        return _close(s, spec, turn, cancel, epoch=epoch)
    if s.frozen is not None:
        return Rest("frozen")
    if s.pause is not None:
        return Rest("budget")
    if turn.model is not None:
        return _model_step(spec, turn, now)
    if any(call.state != "returned" for call in turn.calls):
        return _calls(s, spec, turn, now=now, epoch=epoch)
    return _next_step(s, spec, turn)


def _lost_compaction(spec: AgentSpec, begun: Compacting) -> CompactionFailed:
    return CompactionFailed(
        begun.call,
        "lost",
        "the worker died during the call",
        cost_usd_micros=begun.reserved_usd_micros or None,
        billed_tokens=begun.reserved_tokens,
        model=spec.model,
    )


def _taken(queue: tuple[Queued, ...]) -> tuple[int, ...]:
    """The inputs of the next turn: the oldest one; up to an interrupting one, when there is one, so that what was
    queued before it is heard with it instead of being cut short by it."""
    last = max((i for i, queued in enumerate(queue) if queued.if_busy == "interrupt"), default=0)
    return tuple(queued.position for queued in queue[: last + 1])


def _interrupted(s: Session) -> str | None:
    waiting = s.queue and any(q.if_busy == "interrupt" for q in s.queue)
    return "interrupted by a new input" if waiting else None


# --- what a dead worker left behind -----------------------------------------------------------------------------------


def _lost(s: Session, spec: AgentSpec, turn: Turn, *, now: int, epoch: int) -> Event | None:
    """The fact about an effect that was started under an older epoch, if that fact is not simply to start it again."""
    step = turn.model
    if step is not None and step.running and step.epoch < epoch:
        last = step.attempt >= spec.limits.model_attempts
        return ModelFailed(
            step.call,
            "lost",
            "the worker died during the call",
            retry_at=None if last else now,
            cost_usd_micros=step.reserved_usd_micros or None,
            billed_tokens=step.reserved_tokens,
        )
    for call in turn.calls:
        if _is_lost(call, epoch) and (call.replay == "never" or call.attempt >= STARTS_MAX):
            return _lost_call(s, call)
    return None


def _lost_call(s: Session, call: Call) -> Event:
    """A call nobody can report on and that may not run again; one that only reads is given up, the rest is in doubt."""
    if call.replay == "safe":
        words = f"The tool gave no result: the worker died each of the {call.attempt} times it ran."
        return ToolReturned(call.call, said(words), error=True)
    times = f" ({call.attempt} times)" if call.attempt > 1 else ""
    return ToolLost(call.call, effect_key(s, call.call), call.name, f"the worker died while the tool ran{times}")


def _is_lost(call: Call, epoch: int) -> bool:
    return call.state == "running" and call.epoch != CLIENT_EPOCH and call.epoch < epoch


# --- cancelling -------------------------------------------------------------------------------------------------------


def _close(s: Session, spec: AgentSpec, turn: Turn, reason: str, *, epoch: int) -> Action:
    """Stop what may be stopped, wait for what may not, close every call, end the turn."""
    step = turn.model
    running = [call for call in turn.calls if call.state == "running" and call.epoch == epoch]
    abort = tuple(call.call for call in running if call.replay == "safe")
    if step is not None and step.running:
        abort = (*abort, step.call)
    if running or (step is not None and step.running):
        return Rest("running", abort=abort)
    for call in turn.calls:
        if call.state != "returned":
            return Note(_closing(s, spec, call))
    return Note(_ended(turn, "cancelled", reason))


def _ended(turn: Turn, status: Literal["completed", "failed", "cancelled"], reason: str = "") -> TurnEnded:
    return TurnEnded(turn.number, status, reason, happened=turn.happened, in_doubt=turn.in_doubt)


def _closing(s: Session, spec: AgentSpec, call: Call) -> Event:
    """The fact that closes one call of a cancelled turn.

    What still counts as running here has no one to report it: a dead worker's call, or one that the client has. Unless
    it is safe, its effect is in doubt like any other.
    """
    if call.state == "running" and call.replay != "safe":
        whose = "while the client had the call" if call.epoch == CLIENT_EPOCH else "after the worker died in the call"
        return ToolLost(call.call, effect_key(s, call.call), call.name, f"cancelled {whose}")
    if call.state in ("settled", "given_up"):
        return ToolReturned(call.call, call.result, call.error, untrusted=spec.distrusts(call.name))
    if call.state == "in_doubt":
        words = "The turn was cancelled while it was unknown whether this call happened. A person was asked."
        return ToolReturned(call.call, said(words), error=True)
    words = "cancelled while it ran" if call.state == "running" else "cancelled before it started"
    return ToolReturned(call.call, said(f"The call was {words}."), error=True, started=False)


# --- the model --------------------------------------------------------------------------------------------------------


def _model_step(spec: AgentSpec, turn: Turn, now: int) -> Action:
    step = turn.model
    if step is None or step.running:
        return Rest("running")
    if step.retry_at is None:
        return Note(_ended(turn, "failed", f"model: {step.failure}"))
    if now < step.retry_at:
        return Rest("retry", wake_at=step.retry_at)
    return CallModel(step.call, step.attempt + 1)


def _next_step(s: Session, spec: AgentSpec, turn: Turn) -> Action:
    """All calls are closed: take in what was steered, then call the model or end the turn."""
    steer = next((q for q in s.queue if q.if_busy == "steer"), None)
    if steer is not None:
        return Note(InputJoined(turn.number, steer.position))
    if turn.replied:
        return Note(_ended(turn, "completed"))
    if turn.model_calls >= spec.limits.model_calls_per_turn:
        words = f"the limit of {spec.limits.model_calls_per_turn} model calls in one turn was reached"
        return Note(_ended(turn, "failed", words))
    if spec.memory is not None and spec.memory.recall_tokens and not turn.recalled and not turn.model_calls:
        return Recall(turn.number)
    return CallModel(f"model_{turn.number}_{turn.model_calls + 1}", 1)


# --- the calls of one reply -------------------------------------------------------------------------------------------


def _calls(s: Session, spec: AgentSpec, turn: Turn, *, now: int, epoch: int) -> Action:
    """The first call that something follows for; when there is none, rest until the nearest date."""
    for call in turn.calls:
        action = _call(s, spec, call, now=now, epoch=epoch)
        if action is not None:
            return action
    states = [call.state for call in turn.calls]
    dates = [call.due_at for call in turn.calls if call.state == "sleeping"]
    dates += [call.expires_at for call in turn.calls if call.state == "asked" and call.expires_at is not None]
    ask, later = _reconcile(s, [call.call for call in turn.calls if call.state == "in_doubt"], now)
    running = any(call.state == "running" and call.epoch != CLIENT_EPOCH for call in turn.calls)
    why = "running" if running else next((word for word in _WAITS if word in states), "waiting")
    return Rest(why, wake_at=min((*dates, *later), default=None), reconcile=ask)


def _reconcile(s: Session, calls: list[str], now: int) -> tuple[tuple[str, ...], list[int]]:
    """Which of these doubts to look up now, and when to look up those whose `reconcile` failed."""
    failed = {doubt.call: doubt.retry_at for doubt in s.doubts if doubt.asked}
    dates = {call: date for call, date in failed.items() if date is not None and call in calls}
    ask = tuple(call for call in calls if call not in failed or dates.get(call, now + 1) <= now)
    return ask, [date for date in dates.values() if date > now]


_WAITS = ("in_doubt", "asked", "question", "sleeping")


def _call(s: Session, spec: AgentSpec, call: Call, *, now: int, epoch: int) -> Action | None:
    """What follows for one call now, if anything."""
    match call.state:
        case "new":
            return Note(_first_judgement(spec, s, call, now))
        case "allowed" | "approved" | "rerun":
            return _start(s, spec, call, now)
        case "running":
            return _start(s, spec, call, now) if _is_lost(call, epoch) else None
        case "asked":
            expired = call.expires_at is not None and now >= call.expires_at
            return Note(ApprovalExpired(call.call)) if expired else None
        case "refused":
            words = f"The call was not run: {call.reason}."
            return Note(ToolReturned(call.call, said(words), error=True, started=False))
        case "sleeping":
            return Note(TimerFired(call.call)) if now >= call.due_at else None
        case "settled" | "given_up":
            return Note(ToolReturned(call.call, call.result, call.error, untrusted=spec.distrusts(call.name)))
        case "in_doubt":
            return _again(s, spec, call, now)
        case "question" | "returned":
            return None
        case _:
            assert_never(call.state)


def _again(s: Session, spec: AgentSpec, call: Call, now: int) -> Action | None:
    """A keyed effect in doubt may run again under its key, a few times; after that it waits like any other."""
    if call.replay != "keyed" or call.attempt >= KEYED_ATTEMPTS:
        return None
    action = _start(s, spec, call, now)
    return action if isinstance(action, RunTool) else None


def _enough(spec: AgentSpec, s: Session) -> bool:
    """Whether the turn has run all the calls it may; one that waits for a person may still run."""
    most, turn = spec.limits.tool_calls_per_turn, s.turn
    if most is None or turn is None:
        return False
    return turn.ran + sum(call.state in ("asked", "approved") and not call.attempt for call in turn.calls) >= most


def _first_judgement(spec: AgentSpec, s: Session, call: Call, now: int) -> Event:
    if call.erased:
        return _refusal(call, "The call was not run: its arguments were erased.")
    tool = spec.tool(call.name)
    if tool is None:
        names = ", ".join(tool.name for tool in spec.tools) or "none"
        return _refusal(call, f"There is no tool called {call.name!r}. The tools are: {names}.")
    if s.turn and len(s.turn.calls) > spec.limits.tool_calls_per_reply:
        return _refusal(
            call, f"At most {spec.limits.tool_calls_per_reply} calls may be made in one reply; none was run."
        )
    if tool.kind != "client" and _enough(spec, s):
        return _refusal(call, f"At most {spec.limits.tool_calls_per_turn} calls are run in one turn; it was not run.")
    try:
        arguments = parse_arguments(call.arguments)
        asks = tool.kind == "builtin" and tool.name in ANSWERED
        misfit = unfit(arguments, tool.parameters) if tool.kind != "client" and not asks else None
        if misfit:
            return _refusal(call, f"The call was not run: {misfit}.")
        repeats = dict(s.turn.repeats).get(call.digest, 0) if s.turn else 0
        verdict = judge(spec, tool, arguments, repeats=repeats, untrusted=bool(s.untrusted_at))
        if asks and not isinstance(verdict, Deny):
            return _builtin(call, tool, now)  # a question or a timer is no effect: there is nothing to approve
    except ValueError as error:
        return _refusal(call, f"The call was not run: {error}.")
    return _judged(s, call, verdict, now)


def _builtin(call: Call, tool: ToolSpec, now: int) -> Event:
    if tool.name == "ask_human":
        question, options = parse_question(call.arguments)
        return QuestionAsked(call.call, question, options)
    if tool.name == "sleep_until":
        return TimerSet(call.call, parse_wake(call.arguments, now))
    raise ValueError(f"{tool.name} is not a built-in tool of this release")


def _refusal(call: Call, words: str) -> ToolReturned:
    return ToolReturned(call.call, said(words), error=True, started=False)


def _judged(s: Session, call: Call, verdict: Verdict, now: int) -> CallJudged:
    match verdict:
        case Allow(rule=rule):
            return CallJudged(call.call, "allow", call.digest, s.policy, rule)
        case Deny(rule=rule):
            return CallJudged(call.call, "deny", call.digest, s.policy, rule)
        case Ask(rule=rule, approvers=approvers, needed=needed, expires_s=expires_s):
            expires_at = None if expires_s is None else now + int(expires_s * _MICROS)
            return CallJudged(call.call, "ask", call.digest, s.policy, rule, approvers, needed, expires_at)
        case _:
            assert_never(verdict)


def _start(s: Session, spec: AgentSpec, call: Call, now: int) -> Action:
    """Judge the call once more, at the moment it would start: policies change, approvals run out."""
    tool = spec.tool(call.name)
    if tool is None:
        return Note(_gone(s, call, f"{call.name} is not a tool of this agent any more"))
    if call.erased:
        return Note(_gone(s, call, "its arguments were erased"))
    if call.state == "approved" and any(a.expires_at is not None and now >= a.expires_at for a in call.approvals):
        return Note(ApprovalExpired(call.call))
    try:
        verdict = judge(spec, tool, parse_arguments(call.arguments), untrusted=bool(s.untrusted_at))
    except ValueError as error:
        return Note(_gone(s, call, str(error)))
    if isinstance(verdict, Deny):
        return Note(_gone(s, call, verdict.rule) if _may_have_happened(call) else _judged(s, call, verdict, now))
    if isinstance(verdict, Ask) and not _stands(s, call):
        words = f"the policy that allowed it has changed: {verdict.rule}"
        return Note(_gone(s, call, words) if _may_have_happened(call) else _judged(s, call, verdict, now))
    event = ToolStarted(
        call.call,
        call.name,
        effect_key(s, call.call),
        tool.replay,
        attempt=call.attempt + 1,
        approved_by=tuple(a.by for a in call.approvals),
        client=tool.kind == "client",
    )
    return RunTool(event, call.arguments)


def _stands(s: Session, call: Call) -> bool:
    """Whether a person's word covers this start: an approval of these arguments under this policy, or the same effect
    under the same key that was allowed to start before, under this policy."""
    if call.state == "approved":
        return all(a.arguments == call.digest and a.policy == s.policy for a in call.approvals)
    return call.attempt > 0 and call.policy == s.policy


def _may_have_happened(call: Call) -> bool:
    """Whether an earlier start of this call may have reached the world. A rerun is known not to have."""
    return call.state in ("running", "in_doubt") and call.replay != "safe"


def _gone(s: Session, call: Call, why: str) -> Event:
    """A call that may not start now. If it may have happened already, it is in doubt; else it is refused."""
    if _may_have_happened(call):
        return ToolLost(call.call, effect_key(s, call.call), call.name, f"it started once and may not run again: {why}")
    return _refusal(call, f"The call was not run: {why}.")
