"""One response as a projection of the journal: what it came to so far, and the events of its stream.

A response begins at the position of its input and is the rest of the turn that hears it, up to where the client has
something to do: the end of the turn, or a reply whose open calls are all the client's. A turn that goes on with their
outputs goes on as the next response.

**Sequence numbers** are places, not counts. Each event has the number that follows from where it stands in the journal,
and a delta has the number of its last character, so that a stream can be cut anywhere and resumed after the last number
seen, in another process, after a restart, with nothing kept: what is settled is told again from there, the rest of a
half-told text included. They rise strictly, with gaps.

    0 created, 1 queued, 2 in_progress, 3 and on: what MCP servers offer
    k << 32                              the k-th attempt at a call (from 1): slots of 2^24 for what its reply says
        + place << 24  + 0 item added, + 1 part added, + 2 + n the delta that ends at character n
        + 1 << 31  + offset << 10 + j    what the record `offset` places after the input settled

What streams is a preview: what a running call says. When it fails in mid-stream and is tried again, the items it had
begun end as `incomplete`, and what the next attempt says comes under ids of its own. So for every item that is done,
its deltas put together are what was journaled. A call of a tool that the server runs is told when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from remanence.api.responses.items import (
    Item,
    Shown,
    added,
    approval_item,
    call_item,
    label_of,
    open_call,
    reply_items,
    result_item,
    said_item,
    settle_server_call,
    text_of_item,
    text_part,
    unfinished,
)
from remanence.api.responses.waits import OF_SESSION, Waits
from remanence.api.stream import Preview
from remanence.content import Text, Thinking, ToolCall, Usage
from remanence.events import (
    CallJudged,
    InputJoined,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recorded,
    SessionDeleted,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)

__all__ = ["Fold", "Pending", "WireEvent"]

WireEvent = dict[str, Any]
CALL = 1 << 32
PART = 1 << 24
SETTLED = 1 << 31
RECORD = 1 << 10
PLACES_MAX = 128


class Slot:
    """What a reply says at one place, on the wire. `told` is what was sent of it."""

    def __init__(self, place: int, output_index: int, item: Item) -> None:
        self.place = place
        self.output_index = output_index
        self.item = item
        self.told = ""


class Pending(msgspec.Struct, frozen=True):
    """A call of an earlier response that this one goes on with. `asks`: it still waits for a yes; `asked`: it did."""

    call: ToolCall
    asks: bool = False
    asked: bool = False
    client: bool = False


class Fold:
    """Takes records (and deltas) in order; `events` gathers what a stream says, after the number `after`.

    `start` and `inputs` are the position of the first record of the input and how many it has; `turn` is the open turn
    the input belongs to, when it did not begin one.
    """

    def __init__(self, shown: Shown, start: int, inputs: int, *, turn: int | None = None, after: int = -1) -> None:
        self.shown = shown
        self.background = False
        self.status = "queued"
        self.items: list[Item] = []
        self.usage = Usage()
        self.tier = ""
        """The service tier of the last reply, as its provider says."""
        self.replied = False
        self.reason = ""
        self.stop = ""
        self.failure = ""
        self.failure_kind = ""
        self.ended_at: int | None = None
        self.end = 0
        """The position of the record that ended it; 0 while it has not ended."""
        self.reply: ModelReplied | None = None
        self.reply_at = 0
        self.turn = turn
        self.waits = Waits()
        self.events: list[WireEvent] = []
        self.snapshot: Callable[[], dict[str, Any]] = dict
        self._start, self._input_end = start, start + inputs - 1
        self._after = after
        self._calls = 0
        self._call: str = ""
        self._attempt = 1
        self._failed = False
        self._void = 0
        """How many items were begun and will never be done: their attempt failed."""
        self._slots: dict[int, Slot] = {}
        self._open: dict[str, Item] = {}
        self._with_client: set[str] = set()
        self.asks_here = False
        """Approvals are the client's to give: it ends where one is needed, like where the client has a call."""
        self.offers: list[Item] = []
        self._asked: set[str] = set()
        self._held: dict[str, Item] = {}
        """Calls of the server's that nobody has judged yet."""
        self._position = start
        self._told = 0
        if turn is not None:
            self.status = "in_progress"

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return self.end > 0

    @property
    def number_max(self) -> int:
        """The highest number that an event of it had (when it is done), or can have had so far. For a fold that tells
        everything."""
        return self._after if self.done else (self._calls + 1) * CALL - 1

    @property
    def with_client(self) -> set[str]:
        """The calls it was handed over with: what the client has to answer for the turn to go on."""
        return self._with_client & set(self._open) if self.done and self.status == "completed" else set()

    def take_up(self, pending: Iterable[Pending]) -> None:
        """Go on with calls of an earlier response."""
        for one in pending:
            call, item = one.call.call, open_call(self.shown, one.call, asked=one.asked)
            self._open[call] = item
            if one.client:
                self._with_client.add(call)
            elif one.asks:
                self._asked.add(call)
            else:
                self._held[call] = item

    def take_events(self) -> list[WireEvent]:
        """The events gathered since the last call."""
        made, self.events = self.events, []
        return made

    def begin(self) -> None:
        """Tell that it was created."""
        self._tell(0, "response.created", response=self.snapshot())
        if self.background:
            self._tell(1, "response.queued", response=self.snapshot())
        if self.turn is not None:
            self._begun()

    def _begun(self) -> None:
        """Tell that it is being answered, and what the MCP servers offer that it was given."""
        self._tell(2, "response.in_progress", response=self.snapshot())
        for index, item in enumerate(self.offers):
            self.items.append(item)
            number, where = 3 + 4 * index, {"output_index": index, "item_id": item["id"]}
            self._tell(number, "response.output_item.added", output_index=index, item={**item, "tools": []})
            self._tell(number + 1, "response.mcp_list_tools.in_progress", **where)
            self._tell(number + 2, "response.mcp_list_tools.completed", **where)
            self._tell(number + 3, "response.output_item.done", output_index=index, item=item)

    # --- records ------------------------------------------------------------------------------------------------------

    def add(self, record: Recorded) -> None:
        """Take one more record."""
        if self.done or record.position < self._start:
            return
        self._position, self._told = record.position, 0
        event = record.event
        belongs = self._belongs(record)
        here = self.asks_here and isinstance(event, CallJudged)
        if (belongs or isinstance(event, OF_SESSION)) and not here and self.waits.add(event) and belongs:
            self._settled("response.in_progress", response=self.snapshot())
        if belongs:
            match event:
                case ModelCalled():
                    self._model_called(event)
                case ModelReplied() if record.position > self._input_end:
                    self._settle(event)
                case ModelFailed(message=message, kind=kind):
                    self.failure, self.failure_kind, self._failed = message, kind, True
                case CallJudged(verdict="ask"):
                    self._approval(event)
                case CallJudged():
                    self._release(event.call)
                case ToolStarted(client=True):
                    self._release(event.call)
                    self._with_client.add(event.call)
                case ToolStarted():
                    self._release(event.call)
                case ToolReturned() if record.position > self._input_end:
                    self._returned(event)
                case TurnEnded():
                    self._end(record, event)
                case _:
                    pass
        if isinstance(event, SessionDeleted) and not self.done and record.position > self._input_end:
            self.reason = "the session was deleted"  # whatever still runs there ends without a word more
            self._close(record, "cancelled")
        self._hand_over(record)

    def _belongs(self, record: Recorded) -> bool:
        """Whether a record is of the turn that hears this input; notes which turn that is."""
        event = record.event
        if isinstance(event, TurnStarted):
            if self._heard(event.inputs) or record.position <= self._input_end:
                self._started(event.turn)
        elif isinstance(event, InputJoined) and self._heard((event.position,)):
            self._started(event.turn)
        elif isinstance(event, TurnEnded) and record.position <= self._input_end:
            self.turn = None
        return self.turn is not None and (record.position > self._input_end or not isinstance(event, TurnEnded))

    def _heard(self, positions: Iterable[int]) -> bool:
        return any(self._start <= position <= self._input_end for position in positions)

    def _started(self, turn: int) -> None:
        if self.turn is None:
            self.turn, self.status = turn, "in_progress"
            self._begun()

    def _model_called(self, event: ModelCalled) -> None:
        self._abandon()
        self._call, self._attempt = event.call, event.attempt
        self._calls += 1

    def _abandon(self) -> None:
        """What was told of an attempt that failed is void: its items end unfinished, under places of their own."""
        for slot in self._slots.values():
            item = unfinished(slot.item, slot.told)
            self._settled("response.output_item.done", output_index=slot.output_index, item=item)
        heard = self._after - self._calls * CALL  # by this reader, on an earlier connection
        before = heard // PART + 1 if not self._slots and self._failed and 0 <= heard < SETTLED else 0
        self._void += len(self._slots) + before
        self._slots, self._failed = {}, False

    def _settle(self, event: ModelReplied) -> None:
        """The reply is journaled: tell what was not told of it, then that it is done."""
        self.usage = self.usage + event.usage
        self.replied, self.stop, self.failure, self.tier = True, event.stop, "", event.service_tier
        self.reply, self.reply_at = event, self._position
        self._with_client, self._asked = set(), set()
        made = reply_items(self.shown, label_of(event.call, self._attempt), event.parts)
        if self.asks_here:
            self._held = {call: item for item, call in made if item["type"] == "mcp_call"}
            made = [(item, call) for item, call in made if call not in self._held]
        self._open = {call: item for item, call in made if call} | self._held
        first = len(self.items)
        self.items += [item for item, _ in made]
        for place, (item, _) in enumerate(made):
            if item["type"] != "mcp_call":
                self._tell_said(place, first + place, item)
        for place, (item, _) in enumerate(made):
            self._tell_done(first + place, item)
        self._slots = {}

    def _returned(self, event: ToolReturned) -> None:
        """A call is closed before the client had it: the server ran it, or refused it."""
        if event.call not in self._open:
            return
        self._release(event.call)
        item = self._open.pop(event.call)
        index = next(i for i, known in enumerate(self.items) if known["id"] == item["id"])
        if item["type"] == "mcp_call":
            settle_server_call(item, event)
            self._settled(f"response.mcp_call.{item['status']}", output_index=index, item_id=item["id"])
            self._settled("response.output_item.done", output_index=index, item=dict(item))
        elif event.call not in self._with_client:
            item["status"] = "incomplete"
            self._append(result_item(self.shown.session, self._position, event))

    def _approval(self, event: CallJudged) -> None:
        item = self._open.get(event.call)
        if item is None:
            return
        label = item.get("server_label", self.shown.agent)
        self._append(approval_item(self.shown.session, event.call, {**item, "server_label": label}))
        if self.asks_here:
            self._asked.add(event.call)

    def _release(self, call: str) -> None:
        """Tell a call that was held back: it may run, or nobody will ask about it."""
        item = self._held.pop(call, None)
        if item is None:
            return
        self.items.append(item)
        index = len(self.items) - 1
        if item["type"] == "function_call":
            where = {"output_index": index, "item_id": item["id"]}
            self._settled("response.output_item.added", output_index=index, item=added(item))
            self._settled("response.function_call_arguments.delta", **where, delta=item["arguments"])
        self._tell_done(index, item)

    def _append(self, item: Item) -> None:
        self.items.append(item)
        for kind in ("added", "done"):
            self._settled(f"response.output_item.{kind}", output_index=len(self.items) - 1, item=dict(item))

    def _hand_over(self, record: Recorded) -> None:
        """The client has the next word when it has every call that is still open."""
        waited = self._with_client | self._asked
        heard = record.position >= self._input_end
        if not self.done and heard and waited and waited >= set(self._open):
            self._close(record, "completed")

    def _end(self, record: Recorded, event: TurnEnded) -> None:
        self.reason = event.reason
        status = event.status
        if status == "completed" and self.stop in ("length", "content_filter"):
            self._close(record, "incomplete")
        else:
            self._close(record, status)

    def _close(self, record: Recorded, status: str) -> None:
        self._abandon()
        self.status, self.end, self.ended_at = status, record.position, record.at
        kind = {"completed": "completed", "failed": "failed"}.get(status, "incomplete")
        self._settled(f"response.{kind}", response=self.snapshot())

    # --- deltas -------------------------------------------------------------------------------------------------------

    def preview(self, running: Preview) -> None:
        """Take what the running call has said so far."""
        current = (running.call, running.attempt) == (self._call, self._attempt)
        if self.done or not current or self._failed or self._position <= self.reply_at:
            return
        for place, item in enumerate(self._begun_items(running)[:PLACES_MAX]):
            if item is None:
                return  # what comes after it waits for it
            self._tell_said(place, len(self.items) + place, item)

    def _begun_items(self, running: Preview) -> list[Item | None]:
        """What a running call says, item by item; None for a call that is told when it is whole."""
        label, calls = label_of(self._call, self._attempt), [*enumerate(running.calls)]
        made: list[Item | None] = []
        for place, (kind, text) in enumerate((*running.parts, ("text", ""))):
            while calls and calls[0][1][0] <= place:
                made += self._begun_call(label, *calls.pop(0))
            if place < len(running.parts):
                part = Text(text) if kind == "text" else Thinking(text)
                made.append(said_item(self.shown, label, place, part, status="in_progress"))
        return made

    def _begun_call(self, label: str, place: int, called: tuple[int, str, str]) -> list[Item | None]:
        _, name, arguments = called
        if name not in self.shown.client_tools:
            return [] if self.asks_here else [None]
        if not arguments:
            return [None]  # its name may not be whole yet
        call = f"call_{self._call.removeprefix('model_')}_{place + 1}"
        return [call_item(self.shown, label, place, ToolCall(call, name, arguments))]

    def _tell_said(self, place: int, output_index: int, item: Item) -> None:
        """Tell what was not yet told of what a reply says at one place, if it goes on where the telling stopped."""
        slot = self._slots.get(place)
        if slot is None:
            slot = self._slots[place] = Slot(place, output_index, item)
            self._tell_added(slot)
        text = text_of_item(item)
        later = any(other > place for other in self._slots)
        if len(text) > len(slot.told) and text.startswith(slot.told) and not later:
            self._tell_delta(slot, text)

    def _first_number(self, slot: Slot) -> int:
        return self._calls * CALL + slot.place * PART

    def _tell_added(self, slot: Slot) -> None:
        item, first = slot.item, self._first_number(slot)
        self._tell(first, "response.output_item.added", output_index=slot.output_index, item=added(item))
        where = {"item_id": item["id"], "output_index": slot.output_index}
        if item["type"] == "message":
            self._tell(first + 1, "response.content_part.added", **where, content_index=0, part=text_part(""))

    def _tell_delta(self, slot: Slot, text: str) -> None:
        first = self._first_number(slot) + 2
        # What a resumed stream was sent of this text in its former life is not sent again.
        delta = text[max(len(slot.told), self._after - first) :]
        slot.told = text
        where = {"item_id": slot.item["id"], "output_index": slot.output_index, "delta": delta}
        if slot.item["type"] == "message":
            self._tell(first + len(text), "response.output_text.delta", **where, content_index=0, logprobs=[])
        elif slot.item["type"] == "function_call":
            self._tell(first + len(text), "response.function_call_arguments.delta", **where)
        else:
            # Thoughts without a word have no part: one is announced with its first word.
            announced = {name: value for name, value in where.items() if name != "delta"}
            part = {"type": "summary_text", "text": ""}
            self._tell(first - 1, "response.reasoning_summary_part.added", **announced, summary_index=0, part=part)
            self._tell(first + len(text), "response.reasoning_summary_text.delta", **where, summary_index=0)

    def _tell_done(self, output_index: int, item: Item) -> None:
        where: dict[str, Any] = {"item_id": item["id"], "output_index": output_index}
        text = text_of_item(item)
        match item["type"]:
            case "message":
                (part,) = item["content"]
                likely = part["logprobs"]
                self._settled("response.output_text.done", **where, content_index=0, text=text, logprobs=likely)
                self._settled("response.content_part.done", **where, content_index=0, part=part)
            case "reasoning" if text:
                part = {"type": "summary_text", "text": text}
                self._settled("response.reasoning_summary_text.done", **where, summary_index=0, text=text)
                self._settled("response.reasoning_summary_part.done", **where, summary_index=0, part=part)
            case "reasoning":
                pass
            case kind:
                self._tell_call(kind, where, item)
                if kind == "mcp_call":
                    return  # it is done when it was run
        self._settled("response.output_item.done", output_index=output_index, item=dict(item))

    def _tell_call(self, kind: str, where: dict[str, Any], item: Item) -> None:
        if kind == "function_call":
            self._settled("response.function_call_arguments.done", **where, arguments=item["arguments"])
            return
        self._settled("response.output_item.added", output_index=where["output_index"], item=added(item))
        self._settled("response.mcp_call.in_progress", **where)
        self._settled("response.mcp_call_arguments.delta", **where, delta=item["arguments"])
        self._settled("response.mcp_call_arguments.done", **where, arguments=item["arguments"])

    # --- telling ------------------------------------------------------------------------------------------------------

    def _settled(self, kind: str, **fields: Any) -> None:
        """Tell what follows from the record at hand."""
        number = self._calls * CALL + SETTLED + (self._position - self._start) * RECORD + self._told
        self._told += 1
        self._tell(number, kind, **fields)

    def _tell(self, number: int, kind: str, **fields: Any) -> None:
        if number > self._after:
            self._after = number
            if self._void and "output_index" in fields:
                fields["output_index"] += self._void
            self.events.append({"type": kind, "sequence_number": number, **fields})
