"""Laws of the stream of a response, over any text, any preview and any cut; no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remanence.api.responses.fold import Fold
from remanence.api.responses.items import Shown
from remanence.api.stream import Preview
from remanence.content import Part, Text, Thinking, ToolCall
from remanence.events import (
    CallJudged,
    Event,
    InputReceived,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recorded,
    ToolReturned,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)

SHOWN = Shown("s", "agent", frozenset({"mine"}))
texts = st.text(min_size=1, max_size=12)
said: st.SearchStrategy[Part] = st.one_of(st.builds(Text, texts), st.builds(Thinking, texts))
replies = st.lists(said, max_size=3)
arguments = st.sampled_from(["{}", '{"city":"Paris"}', ""])


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """A turn with some tool calls of the server, some failures, and an end: complete, failed, or with the client."""
    events: list[Event] = [InputReceived("i", (Text("hi"),)), TurnStarted(1, (1,))]
    steps = draw(st.integers(1, 3))
    for step in range(1, steps + 1):
        call = f"model_1_{step}"
        events.append(ModelCalled(call, 1, "m", 1, 1, ""))
        for attempt in range(2, draw(st.integers(1, 3)) + 1):
            events += [
                ModelFailed(call, "connection", "cut", retry_at=1),
                ModelCalled(call, 1, "m", 1, 1, "", attempt=attempt),
            ]
        parts = draw(replies)
        if step < steps:
            tool = ToolCall(f"call_1_{step}_1", "theirs", "{}")
            events += [ModelReplied(call, (*parts, tool)), CallJudged(tool.call, "allow", "", "")]
            events += [ToolStarted(tool.call, "theirs", "", "safe"), ToolReturned(tool.call, (Text("ok"),))]
        elif draw(st.booleans()):
            mine = [ToolCall(f"call_1_{step}_{n}", "mine", draw(arguments)) for n in range(1, draw(st.integers(2, 3)))]
            place = draw(st.integers(0, len(parts)))
            events.append(ModelReplied(call, (*parts[:place], *mine, *parts[place:])))
            events += [ToolStarted(one.call, "mine", "", "never", client=True) for one in mine]
        else:
            status: Any = draw(st.sampled_from(["completed", "failed", "cancelled"]))
            events += [ModelReplied(call, tuple(parts)), TurnEnded(1, status)]
    return events


def recorded(events: list[Event]) -> list[Recorded]:
    return [Recorded("s", position, position, 0, "a", event) for position, event in enumerate(events, 1)]


def told(records: list[Recorded], data: st.DataObject | None = None, *, after: int = -1) -> list[dict[str, Any]]:
    """The events of a stream; with `data`, running calls are looked at now and then, wherever they are."""
    fold = Fold(SHOWN, 1, 1, after=after)
    fold.begin()
    for place, record in enumerate(records):
        fold.add(record)
        if data is not None and isinstance(record.event, ModelCalled):
            for preview in looked_at(record.event, records[place:], data):
                fold.preview(preview)
    return fold.take_events()


def looked_at(called: ModelCalled, rest: list[Recorded], data: st.DataObject) -> list[Preview]:
    """Growing views of what the call says: the beginning of its reply, or other words when it fails."""
    outcome = next(record.event for record in rest if isinstance(record.event, ModelReplied | ModelFailed))
    parts: Sequence[Part] = outcome.parts if isinstance(outcome, ModelReplied) else data.draw(replies)
    whole = sum(len(words(part)) for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(1, max(whole, 1)), max_size=3)))
    return [begun(called, parts, cut) for cut in cuts]


def words(part: Part) -> str:
    return part.text if isinstance(part, Text | Thinking) else getattr(part, "arguments", "")


def begun(called: ModelCalled, parts: Sequence[Part], length: int) -> Preview:
    made: list[Any] = []
    calls: list[tuple[int, str, str]] = []
    for part in parts:
        if length > 0 and isinstance(part, ToolCall):
            calls.append((len(made), part.name, part.arguments[:length]))
        elif length > 0:
            made.append(("text" if isinstance(part, Text) else "thinking", words(part)[:length]))
        length -= len(words(part))
    return Preview(called.call, called.attempt, tuple(made), tuple(calls))


def joined(events: list[dict[str, Any]]) -> tuple[dict[tuple[str, str], str], list[Any]]:
    """The deltas of each item that was done put together, and everything else about them."""
    deltas: dict[tuple[str, str], str] = {}
    others: list[Any] = []
    done = {named(event) for event in events if event["type"] == "response.output_item.done"} - void(events)
    for event in events:
        if named(event) and named(event) not in done:
            continue
        if event["type"].endswith(".delta"):
            key = (event["item_id"], event["type"])
            deltas[key] = deltas.get(key, "") + event["delta"]
        else:
            others.append({name: value for name, value in event.items() if name != "output_index"})
    return deltas, others


def named(event: dict[str, Any]) -> str:
    """The item an event is about."""
    return event.get("item_id") or event.get("item", {}).get("id", "")


def void(events: list[dict[str, Any]]) -> set[str]:
    """The items whose attempt failed."""
    ended = [event for event in events if event["type"] == "response.output_item.done"]
    return {named(event) for event in ended if event["item"].get("status") == "incomplete"}


@given(journals(), st.data())
def test_any_cut_of_any_stream_is_resumed_to_the_whole(events: list[Event], data: st.DataObject) -> None:
    records = recorded(events)
    whole = told(records)
    live = told(records, data)
    assert joined(live) == joined(whole)
    cut = data.draw(st.integers(0, len(live)))
    last = live[cut - 1]["sequence_number"] if cut else -1
    rest = told(records, data if data.draw(st.booleans()) else None, after=last)
    assert joined(live[:cut] + rest) == joined(whole)


@given(journals(), st.data())
def test_what_a_failed_attempt_said_is_closed_and_every_item_has_its_place(
    events: list[Event], data: st.DataObject
) -> None:
    live = told(recorded(events), data)
    begun_items = [event for event in live if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in begun_items] == list(range(len(begun_items)))
    ended = [named(event) for event in live if event["type"] == "response.output_item.done"]
    assert sorted(ended) == sorted({named(event) for event in begun_items})
    deltas, others = joined(live)
    for event in others:
        if event["type"] == "response.output_text.done":
            assert deltas[(event["item_id"], "response.output_text.delta")] == event["text"]
        if event["type"] == "response.function_call_arguments.done" and event["arguments"]:
            assert deltas[(event["item_id"], "response.function_call_arguments.delta")] == event["arguments"]


@given(journals(), st.data())
def test_numbers_rise_and_fit_everywhere(events: list[Event], data: st.DataObject) -> None:
    numbers = [event["sequence_number"] for event in told(recorded(events), data)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 2**53


@given(journals())
def test_what_is_done_is_what_the_deltas_say(events: list[Event]) -> None:
    deltas, others = joined(told(recorded(events)))
    for event in others:
        if event["type"] == "response.output_text.done":
            assert deltas[(event["item_id"], "response.output_text.delta")] == event["text"]
    assert others[-1]["type"] in ("response.completed", "response.failed", "response.incomplete")
