"""`approvals ...` and `doubts ...`: answering under one's own name."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from cli_project import BIG_REFUND, Run, begun, command_line, masked
from inline_snapshot import snapshot

TWO_REFUNDS = f'{BIG_REFUND}\n/tool refund {{"order": "43", "cents": 9001}}'
WIRE = '/tool wire {"cents": 5}'

# --- approvals --------------------------------------------------------------------------------------------------------


def test_list(project: Path, cli: Run) -> None:
    ran = cli("approvals", "list")
    assert (ran.code, ran.out, ran.err) == (0, "", "Nothing waits for an answer.\n")
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("approvals", "list")
    assert 'refund(order="42", cents=9000)' in ran.out
    assert f"remanence approvals approve {session} call_1_1_1" in ran.err
    assert masked(cli("approvals", "list", "-o", "json").json) == snapshot(
        [
            {
                "session": "SESSION",
                "call": "call_1_1_1",
                "agent": "shop",
                "user": "ada",
                "kind": "approval",
                "tool": "refund",
                "arguments": '{"order": "42", "cents": 9000}',
                "arguments_digest": "DIGEST",
                "rule": "ask refund when cents > 5000",
                "approvers": [],
                "needed": 1,
                "approved_by": [],
                "expires_at": None,
                "turn": 1,
            }
        ]
    )
    other = begun(cli, '/tool ask_human {"question": "Which?"}', 5)
    assert "Which?" in cli("approvals", "list").out
    assert [w["kind"] for w in cli("approvals", "list", "--session", other, "-o", "json").json] == ["answer"]


def test_a_question_is_answered(project: Path, cli: Run) -> None:
    session = begun(cli, '/tool ask_human {"question": "Which?"}', 5)
    assert f"remanence approvals answer {session} 'YOUR ANSWER' --call call_1_1_1" in cli("approvals", "list").err
    assert cli("approvals", "answer", session, " ").code == 2
    ran = cli("approvals", "answer", "last", "the red one", "-o", "json")
    assert masked(ran.json) == {"session": "SESSION", "position": ran.json["position"], "replayed": False}
    assert cli("sessions", "tail", session, "-o", "json").json[-1]["event"]["answers"] == "call_1_1_1"
    again = cli("approvals", "answer", session, "the blue one")
    assert (again.code, "No call of session" in again.err, "Nothing was recorded" in again.err) == (3, True, True)
    assert cli("approvals", "answer", session, "the blue one", "--call", "call_1_1_1").code == 4
    assert "ask_human returned: the red one" in cli("attach", session).out
    assert cli("approvals", "answer", session, "the blue one", "--call", "call_1_1_1").code == 3


def test_one_of_several_questions_is_answered(project: Path, cli: Run) -> None:
    session = begun(cli, '/tool ask_human {"question": "One?"}\n/tool ask_human {"question": "Two?"}', 5)
    ran = cli("approvals", "answer", session, "yes")
    assert (ran.code, "Several calls wait: call_1_1_1 (ask_human)" in ran.err) == (2, True)
    said = cli("approvals", "answer", session, "-", "--call", "call_1_1_2", text="to the second")
    assert said.out.startswith("Accepted as record ")
    assert [waiting["call"] for waiting in cli("approvals", "list", "-o", "json").json] == ["call_1_1_1"]


def test_approve_binds_the_name_and_the_arguments(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    waiting = cli("approvals", "list", "-o", "json").json[0]
    ran = cli("approvals", "approve", session, waiting["call"], "--as", "bob", "--note", "checked", "-o", "json")
    assert masked(ran.json) == snapshot(
        {"session": "SESSION", "call": "call_1_1_1", "decision": "approve", "by": "bob", "position": 7}
    )
    given = cli("sessions", "tail", session, "-o", "json").json[-1]
    assert given["actor"] == "bob"
    assert (given["event"]["by"], given["event"]["arguments"]) == ("bob", waiting["arguments_digest"])
    assert "refunded 9000" in cli("attach", session).out
    ran = cli("approvals", "approve", session, waiting["call"])
    assert ran.code == 3
    assert "Nothing was recorded" in ran.err


def test_deny_tells_the_agent(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("approvals", "deny", session, "call_1_1_1", "--note", "too much")
    assert ran.out == 'Denied by ada: refund(order="42", cents=9000)\n'
    assert "denied by ada: too much" in cli("attach", session).out


def test_an_answer_is_used_once(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert cli("approvals", "approve", session, "call_1_1_1").code == 0
    ran = cli("approvals", "deny", session, "call_1_1_1")
    assert ran.code == 4
    assert "it is approved" in ran.err


def test_without_a_call_the_only_one_is_meant(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("approvals", "approve", session)
    assert ran.code == 2
    assert "name the call (call_1_1_1) or say --yes" in ran.err
    assert cli("approvals", "approve", session, "--yes").code == 0
    assert cli("approvals", "approve", session, "--yes").code == 3
    two = begun(cli, TWO_REFUNDS, 5)
    ran = cli("approvals", "approve", two, "--yes")
    assert ran.code == 2
    assert "Several calls wait: call_1_1_1 (refund), call_1_1_2 (refund)" in ran.err


def test_an_approval_can_run_out(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    assert cli("approvals", "approve", session, "call_1_1_1", "--expires-s", "0.000001").code == 0
    ran = cli("attach", session)
    assert "the time for it ran out" in ran.err
    assert "expired" in ran.out
    assert cli("approvals", "approve", session, "call_1_1_1", "--expires-s", "0").code == 2


def test_a_call_that_nobody_may_answer_any_more_is_not_offered(project: Path, cli: Run) -> None:
    """Nobody works between two commands, so nobody has refused it yet."""
    text = (project / "agent.py").read_text()
    rule = 'from remanence.spec import AskRule\nshop = Agent("shop", rules=[AskRule("wire", expires_s=2.0)], '
    (project / "agent.py").write_text(text.replace('shop = Agent("shop", ', rule))
    session = begun(cli, WIRE, 5)
    while "ran out" not in (ran := cli("approvals", "list")).out:
        assert "approvals approve" in ran.err
    assert (session in ran.out, "approvals approve" in ran.err) == (True, False)
    assert "wire" not in cli("approvals", "watch", "--timeout-s", "0").out
    assert cli("approvals", "approve", session, "--yes").code == 4
    other = begun(cli, BIG_REFUND, 5)
    assert f"approvals approve {other}" in cli("approvals", "list").err


@pytest.mark.parametrize("time", ["1e12", "inf"])
def test_what_is_good_for_too_long_is_refused_in_the_same_words(project: Path, cli: Run, time: str) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("approvals", "approve", session, "call_1_1_1", "--yes", "--expires-s", time)
    assert (ran.code, "at most for 100 years. Nothing was recorded" in ran.err) == (2, True), ran.err
    ran = cli("keys", "create", "laptop", "--expires", "99999w")
    assert (ran.code, "at most for 100 years. Nothing was made" in ran.err) == (2, True), ran.err


LONG = "x" * 10_001
TOO_MUCH: list[tuple[str, ...]] = [
    ("approvals", "approve", "last", "--yes", "--note", LONG),
    ("doubts", "resolve", "last", "--give-up", "--note", LONG),
    ("sessions", "freeze", "last", "--reason", LONG),
    ("sessions", "freeze", "--all", "--reason", LONG),
    ("sessions", "cancel", "last", "--reason", LONG),
    ("sessions", "fork", "last", "--title", LONG),
    ("sessions", "list", "--search", LONG),
    ("memory", "hold", "project", "--reason", ""),
    ("memory", "erase", "session", "last", "--yes", "--reason", ""),
    ("memory", "forget", "mem_1", "--reason", LONG),
    ("memory", "search", LONG),
]


@pytest.mark.parametrize("args", TOO_MUCH, ids=lambda args: " ".join(args)[:30])
def test_a_text_of_the_wrong_length_is_refused_with_and_without_a_server(
    project: Path, cli: Run, args: tuple[str, ...]
) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli(*args)
    assert ran.code == 2
    assert "It has" in ran.err
    assert "characters, and must have at" in ran.err
    (row,) = cli("sessions", "list", "-o", "json").json
    assert (row["session"], row["status"]) == (session, "waiting")


def test_an_empty_text_of_a_memory_is_refused_in_the_same_words(project: Path, cli: Run) -> None:
    kept = cli("memory", "keep", "Ann is left-handed", "--scope", "project", "-o", "json").json["memory"]
    ran = cli("memory", "edit", kept, "")
    assert (ran.code, "to withdraw a memory, forget it" in ran.err) == (2, True), ran.err
    ran = cli("memory", "keep", "x" * 17_000, "--scope", "project")
    assert (ran.code, "The text has 17,000 bytes" in ran.err) == (2, True), ran.err


def test_only_those_who_are_named_may_answer(project: Path, cli: Run) -> None:
    text = (project / "agent.py").read_text()
    (project / "agent.py").write_text(text.replace('"cents > 5000"', '"cents > 5000", approvers=["eve"]'))
    ran = cli("run", "shop", BIG_REFUND)
    assert "waits for an approval by eve." in ran.err
    assert "call_1_1_1 --as eve" in ran.err
    assert "call_1_1_1 --as eve" in cli("approvals", "list").err
    ran = cli("approvals", "approve", "last", "call_1_1_1")
    assert ran.code == 2
    assert "Only eve may answer this call, not ada" in ran.err
    assert cli("approvals", "approve", "last", "call_1_1_1", "--as", "eve").code == 0


def test_watch_prints_what_comes_to_wait(project: Path, cli: Run) -> None:
    first = begun(cli, BIG_REFUND, 5)
    command = command_line("approvals", "watch", "-o", "json")
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    try:
        assert first in watch.stdout.readline()
        second = begun(cli, BIG_REFUND, 5)
        assert second in watch.stdout.readline()
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=60) == 0
    finally:
        watch.kill()
        watch.communicate()
    ran = cli("approvals", "watch", "--timeout-s", "0.2")
    assert ran.code == 0
    assert f"remanence approvals approve {first} call_1_1_1" in ran.out


# --- doubts -----------------------------------------------------------------------------------------------------------


def test_doubts(project: Path, cli: Run) -> None:
    assert "Nothing is in doubt." in cli("doubts", "list").err
    session = begun(cli, WIRE, 5)
    ran = cli("doubts", "list")
    assert f"{session}:1:call_1_1_1" in ran.out
    assert "remanence doubts resolve" in ran.err
    assert masked(cli("doubts", "list", "-o", "json").json) == snapshot(
        [
            {
                "session": "SESSION",
                "call": "call_1_1_1",
                "tool": "wire",
                "effect_key": "SESSION:1:call_1_1_1",
                "turn": 1,
                "at": "AT",
                "reason": "the line broke",
                "asked": 0,
                "retry_at": None,
                "failure": "",
            }
        ]
    )
    assert masked(cli("doubts", "resolve", session, "--happened", "it arrived", "-o", "json").json) == snapshot(
        {"session": "SESSION", "call": "call_1_1_1", "decision": "happened", "by": "ada", "position": 9}
    )
    assert cli("doubts", "list", "--session", session, "-o", "json").json == []
    assert "wire returned: it arrived" in cli("attach", session).out
    assert cli("doubts", "resolve", session, "--give-up").code == 3
    assert cli("doubts", "resolve", session, "call_1_1_1", "--give-up").code == 3


@pytest.mark.parametrize(
    ("flag", "code", "told"),
    [("--run-again", 5, "attempt=2"), ("--give-up", 0, "given up by ada")],
)
def test_ways_to_settle(project: Path, cli: Run, flag: str, code: int, told: str) -> None:
    session = begun(cli, WIRE, 5)
    assert cli("doubts", "resolve", "last", "call_1_1_1", flag).code == 0
    ran = cli("attach", session)
    assert ran.code == code
    assert told in ran.err


def test_a_doubt_is_settled_in_one_way(project: Path, cli: Run) -> None:
    session = begun(cli, WIRE, 5)
    assert cli("doubts", "resolve", session).code == 2
    assert cli("doubts", "resolve", session, "--run-again", "--give-up").code == 2
    assert len(cli("doubts", "list", "-o", "json").json) == 1


def test_what_came_of_it_is_not_another_option(project: Path, cli: Run) -> None:
    session = begun(cli, WIRE, 5)
    ran = cli("doubts", "resolve", session, "--happened", "--run-again")
    assert ran.code == 2
    assert "what came of it" in ran.err
    assert len(cli("doubts", "list", "-o", "json").json) == 1


def test_one_of_two_doubts(project: Path, cli: Run) -> None:
    session = begun(cli, f'{WIRE}\n/tool wire {{"cents": 6}}', 5)
    ran = cli("doubts", "resolve", session, "--give-up")
    assert ran.code == 2
    assert "call_1_1_1 (wire), call_1_1_2 (wire)" in ran.err
    assert cli("doubts", "resolve", session, "call_1_1_2", "--give-up").code == 0
