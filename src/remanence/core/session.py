"""The fold: `evolve(state, record) -> state`, and `fold` over many records.

Total and pure: any prefix of any journal folds, the same records always give the same state, and no event is ignored by
accident (`assert_never`). What the events mean for a tool call is drawn at the head of `core/state.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from remanence.content import text_of
from remanence.core.state import (
    CLIENT_EPOCH,
    Approval,
    Call,
    Compacting,
    Doubt,
    ModelStep,
    Pause,
    Queued,
    Session,
    Turn,
    Window,
    calls_of,
    said,
    with_call,
)
from remanence.events import (
    ApprovalExpired,
    ApprovalGiven,
    BlocksShown,
    BudgetRaised,
    BudgetReached,
    CallJudged,
    CancelAsked,
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    InputJoined,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    MemoryRecalled,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recorded,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionOpened,
    SessionThawed,
    SessionUpgraded,
    TimerFired,
    TimerSet,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)

__all__ = ["evolve", "fold"]

StepEvent = (
    ModelCalled
    | ModelReplied
    | ModelFailed
    | CallJudged
    | ApprovalGiven
    | ApprovalExpired
    | QuestionAsked
    | ToolStarted
    | ToolReturned
    | ToolLost
    | ToolResolved
    | TimerSet
    | TimerFired
)


def evolve(s: Session, r: Recorded) -> Session:
    """The state after one more record."""
    match r.event:
        case ModelCalled() | ModelReplied() | CallJudged() | ToolStarted() | ToolReturned():  # what most records are
            s = _evolve_step(s, r, r.event)
        case InputReceived():
            s = _input_received(s, r, r.event)
        case TurnStarted(turn=number, inputs=inputs):
            queue = tuple(q for q in s.queue if q.position not in inputs)
            s = replace(s, turn=Turn(number, r.at, r.position, cancel=s.cancel), turns=number, queue=queue, cancel=None)
        case InputJoined(position=position):
            s = replace(s, queue=tuple(q for q in s.queue if q.position != position))
            s = _in_turn(s, replied=False)
        case TurnEnded(status=status):
            s = replace(s, turn=None, last_turn=status)
        case CancelAsked():
            s = _cancel_asked(s, r.event)
        case SessionOpened() | SessionForked() | SessionUpgraded() | SessionFrozen() | SessionThawed():
            s = _evolve_session(s, r.event, r.at)
        case SessionAnnotated(metadata=metadata, face=face):
            s = replace(s, metadata=metadata, face=face)
        case SessionDeleted():
            s = replace(s, deleted=True)
        case BudgetReached() as e:
            s = replace(s, pause=Pause(_scope_in(s, e.scope), e.unit, e.limit, e.used, e.needed, e.reason))
        case BudgetRaised(scope=scope, unit=unit):
            if s.pause and (s.pause.scope, s.pause.unit) == (_scope_in(s, scope), unit):
                s = replace(s, pause=None)
        case MemoryRecalled() | BlocksShown() | CompactionBegun() | CompactionFailed() | ContextCompacted():
            s = _evolve_window(s, r, r.event)
        case MemoryKept() | MemoryForgotten() | Redacted():
            pass  # facts for other projections: they change nothing that decides
        case _:
            s = _evolve_step(s, r, r.event)
    return replace(s, head=r.position, at=r.at)


def _scope_in(s: Session, scope: str) -> str:
    """A budget's scope as it is meant here: a journal that was brought in under another id still says the old one."""
    return f"session:{s.id}" if scope.startswith("session:") else scope


def fold(s: Session, records: Iterable[Recorded]) -> Session:
    """The state after all of `records`, in order."""
    for record in records:
        s = evolve(s, record)
    return s


def _evolve_session(
    s: Session, e: SessionOpened | SessionForked | SessionUpgraded | SessionFrozen | SessionThawed, at: int
) -> Session:
    match e:
        case SessionOpened():
            return replace(
                s,
                agent=e.agent,
                version=e.version,
                policy=e.policy,
                project=e.project,
                user=e.user,
                title=e.title,
                metadata=e.metadata,
                face=e.face,
                opened_at=at,
            )
        case SessionForked():
            return Session(
                id=s.id,
                agent=s.agent,
                version=s.version,
                policy=s.policy,
                project=s.project,
                user=e.user or s.user,
                title=e.title or s.title,
                metadata=e.metadata,
                face=s.face,
                opened_at=at,
                turns=s.turns,
                window=s.window,
                compacted_turn=s.compacted_turn,
                compacted_at=s.compacted_at,
                untrusted_at=s.untrusted_at,
                opens=s.opens,
            )
        case SessionUpgraded(version=version, policy=policy):
            return replace(s, version=version, policy=policy)
        case SessionFrozen(by=by, reason=reason):
            return replace(s, frozen=f"{by}: {reason}" if reason else by)
        case SessionThawed():
            return replace(s, frozen=None)
        case _:
            assert_never(e)


WindowEvent = MemoryRecalled | BlocksShown | CompactionBegun | CompactionFailed | ContextCompacted


def _evolve_window(s: Session, r: Recorded, e: WindowEvent) -> Session:
    """Events that change what later model calls see."""
    match e:
        case MemoryRecalled(items=items):
            if not s.untrusted_at and any(item.untrusted for item in items):
                s = replace(s, untrusted_at=r.position)
            return _in_turn(s, recalled=True)
        case BlocksShown(items=items):
            return replace(s, blocks=items, shown_at=r.position)
        case CompactionBegun():
            begun = Compacting(
                e.call,
                e.attempt,
                r.epoch,
                r.position,
                e.through_turn,
                e.skipped,
                e.reserved_usd_micros,
                e.reserved_tokens,
            )
            return replace(s, compacting=begun, last_effect=r.position)
        case CompactionFailed():
            spent = s.ledger.with_compaction(e.usage, e.cost_usd_micros)
            return replace(s, compacting=None, compactions_failed=s.compactions_failed + 1, ledger=spent)
        case ContextCompacted():
            if e.call and s.compacting is not None:
                s = replace(s, ledger=s.ledger.with_compaction(e.usage, e.cost_usd_micros), compacting=None)
            return replace(s, compacted_turn=e.through_turn, compacted_at=r.position, compactions_failed=0)
        case _:
            assert_never(e)


def _input_received(s: Session, r: Recorded, e: InputReceived) -> Session:
    """An input answers the question it names, or the one open question when it names none; else it is queued."""
    questions = [call for call in s.turn.calls if call.state == "question"] if s.turn else []
    named = [call for call in questions if e.answers in (call.call, None)]
    if s.turn and len(named) == 1 and e.if_busy in ("queue", "steer"):
        return replace(s, turn=with_call(s.turn, replace(named[0], state="settled", result=e.parts)))
    return replace(s, queue=(*s.queue, Queued(r.position, e.input, e.if_busy)))


def _cancel_asked(s: Session, e: CancelAsked) -> Session:
    """A cancel stops the turn it names. One that comes while the input is still queued stops the turn that takes it."""
    words = f"{e.by}: {e.reason}" if e.reason else e.by
    if s.turn is None:
        return replace(s, cancel=words) if s.queue and e.turn in (None, s.turns + 1) else s
    return _in_turn(s, cancel=words) if e.turn in (None, s.turn.number) else s


def _in_turn(s: Session, **changes: object) -> Session:
    return replace(s, turn=replace(s.turn, **changes)) if s.turn else s


def _evolve_step(s: Session, r: Recorded, e: StepEvent) -> Session:
    """Events of one step. Outside a turn only a doubt can still be resolved; the rest were closed with the turn."""
    if s.turn is None:
        return _about_doubt(s, e)
    match e:
        case ModelCalled() | ModelReplied() | ModelFailed():
            return _evolve_model(s, s.turn, r, e)
        case _:
            call = s.call(e.call)
            if call is None:
                return _about_doubt(s, e)
            return _evolve_call(s, s.turn, call, r, e)


def _evolve_model(s: Session, turn: Turn, r: Recorded, e: ModelCalled | ModelReplied | ModelFailed) -> Session:
    match e:
        case ModelCalled():
            step = ModelStep(
                e.call,
                e.attempt,
                r.epoch,
                r.position,
                reserved_usd_micros=e.reserved_usd_micros,
                reserved_tokens=e.reserved_tokens,
                version=s.version,
            )
            return replace(
                s,
                last_effect=r.position,
                turn=replace(turn, model=step, calls=(), model_calls=turn.model_calls + (e.attempt == 1)),
                window=Window(e.first_turn, e.window_from, e.skipped, e.cleared),
                opens=s.opens or e.opens,
            )
        case ModelReplied():
            left = [call for call in turn.calls if call.state != "returned"]  # one that was brought along finds some
            calls = (*left, *calls_of(e.parts, erased=r.redacted))
            return replace(
                s,
                turn=replace(turn, model=None, calls=calls, replied=not calls),
                ledger=s.ledger.with_reply(e.usage, e.cost_usd_micros),
            )
        case ModelFailed():
            failed = turn.model and replace(turn.model, running=False, retry_at=e.retry_at, failure=e.message)
            ledger = replace(s.ledger, usd_micros=s.ledger.usd_micros + (e.cost_usd_micros or 0))
            return replace(s, turn=replace(turn, model=failed), ledger=ledger)
        case _:
            assert_never(e)


CallEvent = (
    CallJudged
    | ApprovalGiven
    | ApprovalExpired
    | QuestionAsked
    | ToolStarted
    | ToolReturned
    | ToolLost
    | ToolResolved
    | TimerSet
    | TimerFired
)


def _evolve_call(s: Session, turn: Turn, call: Call, r: Recorded, e: CallEvent) -> Session:
    match e:
        case CallJudged():
            return _judged(s, turn, call, e)
        case ApprovalGiven() | ApprovalExpired() | QuestionAsked() | TimerSet() | TimerFired():
            changed = _waited(call, r, e)
        case ToolStarted():
            epoch = CLIENT_EPOCH if e.client else r.epoch
            s = replace(_without_doubt(s, e.call) if s.doubts else s, last_effect=r.position)
            if e.attempt == 1 and not e.client:
                turn = replace(turn, ran=turn.ran + 1)
            changed = replace(
                call, state="running", replay=e.replay, attempt=e.attempt, epoch=epoch, position=r.position
            )
        case ToolReturned():
            return _returned(s, turn, call, e, r.position)
        case ToolLost() if e.asked:
            return _about_doubt(s, e)
        case ToolLost():
            changed = replace(call, state="in_doubt", reason=e.reason)
            doubt = Doubt(e.call, e.effect_key, e.tool, turn.number, r.at, e.reason)
            s = replace(s, doubts=(*(d for d in s.doubts if d.effect_key != e.effect_key), doubt))
        case ToolResolved():
            changed = _resolved(call, e)
            s = _without_doubt(s, e.call)
        case _:
            assert_never(e)
    return replace(s, turn=with_call(turn, changed))


def _judged(s: Session, turn: Turn, call: Call, e: CallJudged) -> Session:
    """A judgement under a new policy starts the approvals over; counting repeats happens once for each call."""
    state = {"allow": "allowed", "ask": "asked", "deny": "refused"}[e.verdict]
    changed = replace(
        call,
        state=state,
        reason=e.rule,
        policy=e.policy,
        approvers=e.approvers,
        needed=e.needed,
        approvals=(),
        expires_at=e.expires_at,
    )
    if not call.policy:
        repeats = dict(turn.repeats)
        repeats[call.digest] = repeats.get(call.digest, 0) + 1
        turn = replace(turn, repeats=tuple(repeats.items()))
    return replace(s, turn=with_call(turn, changed))


def _waited(
    call: Call, r: Recorded, e: ApprovalGiven | ApprovalExpired | QuestionAsked | TimerSet | TimerFired
) -> Call:
    """What becomes of a call that waits for a person or a date."""
    match e:
        case ApprovalGiven():
            return _approved(call, e, r.at) if call.state in ("asked", "approved") else call
        case ApprovalExpired():
            return replace(call, state="refused", reason="the approval expired before the call could start")
        case QuestionAsked():
            return replace(call, state="question", position=r.position)
        case TimerSet(due_at=due_at):
            return replace(call, state="sleeping", due_at=due_at)
        case TimerFired():
            return replace(call, state="settled", result=said("The time has come; go on."))
        case _:
            assert_never(e)


def _approved(call: Call, e: ApprovalGiven, at: int) -> Call:
    """A yes counts from somebody who was asked, and in time; a no counts always."""
    if e.decision == "deny":
        return replace(call, state="refused", reason=f"denied by {e.by}" + (f": {e.note}" if e.note else ""))
    late = call.expires_at is not None and at >= call.expires_at
    if late or (call.approvers and e.by not in call.approvers):
        return call
    others = tuple(a for a in call.approvals if a.by != e.by)
    approvals = (*others, Approval(e.by, e.arguments, e.policy, e.expires_at))
    return replace(call, approvals=approvals, state="approved" if len(approvals) >= call.needed else "asked")


def _returned(s: Session, turn: Turn, call: Call, e: ToolReturned, position: int) -> Session:
    """A call is closed once. An effect nobody can vouch for is not said to have happened."""
    if call.state == "returned":
        return s
    turn = with_call(turn, replace(call, state="returned", result=(), error=e.error, approvals=()))
    if e.untrusted and not s.untrusted_at:
        s = replace(s, untrusted_at=position)
    if e.started and call.attempt:
        key = f"{s.id}:{turn.number}:{call.call}"
        if call.state in ("in_doubt", "given_up"):
            turn = replace(turn, in_doubt=(*turn.in_doubt, key))
        elif call.replay != "safe":
            turn = replace(turn, happened=(*turn.happened, key))
        s = replace(s, ledger=replace(s.ledger, tool_calls=s.ledger.tool_calls + 1))
    return replace(s, turn=turn)


def _resolved(call: Call, e: ToolResolved) -> Call:
    if call.state != "in_doubt":
        return call
    match e.outcome:
        case "happened":
            return replace(call, state="settled", result=e.parts, error=e.error)
        case "run_again":
            return replace(call, state="rerun", reason=f"{e.by} says it did not happen")
        case "give_up":
            words = text_of(e.parts) or f"given up by {e.by}: nobody knows whether it happened"
            return replace(call, state="given_up", result=said(words), error=True)
        case _:
            assert_never(e.outcome)


def _about_doubt(s: Session, e: StepEvent) -> Session:
    """What a step says of a doubt that stands, whatever became of its call: it was settled, or asked about in vain."""
    match e:
        case ToolResolved(call=call):
            return _without_doubt(s, call)
        case ToolLost(call=call, asked=asked, retry_at=retry_at, reason=why) if asked:
            told = [replace(d, asked=asked, retry_at=retry_at, failure=why) if d.call == call else d for d in s.doubts]
            return replace(s, doubts=tuple(told))
        case _:
            return s


def _without_doubt(s: Session, call: str) -> Session:
    return replace(s, doubts=tuple(d for d in s.doubts if d.call != call))
