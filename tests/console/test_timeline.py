"""The fold of a journal into rows: over every golden journal, whole, in pieces and from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from remanence.console.talk import messages_of
from remanence.console.timeline import Row, Timeline
from remanence.events import Recorded, kind_of
from remanence.testing.golden import records_in

JOURNALS = Path(__file__).resolve().parent.parent / "journals"
GOLDEN = sorted(path.stem for path in JOURNALS.glob("*.jsonl"))


def journal(name: str) -> tuple[Recorded, ...]:
    return records_in((JOURNALS / f"{name}.jsonl").read_bytes())


def rows_of(name: str, kind: str) -> list[Row]:
    return [row for row in Timeline(journal(name)).rows if row.kind == kind]


@pytest.mark.parametrize("name", GOLDEN)
def test_every_record_has_its_row(name: str) -> None:
    records = journal(name)
    timeline = Timeline(records)
    for record in records:
        row = timeline.find(record.position)
        assert row is not None, f"#{record.position} {kind_of(record.event)}"
    anchors = [row.anchor for row in timeline.rows]
    assert len(anchors) == len(set(anchors))
    assert all(row.ended_at is None or row.ended_at >= row.at for row in timeline.rows)


@pytest.mark.parametrize("name", GOLDEN)
def test_what_a_live_page_draws_is_what_a_fresh_one_shows(name: str) -> None:
    """Rows that are drawn when they change end up as the rows of the whole fold."""
    records = journal(name)
    live = Timeline()
    drawn: dict[str, Row] = {}
    for record in records:
        for row in live.take(record):
            drawn[row.anchor] = row
        rows = {row.anchor: row for row in live.rows}
        assert drawn.keys() == rows.keys(), kind_of(record.event)
    assert list(drawn.values()) == Timeline(records).rows


@pytest.mark.parametrize("name", GOLDEN)
def test_a_window_may_begin_anywhere(name: str) -> None:
    records = journal(name)
    for start in range(len(records)):
        timeline = Timeline(records[start:])
        assert all(timeline.find(record.position) is not None for record in records[start:])
        messages_of(records[start:])


def test_a_crash_is_told_from_a_wait() -> None:
    assert {row.word for row in rows_of("resumed_after_a_crash", "break")} == {"crashed"}
    assert {row.word for row in rows_of("approval_granted", "break")} <= {"resumed"}
    assert rows_of("plain_chat", "break") == []


def test_a_step_is_one_row_whatever_became_of_it() -> None:
    (tool,) = rows_of("approval_granted", "tool")
    assert (tool.name, tool.state) == ("refund", "ok")
    assert [mark.word for mark in tool.marks] == ["judged_ask", "approve", "started", "returned"]
    assert all(until is not None for _, until in tool.waits)
    (denied,) = rows_of("approval_denied", "tool")
    assert denied.state == "denied"
    (waiting,) = rows_of("approval_waiting", "tool")
    assert (waiting.state, waiting.waits[-1][1]) == ("waiting", None)


def test_a_doubt_shows_and_is_settled() -> None:
    (tool,) = rows_of("doubt_resolved", "tool")
    assert "in_doubt" in [mark.word for mark in tool.marks]
    assert tool.state in ("ok", "failed")


def test_a_turn_sums_what_its_calls_cost() -> None:
    (turn,) = rows_of("one_tool", "turn")
    models = rows_of("one_tool", "model")
    assert turn.usd_micros == sum(row.usd_micros or 0 for row in models)
    assert turn.usage is not None
    assert turn.usage.total_tokens == sum(row.usage.total_tokens for row in models if row.usage is not None)


def test_what_was_erased_is_said_to_be() -> None:
    assert any(row.redacted for row in Timeline(journal("redaction")).rows)
    assert any(message.redacted for message in messages_of(journal("redaction")))
