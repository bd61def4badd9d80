"""The codec of the journal: what an older release wrote is lifted, what a newer one wrote is left alone."""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import Any

import msgspec
import pytest
from any_journal import any_events, any_journals
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Text
from remanence.errors import StoreCorrupt, UnknownEvent
from remanence.events import (
    GENESIS,
    Event,
    InputReceived,
    Recorded,
    ToolReturned,
    TurnEnded,
    TurnStarted,
    chain_digest,
    decode_event,
    encode_event,
    kind_of,
    payload_digest,
    skeleton,
)
from remanence.events.codec import Upcaster
from remanence.testing.journals import heard, journal


def lift_finished(old: dict[str, Any]) -> dict[str, Any]:
    """An invented shape: a kind that had another name, and its text in one piece."""
    return {"type": "ToolReturned", "call": old["id"], "parts": [{"type": "text", "text": old["output"]}]}


def lift_ended(old: dict[str, Any]) -> dict[str, Any]:
    """Another: a field of today's kind that was called otherwise."""
    return {"type": "TurnEnded", "turn": old["turn"], "status": old["outcome"]}


OLD: dict[str, Upcaster] = {"ToolFinished": lift_finished, "TurnEnded": lift_ended}


def test_an_old_kind_is_lifted() -> None:
    payload = b'{"type":"ToolFinished","id":"call_1_1_1","output":"done"}'
    assert decode_event(payload, OLD) == ToolReturned("call_1_1_1", (Text("done"),))


def test_an_old_shape_of_a_kind_is_lifted_and_the_new_one_is_read_as_it_is() -> None:
    assert decode_event(b'{"type":"TurnEnded","turn":3,"outcome":"failed"}', OLD) == TurnEnded(3, "failed")
    assert decode_event(b'{"type":"TurnEnded","turn":3,"status":"failed"}', OLD) == TurnEnded(3, "failed")


def test_lifting_leaves_the_chain_alone() -> None:
    """A record's digest covers the bytes as they were written, whatever they are read as today."""
    old = b'{"type":"ToolFinished","id":"call_1_1_1","output":"done"}'
    digest = chain_digest(GENESIS, payload_digest(old), position=1, at=5, epoch=1, actor="w")
    lifted = encode_event(decode_event(old, OLD))
    assert lifted != old
    assert chain_digest(GENESIS, payload_digest(lifted), position=1, at=5, epoch=1, actor="w") != digest


def test_a_kind_of_a_newer_release_is_left_alone() -> None:
    with pytest.raises(UnknownEvent) as refused:
        decode_event(b'{"type":"DreamRemembered","text":"sheep"}')
    assert refused.value.message == (
        "The journal holds an event of kind 'DreamRemembered', which this release does not know. Nothing was changed; "
        "open it with the release that wrote it, or a newer one."
    )
    assert (refused.value.code, refused.value.exit_code) == ("unknown_event", 1)


def test_a_field_of_a_newer_release_is_not_passed_over() -> None:
    with pytest.raises(UnknownEvent, match="a TurnEnded with 'mood', which this release does not know"):
        decode_event(b'{"type":"TurnEnded","turn":3,"status":"failed","mood":"good"}')


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'"TurnEnded"',
        b'{"type":"TurnEnded"}',
        b'{"type":"TurnEnded","turn":"three","status":"failed"}',
        b'{"type":"TurnEnded","turn":3,"status":"\xff"}',
        b'{"type":"InputReceived","input":"in","parts":[{"type":"hologram"}]}',
        b'{"type":"ToolFinished","id":5}',
        b"[" * 100_000,
    ],
)
def test_damage_is_named_and_left_as_it_is(payload: bytes) -> None:
    with pytest.raises(StoreCorrupt, match="The record was left as it is; run `remanence sessions verify`"):
        decode_event(payload, OLD)


@given(any_events, st.binary(max_size=12), st.integers(0, 200), st.integers(0, 12))
def test_no_bytes_break_the_codec(event: Event, noise: bytes, at: int, gone: int) -> None:
    payload = encode_event(event)
    damaged = payload[:at] + noise + payload[at + gone :]
    try:
        read = decode_event(damaged, OLD)
    except (StoreCorrupt, UnknownEvent):
        return
    assert kind_of(read)
    assert decode_event(encode_event(read)) == read


def structs_in(value: object) -> Generator[msgspec.Struct]:
    """The structs an event is made of, itself included."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = tuple(getattr(value, name) for name in value.__struct_fields__)
    if isinstance(value, tuple):
        for part in value:
            yield from structs_in(part)


@given(any_events)
def test_the_garbage_collector_is_not_woken_by_what_a_journal_holds(event: Event) -> None:
    read = Recorded("ses_1", 1, 5, 1, "w", decode_event(encode_event(event)))
    assert [struct for struct in structs_in(read) if gc.is_tracked(struct)] == []


@given(any_events)
def test_a_skeleton_of_a_skeleton_is_the_skeleton(event: Event) -> None:
    bare = skeleton(event)
    assert skeleton(bare) == bare
    assert kind_of(bare) == kind_of(event)
    assert decode_event(encode_event(bare)) == bare


@given(any_journals(size_max=10), st.data())
def test_a_chain_shows_what_was_changed_dropped_or_moved(records: tuple[Recorded, ...], data: st.DataObject) -> None:
    chain = journal(*(record.event for record in records))
    assert _first_break(chain) is None
    victim = data.draw(st.integers(0, len(chain) - 1))
    changed = msgspec.structs.replace(chain[victim], event=heard("never said"))
    if changed.event != chain[victim].event:
        assert _first_break((*chain[:victim], changed, *chain[victim + 1 :])) == victim
    moved = msgspec.structs.replace(chain[victim], at=chain[victim].at + 1)
    assert _first_break((*chain[:victim], moved, *chain[victim + 1 :])) == victim
    if victim < len(chain) - 1:
        assert _first_break((*chain[:victim], *chain[victim + 1 :])) == victim


def _first_break(records: tuple[Recorded, ...]) -> int | None:
    digest = GENESIS
    for index, r in enumerate(records):
        own = payload_digest(encode_event(r.event))
        digest = chain_digest(digest, own, position=r.position, at=r.at, epoch=r.epoch, actor=r.actor)
        if digest != r.digest:
            return index
    return None


def test_what_is_written_is_short() -> None:
    assert encode_event(InputReceived("in", (Text("hi"),))) == (
        b'{"type":"InputReceived","input":"in","parts":[{"type":"text","text":"hi"}]}'
    )


def test_a_record_is_printed_on_one_line_without_what_is_usual() -> None:
    said = InputReceived("in_1", (Text("Order 42\narrived broken"),), user="ada")
    record = Recorded("sess_1", 2, 1_700_000_000_000_000, 0, "ada", said, b"\x01" * 32)
    words = "#2 InputReceived input='in_1', parts=(Text(text='Order 42\\narrived broken'),), user='ada'"
    assert str(record) == words
    assert str(Recorded("sess_1", 9, 0, 1, "worker", TurnStarted(3, (2,)))) == "#9 TurnStarted turn=3, inputs=(2,)"
    assert "digest=b'" in repr(record)
