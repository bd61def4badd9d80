"""Golden journals: what any release ever wrote is read by every later one, byte for byte and state for state."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from remanence.core.context import rebuild_prompt, remembered
from remanence.core.session import evolve, fold
from remanence.core.snapshots import decode_snapshot, encode_snapshot
from remanence.core.state import Session
from remanence.events import (
    KINDS,
    CompactionBegun,
    ModelCalled,
    Redacted,
    SessionOpened,
    SessionUpgraded,
    TurnEnded,
    decode_event,
    encode_event,
    kind_of,
    skeleton,
)
from remanence.spec import AgentSpec
from remanence.stores.rows import in_snapshots
from remanence.testing.golden import Row, records_in, rows_in, rows_of, state_json, unchained

JOURNALS = Path(__file__).resolve().parent.parent / "journals"
NAMES = sorted(path.stem for path in JOURNALS.glob("*.jsonl"))
WANTED = (
    "plain_chat one_tool parallel_tools approval_granted approval_denied approval_expired doubt_reconciled "
    "doubt_asked_again doubt_asked_in_vain doubt_that_will_be_asked_again "
    "doubt_resolved doubt_given_up retry budget_reached_and_raised cancel interrupt steer fork upgrade "
    "frozen_and_thawed compaction redaction timer question"
)

every_journal = pytest.mark.parametrize("name", NAMES)


def rows(name: str) -> tuple[Row, ...]:
    return rows_in((JOURNALS / f"{name}.jsonl").read_bytes())


def test_they_are_all_there() -> None:
    assert set(WANTED.split()) <= set(NAMES)
    assert {path.name.split(".")[0] for path in JOURNALS.glob("*.state.json")} == set(NAMES)


def test_they_hold_every_kind_of_event() -> None:
    seen = {kind_of(decode_event(row.payload.encode())) for name in NAMES for row in rows(name)}
    assert seen == set(KINDS)


@every_journal
def test_a_golden_journal_folds_to_its_state(name: str) -> None:
    content = (JOURNALS / f"{name}.jsonl").read_bytes()
    records = records_in(content)
    state = fold(Session(records[-1].session), records)
    assert state_json(state) == (JOURNALS / f"{name}.state.json").read_bytes()
    s = Session(records[-1].session)
    for record in records:
        s = evolve(s, record)
        if s.turn is None:
            restored = decode_snapshot(encode_snapshot(s), s.id)
            assert restored == s
    assert s == state


@every_journal
def test_no_snapshot_of_a_golden_journal_holds_what_was_said(name: str) -> None:
    """Not one text, argument or result; labels (title, metadata, reasons) are no content."""
    records = records_in((JOURNALS / f"{name}.jsonl").read_bytes())
    said: set[str] = set()
    s = Session(records[-1].session)
    for record in records:
        s = evolve(s, record)
        for part in getattr(record.event, "parts", ()):
            plain = msgspec.to_builtins(part)
            said |= {str(plain[field]) for field in ("text", "arguments") if field in plain}
        if s.turn is None:
            snapshot = encode_snapshot(s)
            assert [words for words in said if len(words) > 4 and words.encode() in snapshot] == []


@every_journal
def test_what_is_redacted_changes_no_state_between_turns_unless_its_snapshots_go_with_it(name: str) -> None:
    records = records_in((JOURNALS / f"{name}.jsonl").read_bytes())
    for erased in records:
        if in_snapshots(encode_event(erased.event)):
            continue
        s = t = Session(records[-1].session)
        for record in records:
            s = evolve(s, record)
            same = record.position != erased.position
            t = evolve(t, record if same else replace(record, event=skeleton(record.event)))
            assert s.turn is not None or t == s, f"{erased.event} leaves words in the state at {record.position}"


@every_journal
def test_a_golden_journal_verifies_and_is_written_the_same(name: str) -> None:
    held = rows(name)
    assert unchained(held) is None
    for row in held:
        payload = row.payload.encode()
        assert encode_event(decode_event(payload)) == payload
    assert [row.position for row in held] == list(range(1, len(held) + 1))


@every_journal
def test_any_change_of_a_golden_journal_shows(name: str) -> None:
    held = rows(name)
    for index, row in enumerate(held):
        flipped = msgspec.structs.replace(row, payload=row.payload.replace('"', "'", 1))
        if not row.payload_digest:
            assert unchained((*held[:index], flipped, *held[index + 1 :])) == row.position
        later = msgspec.structs.replace(row, at=row.at + 1)
        assert unchained((*held[:index], later, *held[index + 1 :])) == row.position
    for index in range(len(held) - 1):
        assert unchained((*held[:index], *held[index + 1 :])) == held[index + 1].position


@every_journal
def test_every_prompt_of_a_golden_journal_is_proved(name: str) -> None:
    """What the model was shown can be rebuilt for ever, exactly, unless a part of it was erased."""
    records = records_in((JOURNALS / f"{name}.jsonl").read_bytes())
    erased = {record.event.position for record in records if isinstance(record.event, Redacted)}
    known = {(r.session, r.position): what for r in records if (what := remembered(r)) is not None}
    path, spec = JOURNALS / f"{name}.specs.json", None
    specs = msgspec.json.decode(path.read_bytes(), type=dict[str, AgentSpec]) if path.exists() else {}
    for record in records:
        event = record.event
        if isinstance(event, SessionOpened | SessionUpgraded):
            spec = specs.get(event.version)
        if isinstance(event, ModelCalled | CompactionBegun):
            rebuilt = rebuild_prompt(records, event, spec, known)
            touched = any(event.window_from <= position < record.position for position in erased)
            assert rebuilt.exact != touched
            assert rebuilt.messages


def test_a_redacted_record_keeps_its_place_and_loses_its_words() -> None:
    held = rows("redaction")
    erased = [row for row in held if row.payload_digest]
    assert len(erased) >= 4
    assert not any("Ada" in row.payload for row in held)
    records = records_in((JOURNALS / "redaction.jsonl").read_bytes())
    assert [r.position for r in records if r.redacted] == [row.position for row in erased]
    ended = [r.event for r in records if isinstance(r.event, TurnEnded)]
    assert [event.status for event in ended] == ["completed"]


def test_rows_of_records_are_the_rows_that_were_read() -> None:
    for name in NAMES:
        if name != "redaction":
            content = (JOURNALS / f"{name}.jsonl").read_bytes()
            assert rows_of(records_in(content)) == content
