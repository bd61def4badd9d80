"""A journal as the rows of a timeline: what was said, the steps of each turn, and what came between.

A **step** is one row, whatever number of records it took: a model call from its intent over its retries to its reply, a
tool call from its judgement over approvals and attempts to its result. So that a row can be found by any of its
records, it keeps all their positions. The fold is incremental: `take` returns the rows that a record made or changed,
which is what a live page has to draw again.

**Crash and resume.** A turn whose records come under a higher epoch than those before was taken up by another lease.
If a call was on its way just then, somebody died: the row says `crashed`. If nothing was, it had waited: `resumed`.

The fold may begin anywhere: an outcome whose intent lies before becomes a row that says only how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from remanence.content import Part, Text, Thinking, ToolCall, Usage, text_of
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
    Recalled,
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

__all__ = ["Mark", "Row", "Timeline", "preview"]

RowKind = Literal["turn", "input", "model", "tool", "note", "break"]
State = Literal["", "running", "waiting", "ok", "failed", "denied", "in_doubt", "cancelled", "lost", "retrying"]

_ENDS: dict[str, State] = {"completed": "ok", "failed": "failed", "cancelled": "cancelled"}
_VERDICTS: dict[str, State] = {"allow": "", "ask": "waiting", "deny": "denied"}

PREVIEW = 240
_REDRAWN_MAX = 200


class Mark(msgspec.Struct, frozen=True):
    """One thing that happened to a step: a judgement, an approval, an attempt. `word` names it, `by` is who did it."""

    position: int
    at: int
    word: str
    by: str = ""
    text: str = ""


class Row(msgspec.Struct):
    """One row. `at` and `ended_at` are microseconds; `waits` are the stretches of it that were spent waiting."""

    position: int
    kind: RowKind
    turn: int
    at: int
    actor: str
    word: str = ""
    """What it is: the kind of event of a note, the status of a turn."""
    state: State = ""
    name: str = ""
    """The model, the tool, whoever spoke."""
    text: str = ""
    call: str = ""
    ended_at: int | None = None
    attempts: int = 0
    needed: int = 1
    """How many different people have to say yes."""
    usage: Usage | None = None
    usd_micros: int | None = None
    unpriced: bool = False
    marks: list[Mark] = []
    waits: list[tuple[int, int | None]] = []
    positions: list[int] = []
    redacted: bool = False

    @property
    def anchor(self) -> str:
        """Its id in a page."""
        return f"e{self.position}"


class Timeline:
    """Folds records into rows."""

    def __init__(self, records: Iterable[Recorded] = ()) -> None:
        self.rows: list[Row] = []
        self.turn: Row | None = None
        self._models: dict[str, Row] = {}
        self._tools: dict[str, Row] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._epoch = 0
        for record in records:
            self.take(record)

    def take(self, record: Recorded) -> list[Row]:
        """Fold one record in. Returns the rows that are to be drawn: those that appeared and those that changed."""
        changed = self._break(record)
        changed += self._step(record)
        return changed

    def turn_rows(self, turn: int) -> list[Row]:
        """The rows of a turn, its own first."""
        return [row for row in self.rows if row.turn == turn]

    def find(self, position: int) -> Row | None:
        """The row that a record belongs to."""
        return next((row for row in self.rows if position in row.positions), None)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _new(self, record: Recorded, kind: RowKind, **fields: object) -> Row:
        turn = self.turn.turn if self.turn is not None and self.turn.ended_at is None else 0
        row = Row(
            record.position,
            kind,
            turn,
            record.at,
            record.actor,
            positions=[record.position],
            marks=[],
            waits=[],
            redacted=record.redacted,
        )
        for name, value in fields.items():
            setattr(row, name, value)
        self.rows.append(row)
        return row

    def _note(self, record: Recorded, *, text: str = "", name: str = "") -> list[Row]:
        return [self._new(record, "note", word=kind_of(record.event), text=text, name=name)]

    def _break(self, record: Recorded) -> list[Row]:
        """The mark of a lease that was taken up by another, if this record shows it."""
        before, self._epoch = self._epoch, record.epoch or self._epoch
        inside = self.turn is not None and self.turn.ended_at is None
        if not record.epoch or not before or before == record.epoch or not inside or record.epoch < before:
            return []
        cut = [row for row in (*self._models.values(), *self._tools.values()) if row.state == "running"]
        row = self._new(record, "break", word="crashed" if cut else "resumed", ended_at=record.at)
        row.position, row.positions = -record.position, []
        row.at = max((r.at for r in cut), default=record.at)
        row.attempts = record.epoch
        row.name, row.text = ", ".join(r.name for r in cut), cut[0].kind if cut else ""
        return [row]

    # --- records ------------------------------------------------------------------------------------------------------

    def _step(self, record: Recorded) -> list[Row]:
        match record.event:
            case InputReceived() | InputJoined() | TurnStarted() | TurnEnded() | CancelAsked():
                return self._turn(record)
            case ModelCalled() | ModelReplied() | ModelFailed():
                return self._model(record)
            case CompactionBegun() | CompactionFailed() | ContextCompacted():
                return self._compaction(record)
            case CallJudged() | ApprovalGiven() | ApprovalExpired() | QuestionAsked() | TimerSet() | TimerFired():
                return self._waited(record)
            case ToolStarted() | ToolReturned() | ToolLost() | ToolResolved():
                return self._tool(record)
            case _:
                return self._between(record)

    def _turn(self, record: Recorded) -> list[Row]:
        match record.event:
            case InputReceived(parts=parts, user=user, if_busy=if_busy, answers=answers):
                row = self._new(record, "input", name=user or record.actor, text=preview(parts), word=if_busy)
                row.turn = 0
                return [row, *self._answered(record, answers)]
            case TurnStarted(turn=turn):
                self.turn = self._new(record, "turn", word="in_progress", state="running", turn=turn)
                return [self.turn]
            case TurnEnded(turn=turn, status=status, reason=reason):
                head = self.turn
                if head is None or head.turn != turn:
                    head = self.turn = self._new(record, "turn", turn=turn)
                head.word, head.text, head.ended_at = status, reason, record.at
                head.state = _ENDS[status]
                head.positions.append(record.position)
                return self.turn_rows(turn)[:_REDRAWN_MAX]
            case InputJoined(position=position):
                return self._note(record, text=str(position))
            case CancelAsked(by=by, reason=reason):
                return self._note(record, name=by, text=reason)
            case _:
                raise AssertionError(kind_of(record.event))

    def _answered(self, record: Recorded, call: str | None) -> list[Row]:
        row = self._tools.get(call or "")
        if row is None:
            return []
        self._mark(row, record, "answered", by=record.actor)
        self._go_on(row, record.at)
        return [row]

    def _model(self, record: Recorded) -> list[Row]:
        event = record.event
        assert isinstance(event, ModelCalled | ModelReplied | ModelFailed)
        row = self._models.get(event.call)
        if row is None:
            row = self._models[event.call] = self._new(record, "model", call=event.call)
        elif record.position not in row.positions:
            row.positions.append(record.position)
        match event:
            case ModelCalled(model=model, attempt=attempt):
                row.name, row.state, row.attempts, row.ended_at = model, "running", attempt, None
                self._go_on(row, record.at)
            case ModelReplied(parts=parts, usage=usage, cost_usd_micros=cost, model=model):
                row.name, row.state, row.ended_at = row.name or model, "ok", record.at
                row.text, row.usage, row.redacted = preview(parts), usage, record.redacted
                self._cost(row, cost, unpriced=cost is None)
                self._names |= {part.call: (part.name, part.arguments) for part in parts if isinstance(part, ToolCall)}
            case ModelFailed(kind=kind, message=message, retry_at=retry_at, cost_usd_micros=cost):
                row.state = "retrying" if retry_at is not None else "cancelled" if kind == "cancelled" else "failed"
                row.ended_at = record.at
                lost = kind == "lost"
                self._mark(row, record, "lost" if lost else "failed", text=message, by="" if lost else kind)
                self._cost(row, cost)
                if retry_at is not None:
                    row.waits.append((record.at, None))
        return [row, *self._head()]

    def _compaction(self, record: Recorded) -> list[Row]:
        """A model call that summarises; without a call the summary was drawn by rule, and is a note."""
        event = record.event
        assert isinstance(event, CompactionBegun | CompactionFailed | ContextCompacted)
        if not event.call:
            return self._note(record, text=preview(event.summary) if isinstance(event, ContextCompacted) else "")
        row = self._models.get(event.call)
        if row is None:
            row = self._models[event.call] = self._new(record, "model", call=event.call)
        elif record.position not in row.positions:
            row.positions.append(record.position)
        row.word, row.name = "compaction", event.model or row.name
        if isinstance(event, CompactionBegun):
            row.state, row.attempts, row.ended_at = "running", event.attempt, None
            return [row]
        row.ended_at, row.usage = record.at, event.usage
        if isinstance(event, ContextCompacted):
            row.state, row.text, row.redacted = "ok", preview(event.summary), record.redacted
        else:
            row.state = "failed"
            self._mark(row, record, "lost" if event.kind == "lost" else "failed", text=event.message)
        self._cost(row, event.cost_usd_micros, unpriced=event.cost_usd_micros is None and row.state == "ok")
        return [row, *self._head()]

    def _waited(self, record: Recorded) -> list[Row]:
        event = record.event
        row = self._call(record)
        match event:
            case CallJudged(verdict=verdict, rule=rule, approvers=approvers, needed=needed):
                row.needed = needed
                self._mark(row, record, f"judged_{verdict}", text=rule, by=", ".join(approvers))
                row.state = _VERDICTS[verdict]
                if verdict == "ask":
                    row.waits.append((record.at, None))
            case ApprovalGiven(decision=decision, by=by, note=note):
                self._mark(row, record, decision, by=by, text=note)
                if decision == "deny" or sum(mark.word == "approve" for mark in row.marks) >= row.needed:
                    self._go_on(row, record.at)
                row.state = "denied" if decision == "deny" else row.state
            case ApprovalExpired():
                self._mark(row, record, "expired")
                self._go_on(row, record.at)
            case QuestionAsked(question=question):
                row.text, row.state = question, "waiting"
                row.waits.append((record.at, None))
            case TimerSet(due_at=due_at):
                row.state = "waiting"
                self._mark(row, record, "sleeps", text=str(due_at))
                row.waits.append((record.at, None))
            case TimerFired():
                self._go_on(row, record.at)
                self._mark(row, record, "woke")
            case _:
                raise AssertionError(kind_of(event))
        return [row]

    def _tool(self, record: Recorded) -> list[Row]:
        row = self._call(record)
        match record.event:
            case ToolStarted(tool=tool, attempt=attempt, replay=replay):
                row.name, row.state, row.attempts = tool, "running", attempt
                self._go_on(row, record.at)
                self._mark(row, record, "started", text=replay)
            case ToolReturned(error=error, started=started):
                if not started:
                    row.state = "denied" if row.state in ("denied", "waiting") else "cancelled"
                else:
                    row.state = "failed" if error else "ok"
                row.ended_at, row.redacted = record.at, record.redacted
                self._go_on(row, record.at)
                self._mark(row, record, "returned")
            case ToolLost(reason=reason, asked=asked) if asked:
                self._mark(row, record, "in_doubt", text=reason)
            case ToolLost(reason=reason):
                row.state = "in_doubt"
                row.waits.append((record.at, None))
                self._mark(row, record, "in_doubt", text=reason)
            case ToolResolved(outcome=outcome, by=by, note=note):
                self._go_on(row, record.at)
                self._mark(row, record, outcome, by=by, text=note)
            case _:
                raise AssertionError(kind_of(record.event))
        return [row]

    def _between(self, record: Recorded) -> list[Row]:
        match record.event:
            case SessionOpened(agent=agent, version=version):
                return self._note(record, name=agent, text=version)
            case SessionForked(source=source, position=position):
                return self._note(record, name=source, text=str(position))
            case SessionUpgraded(version=version):
                return self._note(record, text=version)
            case SessionFrozen(by=by, reason=reason) | SessionThawed(by=by, reason=reason):
                return self._note(record, name=by, text=reason)
            case SessionDeleted(by=by, reason=reason):
                return self._note(record, name=by, text=reason)
            case SessionAnnotated(by=by):
                return self._note(record, name=by)
            case MemoryRecalled(items=items, note=note) if items or note:
                return self._note(record, name=str(len(items)), text=note or "; ".join(_whys(items)))
            case BlocksShown(items=items):
                return self._note(record, text=", ".join(item.memory for item in items))
            case MemoryKept(text=text, store=store):
                return self._note(record, name=store, text=text)
            case MemoryForgotten(reason=reason, store=store):
                return self._note(record, name=store, text=reason)
            case BudgetReached(scope=scope) | BudgetRaised(scope=scope):
                return self._note(record, name=scope)
            case Redacted(position=position, by=by):
                return self._note(record, name=by, text=str(position))
            case _:
                return self._note(record)

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _call(self, record: Recorded) -> Row:
        """The row of a tool call; every event of one has its `call`."""
        call: str = getattr(record.event, "call", "")
        row = self._tools.get(call)
        if row is None:
            name, arguments = self._names.pop(call, ("", ""))
            row = self._tools[call] = self._new(record, "tool", call=call, name=name, text=arguments[:PREVIEW])
        elif record.position not in row.positions:
            row.positions.append(record.position)
        row.name = row.name or getattr(record.event, "tool", "")
        return row

    def _mark(self, row: Row, record: Recorded, word: str, *, by: str = "", text: str = "") -> None:
        row.marks.append(Mark(record.position, record.at, word, by, text))
        if record.position not in row.positions:
            row.positions.append(record.position)

    def _go_on(self, row: Row, at: int) -> None:
        """Waiting is over."""
        row.waits = [(since, at if until is None else until) for since, until in row.waits]
        if row.state == "waiting":
            row.state = ""

    def _cost(self, row: Row, cost: int | None, *, unpriced: bool = False) -> None:
        if cost is not None:
            row.usd_micros = (row.usd_micros or 0) + cost
            if self.turn is not None and self.turn.ended_at is None:
                self.turn.usd_micros = (self.turn.usd_micros or 0) + cost
        row.unpriced = row.unpriced or unpriced
        if row.usage is not None and row.state == "ok" and self.turn is not None and self.turn.ended_at is None:
            self.turn.usage = (self.turn.usage or Usage()) + row.usage

    def _head(self) -> Sequence[Row]:
        return [self.turn] if self.turn is not None else []


def _whys(items: Sequence[Recalled]) -> list[str]:
    """Why memories came to mind, each reason once."""
    return list(dict.fromkeys(why for item in items for why in item.why))


def preview(parts: tuple[Part, ...]) -> str:
    """The first words of what was said; for a reply that only thinks or calls, its thoughts or the names it calls."""
    text = text_of(parts)
    if not text:
        text = " ".join(part.text for part in parts if isinstance(part, Thinking))
    if not text:
        text = ", ".join(part.name for part in parts if isinstance(part, ToolCall))
    if not text and parts and not isinstance(parts[0], Text):
        text = f"[{type(parts[0]).__name__.lower()}]"
    return " ".join(text[: 2 * PREVIEW].split())[:PREVIEW]
