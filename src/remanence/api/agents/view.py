"""From the journal of a session to the events and items of the Agents API. Pure: records in, events out.

`SessionView.take` says what a record gives rise to; the same record always gives rise to the same events in the same
order, which is what makes their ids resume points (see `stream.py`). `SessionView.preview` says what is new of a model
call that still runs.

The text of a reply is an item as soon as a first piece of it streams, and is completed by the reply's record. Its id
counts the attempt of the model call, so a text that was begun and lost and the text that replaces it are two items: the
first ends as `incomplete`, the second as `completed`. A call of a tool becomes an item when it starts, not when the
model asks for it: a client must never run what nobody has allowed yet. A call of an MCP server's tool is one item,
`mcp_call`, which tells its outcome too; any other is a `function_call` with a `function_call_output`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.api.agents.config import environment_state
from remanence.api.agents.objects import (
    TurnFacts,
    arguments_of,
    input_contents,
    output_of,
    required_actions,
    session_status,
    tail_of,
    token_usage,
    turn_error,
    turn_id,
    turn_object,
)
from remanence.api.agents.pieces import ITEM_ADDED, ITEM_DONE, Event, Piece, part_kind
from remanence.api.responses.mcp import Remotes, remotes_of
from remanence.api.stream import NAMED, Place, Preview
from remanence.content import Part, Text, Thinking, text_of
from remanence.core.session import evolve
from remanence.core.state import Session
from remanence.events import (
    InputJoined,
    InputReceived,
    ModelFailed,
    ModelReplied,
    QuestionAsked,
    Recorded,
    SessionDeleted,
    SessionForked,
    SessionOpened,
    TimerSet,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import DeltaKind
from remanence.spec import AgentSpec

__all__ = ["Live", "OpenTurn", "SessionView", "Taken", "removed"]


_NOWHERE = Place(0, 0)


class Live(msgspec.Struct):
    """What a reader was sent of a running model call: characters of each of its thoughts and texts."""

    call: str
    attempt: int
    sent: list[tuple[DeltaKind, int]]

    def place(self, settled: Place) -> Place:
        """The place of a reader who was sent this, after that settled event."""
        return Place(settled.position, settled.index, self.call, self.attempt, tuple(self.sent))


class OpenTurn(msgspec.Struct):
    """A turn as far as it has come: what is shown of it, its items by id, how many of them the agent put out."""

    facts: TurnFacts
    items: dict[str, dict[str, Any]] = {}
    outputs: int = 0
    indexes: dict[str, int] = {}
    failure: str = ""


class Taken(msgspec.Struct, frozen=True):
    """What a record gives rise to: items begun live that are lost, then its own events.

    Those come last first, each with what of the call is not closed yet. None among the events is one whose content the
    reader was sent live already; it counts all the same.
    """

    closed: list[tuple[Event, Place]]
    events: list[Event | None]


class SessionView:
    """A session as one reader has seen it. `s` is its state after the last record taken."""

    def __init__(self, s: Session) -> None:
        self.s = s
        self.turn: OpenTurn | None = None
        self.live: Live | None = None
        self._tail = tail_of(s.id)
        self._heard: dict[int, InputReceived] = {}
        self._remotes: dict[str, Remotes] = {}
        self._shown = _standing(s)

    def missing(self, r: Recorded) -> Sequence[int]:
        """Positions of inputs that this record refers to and that were not taken."""
        match r.event:
            case TurnStarted(inputs=inputs):
                return [position for position in inputs if position not in self._heard]
            case InputJoined(position=position) if position not in self._heard:
                return [position]
            case _:
                return []

    def wonders(self, r: Recorded) -> bool:
        """Whether this record is about a tool, and nothing is known of the version that brought it."""
        return isinstance(r.event, ToolStarted | ToolReturned) and self.s.version not in self._remotes

    def know(self, version: str, spec: AgentSpec) -> None:
        """Learn which version the session was pinned to, and which of its tools run on MCP servers."""
        self.s = replace(self.s, version=version)
        self._remotes[version] = remotes_of(spec.tools)

    def hear(self, r: Recorded) -> None:
        """Learn what was said in an input that lies before what was taken."""
        if isinstance(r.event, InputReceived):
            self._heard[r.position] = r.event

    def take(self, r: Recorded) -> Taken:
        """Go on by one record."""
        before, self.s = self.s, evolve(self.s, r)
        self.hear(r)
        closed: list[tuple[Event, Place]] = []
        first, last = self._session_events(r)
        own: list[Event | None] = []
        match r.event:
            case TurnStarted():
                own = self._started(r, r.event)
            case InputJoined(position=position):
                own = self._heard_items(position)
            case ModelReplied():
                own, closed = self._replied(before, r.event)
            case ModelFailed():
                closed = self._failed(before, r.event)
            case ToolStarted() | QuestionAsked() | TimerSet():
                own = self._begun(r.event.call)
            case ToolReturned():
                own = self._returned(r.event)
            case TurnEnded():
                own = self._ended(r, r.event)
            case SessionDeleted():
                own, closed = self._removed(r), self._lost([])
                last = [*self._rested(before), removed(self.s.id)]
            case _:
                pass
        return Taken(closed, [*first, *own, *last])

    # --- the session --------------------------------------------------------------------------------------------------

    def _session_events(self, r: Recorded) -> tuple[list[Event], list[Event]]:
        """Events of the session itself, before and after those of its turn."""
        if isinstance(r.event, SessionOpened | SessionForked):
            self._shown = _standing(self.s)
            return self._created(), []
        if self.s.turn is None and self.s.queue:
            return [], []  # the next turn is about to begin; nothing is at rest meanwhile
        standing = _standing(self.s)
        if standing == self._shown:
            return [], []
        changed = standing[0] != self._shown[0] or standing[0] == "requires_action"
        self._shown = standing
        if not changed:
            return [], []
        event: Event = {"type": f"agent.session.{standing[0]}", "session": self.s}
        return ([event], []) if isinstance(r.event, TurnStarted) else ([], [event])

    def _created(self) -> list[Event]:
        events: list[Event] = [{"type": "agent.session.created", "session": self.s}]
        environment = self.s.face.get("environment", {"type": "none"})
        if environment["type"] != "none":
            state = environment_state(environment)
            event = f"agent.session.environment.{state['status']}"
            events.append({"type": event, "session_id": self.s.id, "turn_id": None, "environment": state})
        return events

    # --- turns --------------------------------------------------------------------------------------------------------

    def _started(self, r: Recorded, e: TurnStarted) -> list[Event | None]:
        self.turn = OpenTurn(TurnFacts(e.turn, r.at))
        where = self._where()
        turn = turn_object(self.s, self.turn.facts)
        events: list[Event | None] = [
            {"type": f"agent.session.turn.{word}", **where, "turn": turn} for word in ("created", "in_progress")
        ]
        return [*events, *(event for position in e.inputs for event in self._heard_items(position))]

    def _heard_items(self, position: int) -> list[Event | None]:
        """The events of an input that a turn took in: one for each message."""
        heard, turn = self._heard.pop(position, None), self.turn
        if heard is None or turn is None:
            return [None]
        ends = [sum(heard.messages[: number + 1]) for number in range(len(heard.messages))] or [len(heard.parts)]
        starts = [0, *ends[:-1]]
        pieces = [heard.parts[start:end] for start, end in zip(starts, ends, strict=True)]
        return [
            self._heard_item(turn, f"u{position}" + (f"_{number}" if number else ""), parts)
            for number, parts in enumerate(pieces)
        ]

    def _heard_item(self, turn: OpenTurn, name: str, parts: tuple[Part, ...]) -> Event:
        item_id = self._id("msg", name)
        item = {
            "id": item_id,
            "type": "message",
            "role": "user",
            "status": "completed",
            "phase": None,
            "content": input_contents(parts),
            "turn_id": self._where()["turn_id"],
        }
        turn.items[item_id] = item
        return {"type": ITEM_ADDED, **self._where(), "item": item, "output_index": None}

    def _ended(self, r: Recorded, e: TurnEnded) -> list[Event | None]:
        turn, where = self.turn, self._where(e.turn)
        if turn is None:
            return []
        error = turn_error(e.reason, turn.failure) if e.status == "failed" else None
        turn.facts = replace(turn.facts, status=e.status, ended_at=r.at, error=error)
        shown = turn_object(self.s, turn.facts)
        usage = token_usage(turn.facts.usage)
        events: list[Event | None] = [
            {"type": f"agent.session.turn.{e.status}", **where, "turn": shown, "usage": usage}
        ]
        if error is not None:
            failure = {"type": "server_error", "param": None, **error}
            events.insert(0, {"type": "error", "session_id": self.s.id, "error": failure})
        return events

    def _removed(self, r: Recorded) -> list[Event | None]:
        """What a removed session ran is over for who hears it. A worker may be long in cancelling it, or gone."""
        turn, events = self.turn, list[Event | None]()
        if turn is None or self.s.turn is None:
            return []
        for item_id, index in turn.indexes.items():
            if turn.items[item_id]["status"] == "in_progress":
                item = turn.items[item_id] = {**turn.items[item_id], "status": "incomplete"}
                events.append({"type": ITEM_DONE, **self._where(), "item": item, "output_index": index})
        return [*events, *self._ended(r, TurnEnded(self.s.turn.number, "cancelled"))]

    def _rested(self, before: Session) -> list[Event]:
        """That a removed session is at rest, unless it was."""
        if before.turn is None and not before.queue:
            return []
        at_rest = replace(self.s, turn=None, queue=(), pause=None)
        return [{"type": f"agent.session.{session_status(at_rest)}", "session": at_rest}]

    # --- replies ------------------------------------------------------------------------------------------------------

    def _replied(self, before: Session, e: ModelReplied) -> tuple[list[Event | None], list[tuple[Event, Place]]]:
        turn = self.turn
        if turn is None or before.turn is None or before.turn.model is None:
            return [], []
        turn.facts = replace(turn.facts, usage=turn.facts.usage + e.usage)
        attempt = before.turn.model.attempt
        live = self._live_of(e.call, attempt)
        phase = "commentary" if self.s.turn and self.s.turn.calls else "final_answer"
        said = [part for part in e.parts if isinstance(part, Text | Thinking) and part.text]
        closed = self._lost([part_kind(part) for part in said]) if live is not None else []
        events: list[Event | None] = []
        for number, part in enumerate(said):
            kind = part_kind(part)
            piece = self._piece(kind, e.call, attempt, number)
            sent = live.sent[number] if live is not None and number < len(live.sent) else None
            events += piece.whole(part.text, sent[1] if sent is not None and sent[0] == kind else None, phase)
            turn.items[piece.id] = piece.item("completed", part.text, phase)
        turn.outputs += len(said)
        self.live = None if live is not None else self.live
        return events, closed

    def _failed(self, before: Session, e: ModelFailed) -> list[tuple[Event, Place]]:
        """The attempt that failed takes along what was begun of it; a reader may know of a later one already."""
        if self.turn is not None:
            self.turn.failure = e.kind
        if before.turn is None or before.turn.model is None:
            return []
        if self._live_of(e.call, before.turn.model.attempt) is None:
            return []
        closed = self._lost([])
        self.live = None
        return closed

    def _live_of(self, call: str, attempt: int) -> Live | None:
        """What the reader was sent of this attempt, if anything."""
        live = self.live
        return live if live is not None and (live.call, live.attempt) == (call, attempt) else None

    def _lost(self, kinds: Sequence[str]) -> list[tuple[Event, Place]]:
        """What was begun live and is not among what came to be: thoughts and texts of these kinds, in order."""
        live = self.live
        if live is None or self.turn is None:
            return []
        gone = [number for number, (kind, _) in enumerate(live.sent) if kinds[number : number + 1] != [kind]]
        lost: list[tuple[Event, Place]] = []
        for number in reversed(gone):
            piece = self._piece(live.sent[number][0], live.call, live.attempt, number)
            left = Place(0, 0, live.call, live.attempt, tuple(live.sent[:number]))
            lost.append((piece.lost(), left))
        return lost

    def preview(self, p: Preview | None) -> list[tuple[Event, Place]]:
        """What is new of a running call, if it is the one this view has come to; each with what was sent by then."""
        model = self.s.turn.model if self.s.turn else None
        if p is None or self.turn is None or model is None or not model.running:
            return []
        if (model.call, model.attempt) != (p.call, p.attempt):
            return []
        if self.live is None or (self.live.call, self.live.attempt) != (p.call, p.attempt):
            self.live = Live(p.call, p.attempt, [])
        live, told = self.live, list[tuple[Event, Place]]()
        for number, (kind, text) in enumerate(p.parts):
            piece = self._piece(kind, p.call, p.attempt, number)
            if number >= len(live.sent):
                live.sent.append((kind, NAMED))
                told.append((piece.named(), live.place(_NOWHERE)))
            if live.sent[number][1] == NAMED:
                live.sent[number] = (kind, 0)
                told.append((piece.begun(), live.place(_NOWHERE)))
            sent = live.sent[number][1]
            if len(text) > sent:
                live.sent[number] = (kind, len(text))
                told.append((piece.delta(text[sent:]), live.place(_NOWHERE)))
        return told

    def _piece(self, kind: str, call: str, attempt: int, number: int) -> Piece:
        rest = f"{call.rpartition('_')[2]}_{attempt}_{number}"
        item_id = self._id("msg" if kind == "text" else "rs", rest)
        return Piece(kind, item_id, self._where(), (self.turn.outputs if self.turn else 0) + number)

    # --- calls --------------------------------------------------------------------------------------------------------

    def _begun(self, call: str) -> list[Event | None]:
        """A call starts, or is asked of a person: now it is an item. Only the first start counts."""
        known, turn = self.s.call(call), self.turn
        if known is None or turn is None or self._call_item(turn, call):
            return []
        item: dict[str, Any] = {
            "name": known.name,
            "arguments": arguments_of(known.arguments),
            "status": "in_progress",
            "turn_id": self._where()["turn_id"],
        }
        remote = self._remotes.get(self.s.version, {}).get(known.name)
        if remote is None:
            item |= {"id": self._id("fc", call), "type": "function_call", "call_id": call}
        else:
            label, name = remote
            item |= {"id": self._id("mcp", call), "type": "mcp_call", "server_label": label, "name": name}
            item |= {"output": None, "error": None}
        item_id = item["id"]
        turn.items[item_id] = item
        turn.indexes[item_id] = turn.outputs
        turn.outputs += 1
        return [{"type": ITEM_ADDED, **self._where(), "item": item, "output_index": turn.indexes[item_id]}]

    def _call_item(self, turn: OpenTurn, call: str) -> str:
        """The id of the item that a call is already, in whichever version it began; else nothing."""
        return next((name for kind in ("fc", "mcp") if (name := self._id(kind, call)) in turn.items), "")

    def _returned(self, e: ToolReturned) -> list[Event | None]:
        turn = self.turn
        if self.s.call(e.call) is None or turn is None:
            return []
        events = self._begun(e.call)
        item_id = self._call_item(turn, e.call)
        item = turn.items[item_id]
        if item["status"] != "in_progress":
            return []
        status = ("failed" if e.error else "completed") if e.started else "incomplete"
        came: dict[str, Any] = {
            "status": status,
            "output": None if e.error else output_of(e.parts),
            "error": text_of(e.parts) if e.error else None,
        }
        is_mcp = item["type"] == "mcp_call"
        item = turn.items[item_id] = {**item, **came} if is_mcp else {**item, "status": status}
        events.append({"type": ITEM_DONE, **self._where(), "item": item, "output_index": turn.indexes[item_id]})
        if not is_mcp:
            output_id, kind = self._id("fco", e.call), "function_call_output"
            output = {"id": output_id, "type": kind, "call_id": e.call, **came, "turn_id": self._where()["turn_id"]}
            turn.items[output_id] = output
            events.append({"type": ITEM_ADDED, **self._where(), "item": output, "output_index": None})
        return events

    # --- ids ----------------------------------------------------------------------------------------------------------

    def _where(self, number: int | None = None) -> dict[str, str]:
        if number is None:
            number = self.turn.facts.number if self.turn else self.s.turns
        return {"session_id": self.s.id, "turn_id": turn_id(self.s.id, number)}

    def _id(self, kind: str, rest: str) -> str:
        number = self.turn.facts.number if self.turn else self.s.turns
        return f"{kind}_{self._tail}_{number}_{rest}"


def removed(session: str) -> Event:
    """The last event of a session that was removed. The wire format has no other word for it than an error."""
    words = f"Session {session} was removed, and what ran in it is cancelled. Nothing more comes; open another session."
    error = {"type": "invalid_request_error", "code": "session_deleted", "message": words, "param": None}
    return {"type": "error", "session_id": session, "error": error}


def _standing(s: Session) -> tuple[str, tuple[str, ...]]:
    """The status and what it waits for: a change of either is an event."""
    status = session_status(s)
    actions = required_actions(s) if status == "requires_action" else []
    return status, tuple(action.get("request_id") or action.get("call_id", "") for action in actions)
