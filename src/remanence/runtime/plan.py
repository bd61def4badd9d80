"""One round of the loop as a value: what to journal, what to dispatch once that is durable, and how to rest after it.

`make_plan` folds the facts that effects reported, then asks `core.decide` until it rests or an intent must leave. It
works on provisional records (the positions the write will have if nobody was faster), so the round is one conditional
transaction and a turn with one tool call is four of them after its input.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from msgspec.structs import replace

from remanence.content import Usage
from remanence.core.context import LAYOUT, Transcript, cut_summary, fit, instructions_of, offered, prompt_of
from remanence.core.decide import CallModel, Note, Recall, Rest, RunTool, decide
from remanence.core.state import ModelStep, Session, Window, effect_key
from remanence.events import BlocksShown, ModelCalled, ToolStarted
from remanence.runtime.compacting import begin_compaction, take_summary
from remanence.runtime.rounds import Dispatch, Ground, Outcome, Plan, Round, still_wanted, worst_price
from remanence.spec import AgentSpec

__all__ = ["Dispatch", "Ground", "Outcome", "Plan", "again", "make_plan", "still_wanted", "undispatched"]


def make_plan(s: Session, facts: tuple[Outcome, ...], ground: Ground, *, now: int) -> Plan:
    """The next round. `facts` are outcomes to journal first.

    The ground's transcript takes the provisional records in; when the write is refused, it must be built again.
    """
    lease = ground.lease
    round_ = Round(s, ground.text, lease, now)
    for fact in facts:
        if still_wanted(round_.state, fact):
            for event in (fact.event, *fact.beside):
                round_.take(event)
    summarised = ground.summary is not None and take_summary(round_, ground.summary)
    while True:
        spec = offered(round_.text, round_.state, ground.spec)
        action = decide(round_.state, spec, now=now, epoch=lease.epoch)
        match action:
            case Note(event=event):
                round_.take(event)
            case Rest():
                rest = action
                break
            case CallModel() | RunTool() | Recall() if not ground.may_start:
                rest = Rest("held")
                break
            case Recall():
                rest = Rest("recall")
                break
            case CallModel():
                _call_model(round_, ground, action)
            case RunTool(event=event, arguments=arguments):
                round_.take(event)
                if not event.client:
                    round_.dispatches.append(Dispatch(event, arguments=arguments))
            case _:
                assert_never(action)
    if ground.may_start and ground.may_compact:
        begin_compaction(round_, ground)
    return Plan(
        round_.state,
        tuple(round_.events),
        tuple(round_.charges),
        tuple(round_.dispatches),
        rest,
        len(facts),
        summarised,
        round_.unpriced,
    )


def _call_model(round_: Round, ground: Ground, action: CallModel) -> None:
    spec, model = ground.spec, ground.model
    if ground.blocks is not None and ground.blocks != round_.state.blocks:
        round_.take(BlocksShown(ground.blocks))
    s = round_.state
    spec = offered(round_.text, s, spec, s.window)
    window = fit(round_.text, s, spec)
    moved = (window.first_turn, window.skipped) != (s.window.first_turn, s.window.skipped)
    leaving = cut_summary(round_.text, s, spec, window) if moved else None
    if leaving is not None:
        round_.take(leaving)
        s, window = round_.state, fit(round_.text, round_.state, spec)
    spec = offered(round_.text, s, ground.spec, window)
    prompt = prompt_of(round_.text, s, spec, window)
    worst = Usage(prompt.input_tokens_bound, spec.limits.output_tokens)
    price = worst_price(model, spec.model, worst, spec.settings.service_tier or "")
    round_.unpriced |= price is None
    called = _called(s, spec, ModelStep(action.call, action.attempt, 0, 0), prompt.window, prompt.sent)
    called = replace(
        called, reserved_usd_micros=price or 0, reserved_tokens=worst.total_tokens, opens=spec is not ground.spec
    )
    round_.take(called)
    dispatch = Dispatch(called, messages=prompt.messages, instructions=prompt.instructions, spec=spec)
    round_.dispatches.append(dispatch)


def _called(s: Session, spec: AgentSpec, step: ModelStep, window: Window, sent: str) -> ModelCalled:
    return ModelCalled(
        step.call,
        s.turns,
        spec.model,
        window.first_turn,
        window.from_position,
        sent,
        window.skipped,
        step.attempt,
        step.reserved_usd_micros,
        step.reserved_tokens,
        layout=LAYOUT,
        cleared=window.cleared,
        compacted_at=s.compacted_at,
        shown_at=s.shown_at,
    )


def undispatched(s: Session, spec: AgentSpec, text: Transcript, epoch: int, known: Collection[str]) -> list[Dispatch]:
    """The intents of this epoch that nobody performs: their calls are not `known`. `spec` is what `again` asks for."""
    turn = s.turn
    if turn is None:
        return []
    found: list[Dispatch] = []
    step = turn.model
    if step is not None and step.running and step.epoch == epoch and step.call not in known:
        found.append(again(s, spec, text, step))
    for call in turn.calls:
        if call.state == "running" and call.epoch == epoch and call.call not in known:
            started = ToolStarted(call.call, call.name, effect_key(s, call.call), call.replay, call.attempt)
            found.append(Dispatch(started, arguments=call.arguments))
    return found


def again(s: Session, spec: AgentSpec, text: Transcript, step: ModelStep) -> Dispatch:
    """The dispatch of a model call whose intent is in the journal already: the same window, the same reservation.

    `spec` is the version that was pinned when the intent was written (`step.version`): what its digest covers.
    """
    content = text.messages(s.window)
    pinned, spec = spec, offered(text, s, spec)
    called = _called(s, spec, step, s.window, text.sent_digest(spec, content.digest))
    called = replace(called, opens=spec is not pinned)
    return Dispatch(called, messages=content.messages, instructions=instructions_of(text, spec), spec=spec)
