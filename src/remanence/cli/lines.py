"""A journal record in one line: `#12   09:31:02  ToolStarted      refund(order="42")  key=sess_1:1:call_1_1_1`.

Outcomes name a call only by its id, so `Lines` remembers what the reply that asked for it said.
"""

from __future__ import annotations

import json
from typing import assert_never

from remanence.cli.output import clean, clock_time, moment, shortened, usd
from remanence.content import Part, Text, ToolCall, Usage
from remanence.core.builtins import parse_question
from remanence.core.state import Call
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
    Event,
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
    kind_of,
)

__all__ = ["Lines", "call_words", "parts_words", "question_words"]

_VALUE_LENGTH = 40
_KIND_WIDTH = max(len(kind) for kind in ("ContextCompacted", "SessionUpgraded", "ApprovalExpired"))


class Lines:
    """Turns the records of one session, in order, into lines."""

    def __init__(self, calls: tuple[Call, ...] = ()) -> None:
        self._calls = {call.call: (call.name, call.arguments) for call in calls}

    def line(self, record: Recorded) -> str:
        """The record in one line. Never longer than a screen is wide twice over; `--raw` shows everything."""
        event = record.event
        if isinstance(event, ModelReplied):
            self._calls |= {part.call: (part.name, part.arguments) for part in _calls_in(event)}
        said = "(erased)" if record.redacted else self.words(event)
        kind = kind_of(event).ljust(_KIND_WIDTH)
        return f"#{record.position:<4} {clock_time(record.at)}  {kind}  {said}".rstrip()

    def call(self, call: str) -> str:
        """A call by its id, as it was asked for."""
        known = self._calls.get(call)
        return call_words(*known) if known else call

    def words(self, event: Event) -> str:
        """What an event says, in a few words."""
        match event:
            case SessionOpened() | SessionForked() | SessionUpgraded() | SessionFrozen() | SessionThawed():
                return _session_words(event)
            case SessionAnnotated(metadata=metadata):
                return shortened(", ".join(f"{name}={value}" for name, value in metadata.items()), 120)
            case SessionDeleted(by=by, reason=reason):
                return shortened(_by(by, reason), 120)
            case TurnEnded(turn=turn, status=status):
                return f"turn {turn} {status}{self.ending(event)}"
            case InputReceived() | TurnStarted() | InputJoined() | CancelAsked():
                return _turn_words(event)
            case ModelCalled() | ModelReplied() | ModelFailed():
                return self._model_words(event)
            case MemoryRecalled() | BlocksShown() | CompactionBegun() | CompactionFailed() | ContextCompacted():
                return _window_words(event)
            case BudgetReached() | BudgetRaised() | MemoryKept() | MemoryForgotten() | Redacted():
                return _side_words(event)
            case _:
                return f"{self.call(event.call)}{_call_words_of(event)}"

    def ending(self, event: TurnEnded, length: int = 120) -> str:
        """Why a turn ended, in so many characters, and what it leaves behind in the world when it was cut short."""
        said = f": {shortened(event.reason, length)}" if event.reason else ""
        if event.happened and event.status != "completed":
            said += f"; already happened: {', '.join(self.call(key.rpartition(':')[2]) for key in event.happened)}"
        return said + (f"; {len(event.in_doubt)} in doubt" if event.in_doubt else "")

    def _model_words(self, event: ModelCalled | ModelReplied | ModelFailed) -> str:
        match event:
            case ModelCalled(model=model, attempt=attempt):
                return model if attempt == 1 else f"{model}, attempt {attempt}"
            case ModelReplied():
                calls = ", ".join(call_words(part.name, part.arguments) for part in _calls_in(event))
                said = _quoted(event.parts)
                cost = "no price" if event.cost_usd_micros is None else usd(event.cost_usd_micros)
                tokens = _tokens(event.usage)
                return "  ".join(piece for piece in (said, calls, f"[{tokens}, {cost}]") if piece)
            case ModelFailed(kind=kind, message=message, retry_at=retry_at):
                again = "" if retry_at is None else f"; again at {clock_time(retry_at)}"
                return f"{kind}: {shortened(message, 120)}{again}"
            case _:
                assert_never(event)


def call_words(name: str, arguments: str) -> str:
    """A call as it would be written: `refund(order="42", cents=900)`. Long values are cut."""
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        return f"{clean(name)}({shortened(arguments, _VALUE_LENGTH)})"
    pairs = [f"{clean(str(key))}={_value(value)}" for key, value in given.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return f"{clean(name)}({', '.join(pairs)})"


def question_words(name: str, arguments: str) -> str:
    """A question of the agent as it asks it, with the answers it offers."""
    try:
        question, options = parse_question(arguments)
    except ValueError:
        return call_words(name, arguments)
    return clean(question) + (f" [{clean(' | '.join(options))}]" if options else "")


def _value(value: object) -> str:
    text = shortened(json.dumps(value, ensure_ascii=False), _VALUE_LENGTH)
    return f'{text}"' if text.endswith("…") and text.startswith('"') else text


def parts_words(parts: tuple[Part, ...], length: int = 80) -> str:
    """What parts say, on one line; what is not text is named."""
    words = [part.text if isinstance(part, Text) else f"[{type(part).__name__.lower()}]" for part in parts]
    return shortened(" ".join(words), length)


def _quoted(parts: tuple[Part, ...]) -> str:
    said = parts_words(tuple(part for part in parts if not isinstance(part, ToolCall)))
    return f'"{said}"' if said else ""


def _calls_in(event: ModelReplied) -> list[ToolCall]:
    return [part for part in event.parts if isinstance(part, ToolCall)]


def _tokens(usage: Usage) -> str:
    return f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"


def _session_words(
    event: SessionOpened | SessionForked | SessionUpgraded | SessionFrozen | SessionThawed,
) -> str:
    match event:
        case SessionOpened(agent=agent, version=version, user=user, title=title):
            said = f"{agent}@{version[:12]}" + (f" for {user}" if user else "") + (f": {title}" if title else "")
        case SessionForked(source=source, position=position):
            said = f"from {source}#{position}"
        case SessionUpgraded(version=version, by=by):
            said = f"to {version[:12]}" + (f" by {by}" if by else "")
        case SessionFrozen(by=by, reason=reason) | SessionThawed(by=by, reason=reason):
            said = _by(by, reason)
        case _:
            assert_never(event)
    return shortened(said, 120)


def _turn_words(event: InputReceived | TurnStarted | InputJoined | CancelAsked) -> str:
    match event:
        case InputReceived(parts=parts, user=user, if_busy=if_busy, answers=answers):
            marks = "" if if_busy == "queue" else f"  ({if_busy})"
            marks += f"  (answers {answers})" if answers else ""
            return f"{shortened(user, 30)}: {_quoted(parts)}{marks}"
        case TurnStarted(turn=turn, inputs=inputs):
            return f"turn {turn}, input {', '.join(f'#{position}' for position in inputs)}"
        case InputJoined(turn=turn, position=position):
            return f"input #{position} joins turn {turn}"
        case CancelAsked(by=by, reason=reason):
            return shortened(_by(by, reason))
        case _:
            assert_never(event)


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


def _call_words_of(event: CallEvent) -> str:
    match event:
        case CallJudged(verdict=verdict, rule=rule):
            return f"  {verdict}{_after(rule)}"
        case ApprovalGiven(decision=decision, by=by, note=note):
            words = "approved" if decision == "approve" else "denied"
            return f"  {words} by {shortened(by, 40)}{_after(note)}"
        case ApprovalExpired():
            return "  the time for it ran out"
        case QuestionAsked(question=question, options=options):
            return f'  "{shortened(question)}"' + (f" [{shortened(' | '.join(options))}]" if options else "")
        case ToolStarted(effect_key=key, attempt=attempt, client=client):
            return f"  key={key}" + (f" attempt={attempt}" if attempt > 1 else "") + (" (the client)" if client else "")
        case ToolReturned(parts=parts, error=error, size=size):
            cut = f" (cut, {size:,} bytes)" if size is not None else ""
            return f"  {'failed: ' if error else '-> '}{parts_words(parts)}{cut}"
        case ToolLost(effect_key=key, reason=reason, asked=asked, retry_at=retry_at) if asked:
            again = f", again at {moment(retry_at)}" if retry_at is not None else ", not any more"
            return f"  STILL IN DOUBT: {shortened(reason)}{again}  key={key}"
        case ToolLost(effect_key=key, reason=reason):
            return f"  IN DOUBT{_after(reason)}  key={key}"
        case ToolResolved(outcome=outcome, by=by, parts=parts, note=note):
            said = parts_words(parts) or shortened(note)
            return f"  {outcome.replace('_', ' ')}, says {shortened(by, 40)}{_after(said)}"
        case TimerSet(due_at=due_at):
            return f"  until {moment(due_at)}"
        case TimerFired():
            return "  the time has come"
        case _:
            assert_never(event)


def _side_words(
    event: BudgetReached | BudgetRaised | MemoryKept | MemoryForgotten | Redacted,
) -> str:
    match event:
        case BudgetReached(scope=scope, reason=reason) if reason:
            return f"{scope}: {shortened(reason, 160)}"
        case BudgetReached(scope=scope, unit=unit, limit=limit, used=used, needed=needed):
            return f"{scope}: {_amount(used, unit)} of {_amount(limit, unit)} used, {_amount(needed, unit)} needed"
        case BudgetRaised(scope=scope, unit=unit, limit=limit, by=by):
            return f"{scope}: {_amount(limit, unit)} now, by {by}"
        case MemoryKept(store=store, text=text):
            return f'{store}: "{shortened(text)}"'
        case MemoryForgotten(store=store, memory=memory, by=by, reason=reason):
            return f"{store}: {memory}, {_by(by, reason)}"
        case Redacted(position=position, by=by, reason=reason):
            return f"#{position} erased, {_by(by, reason)}"
        case _:
            assert_never(event)


def _window_words(
    event: MemoryRecalled | BlocksShown | CompactionBegun | CompactionFailed | ContextCompacted,
) -> str:
    match event:
        case MemoryRecalled(items=items, note=note):
            found = "; ".join(f"{item.memory} because {', '.join(item.why) or 'it fits'}" for item in items)
            return shortened(f"recalled: {found}" if items else f"nothing{_after(note)}", 200)
        case BlocksShown(items=items):
            return f"blocks: {', '.join(item.memory for item in items) or 'none'}"
        case CompactionBegun(through_turn=turn, model=model):
            return f"turns 1 to {turn}, by {model}"
        case CompactionFailed(kind=kind, message=message):
            return f"{kind}{_after(message)}"
        case ContextCompacted(through_turn=turn, summary=summary):
            return f"turns 1 to {turn}: {_quoted(summary)}"
        case _:
            assert_never(event)


def _amount(amount: int, unit: str) -> str:
    return usd(amount) if unit == "usd_micros" else f"{amount:,} tokens"


def _by(by: str, reason: str) -> str:
    return f"by {by}{_after(reason)}"


def _after(words: str) -> str:
    return f": {shortened(words, 120)}" if words else ""
