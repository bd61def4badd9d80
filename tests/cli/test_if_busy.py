"""What `sessions send` does while a turn is open: in the four ways, and as the agent says when nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import AGENT, BIG_REFUND, SMALL_REFUND, Run, begun


def journal(cli: Run, session: str) -> list[tuple[str, str]]:
    """(kind, what matters) of the records that show who was heard when, and how turns ended."""
    records = cli("sessions", "tail", session, "-o", "json").json
    kept = ("TurnStarted", "InputJoined", "TurnEnded")
    return [(r["event"]["type"], r["event"].get("status", "")) for r in records if r["event"]["type"] in kept]


@pytest.mark.parametrize(
    ("if_busy", "heard"),
    [
        ("queue", [("TurnEnded", "completed"), ("TurnStarted", ""), ("TurnEnded", "completed")]),
        ("steer", [("InputJoined", ""), ("TurnEnded", "completed")]),
        ("interrupt", [("TurnEnded", "cancelled"), ("TurnStarted", ""), ("TurnEnded", "completed")]),
    ],
)
def test_an_input_while_a_turn_is_open(if_busy: str, heard: list[tuple[str, str]], project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert cli("sessions", "send", session, "one more thing", "--if-busy", if_busy).code == 0
    assert cli("sessions", "get", session, "-o", "json").json["queued"] == 1
    if if_busy != "interrupt":
        assert cli("approvals", "approve", session, "call_1_1_1").code == 0
    assert cli("attach", session).code == 0
    assert journal(cli, session) == [("TurnStarted", ""), *heard]


def test_rejected_while_a_turn_is_open(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("sessions", "send", session, "one more thing", "--if-busy", "reject")
    assert ran.code == 4
    assert "Nothing was written" in ran.err
    assert cli("sessions", "get", session, "-o", "json").json["queued"] == 0


def test_as_the_agent_says(project: Path, cli: Run) -> None:
    (project / "agent.py").write_text(AGENT.replace("sleep_until])", 'sleep_until], if_busy="reject")'))
    session = begun(cli, BIG_REFUND, 5)
    assert cli("sessions", "send", session, "one more thing").code == 4
    assert cli("sessions", "send", session, "one more thing", "--if-busy", "queue").code == 0


def test_a_cancel_says_what_already_happened(project: Path, cli: Run) -> None:
    session = begun(cli, f"{SMALL_REFUND}\n{BIG_REFUND}", 5)
    assert cli("sessions", "cancel", session, "--reason", "enough").code == 0
    words = 'cancelled: ada: enough; already happened: refund(order="42", cents=900)'
    assert f"turn {words}" in cli("attach", session).err
    assert cli("sessions", "tail", session).out.rstrip().endswith(f"turn 1 {words}")


def test_an_answer_given_twice_under_one_key_is_one_answer(project: Path, cli: Run) -> None:
    session = begun(cli, '/tool ask_human {"question": "One?"}', 5)
    answer = ("sessions", "send", session, "yes", "--answers", "call_1_1_1", "--idempotency-key", "k")
    first, again = cli(*answer, "-o", "json").json, cli(*answer, "-o", "json").json
    assert (first["replayed"], again["replayed"], again["position"]) == (False, True, first["position"])
    assert cli("sessions", "send", session, "no", "--answers", "call_1_1_1", "--idempotency-key", "k").code == 4
