"""Recorded dialogues in the form of the Chat Completions API become events that a window policy can be played on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench.recorded import read_dialogues, together
from bench.window import POLICIES, Run, measured, recorded

from remanence.content import Text, ToolCall
from remanence.events import InputReceived, ModelReplied, ToolReturned, TurnEnded, TurnStarted


def call(name: str, given: str, **arguments: str) -> dict[str, Any]:
    return {"id": given, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def dialogue(order: str) -> list[dict[str, Any]]:
    found = f'{{"order": "{order}", "item": "item-{order}"}}' + " ok" * 400
    return [
        {"role": "system", "content": "Help kindly."},
        {"role": "user", "content": f"Where is {order}?"},
        {"role": "user", "content": [{"type": "text", "text": "And my parcel?"}, {"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": [call("find", "c1", id=order), call("look", "c2")]},
        {"role": "tool", "tool_call_id": "c2", "content": "nothing"},
        {"role": "tool", "tool_call_id": "c1", "content": found},
        {"role": "assistant", "content": "It is on its way."},
        {"role": "user", "content": "Send it back."},
        {"role": "assistant", "content": "", "tool_calls": [call("refund", "c1", item=f"item-{order}")]},
        {"role": "tool", "tool_call_id": "c1", "content": "done" + " ok" * 400},
        {"role": "assistant", "content": "Done."},
    ]


def test_messages_become_turns_whose_calls_have_their_results(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([{"task_id": 1, "traj": dialogue("A-1")}, dialogue("A-2")]))
    first, second = read_dialogues(path)
    assert (first.instructions, first.tools) == ("Help kindly.", ("find", "look", "refund"))
    heard = first.events[0]
    assert isinstance(heard, InputReceived)
    assert heard.parts == (Text("Where is A-1?"), Text("And my parcel?"))
    assert sum(isinstance(event, TurnStarted) for event in first.events) == 2
    assert sum(isinstance(event, TurnEnded) for event in first.events) == 2
    calls = [p.call for e in first.events if isinstance(e, ModelReplied) for p in e.parts if isinstance(p, ToolCall)]
    assert sorted(calls) == sorted(e.call for e in first.events if isinstance(e, ToolReturned))
    assert len(second.events) == len(first.events)
    (both,) = together([first, second], 20)
    assert len({e.call for e in both.events if isinstance(e, ToolReturned)}) == 6, "calls of two dialogues keep apart"


def test_a_set_of_lines_is_measured_under_every_policy(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps({"messages": dialogue(f"A-{n}")}) for n in range(12)))
    rows = measured(recorded(path, 6, 2_500))
    assert [row["policy"] for row in rows] == list(POLICIES)
    for row in rows:
        assert (row["dialogues"], row["calls"], row["needed"]) == ("set", 48, 24)
        assert row["in_view"] == 1.0
    cacheable = {row["policy"]: row["cacheable"] for row in rows}
    assert cacheable["cut to half"] > cacheable["sliding"]
    ((_, spec, events), _) = recorded(path, 6, 2_500)
    assert Run(spec, "with names").play(events).calls == 24


def test_what_is_no_dialogue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps([dialogue("A-1"), {"said": "hello"}]))
    with pytest.raises(ValueError, match=r"set\.json\[1\] is no list of messages"):
        read_dialogues(path)
