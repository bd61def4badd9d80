"""`sessions ...`: what each verb prints, keeps and refuses."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from cli_project import BIG_REFUND, SMALL_REFUND, Run, begun, command_line, masked
from inline_snapshot import snapshot

# --- looking ----------------------------------------------------------------------------------------------------------


def test_list(project: Path, cli: Run) -> None:
    waiting = begun(cli, BIG_REFUND, 5)
    done = begun(cli, "hello")
    ran = cli("sessions", "list")
    header, first, second = ran.out.splitlines()
    assert header.split() == ["SESSION", "AGENT", "USER", "STATUS", "TURNS", "COST", "CHANGED", "TITLE"]
    assert first.split()[:5] == [done, "shop", "ada", "idle", "1"]
    assert first.endswith('"hello"')
    assert second.split()[:6] == [waiting, "shop", "ada", "waiting:", "approval", "1"]
    assert masked(cli("sessions", "list", "-o", "json", "--limit", "1").json) == snapshot(
        [
            {
                "session": "SESSION",
                "agent": "shop",
                "version": "DIGEST",
                "user": "ada",
                "title": "",
                "status": "idle",
                "waiting_on": "",
                "turns": 1,
                "head": 6,
                "usd_micros": 0,
                "tokens": "N",
                "opened_at": "AT",
                "updated_at": "AT",
                "fork_of": None,
                "fork_position": None,
                "begins": "hello",
            }
        ]
    )
    lines = cli("sessions", "list", "-o", "jsonl").out.splitlines()
    assert len(lines) == 2
    assert all(line.startswith('{"session":"sess_') for line in lines)


def test_list_filters(project: Path, cli: Run) -> None:
    waiting = begun(cli, BIG_REFUND, 5)
    begun(cli, "hello")

    def found(*args: str) -> list[str]:
        return [row["session"] for row in cli("sessions", "list", "-o", "json", *args).json]

    assert found("--status", "waiting") == found("--waiting-on", "approval") == [waiting]
    assert len(found("--agent", "shop", "--user", "ada")) == 2
    assert found("--agent", "nobody") == found("--user", "bob") == found("--project", "other") == []
    assert found("--since", "1d", "--cost-min", "0", "--sort", "turns", "--limit", "1") != []
    assert found("--doubt") == found("--tag", "tier=gold") == found("--cost-min", "1") == found("--version", "x") == []
    assert cli("sessions", "list", "--status", "sleepy").code == 2
    assert cli("sessions", "list", "--tag", "gold").code != 0


def test_list_search(project: Path, cli: Run) -> None:
    begun(cli, BIG_REFUND, 5)
    said = begun(cli, "hello there, Café")
    (row,) = cli("sessions", "list", "--search", "cafe the", "-o", "json").json
    assert (row["session"], row["found_at"] > 1) == (said, True)
    header, line = cli("sessions", "list", "--search", "café").out.splitlines()
    assert header.split()[-1] == "FOUND"
    assert "there, Café" in line
    assert cli("sessions", "list", "--search", "plum").err.startswith("No session fits.")


def test_get(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("sessions", "get", "last")
    assert f"session      {session}" in ran.out
    assert 'waits        refund(order="42", cents=9000) waits for an approval.' in ran.out
    assert f"answer with  remanence approvals approve {session} call_1_1_1" in ran.out
    assert masked(cli("sessions", "get", session, "-o", "json").json) == snapshot(
        {
            "session": "SESSION",
            "agent": "shop",
            "version": "DIGEST",
            "project": "default",
            "user": "ada",
            "title": "",
            "metadata": {},
            "status": "waiting",
            "waiting_on": "approval",
            "head": 6,
            "at": "AT",
            "turns": 1,
            "turn": 1,
            "queued": 0,
            "calls": [
                {
                    "call": "call_1_1_1",
                    "tool": "refund",
                    "arguments": '{"order": "42", "cents": 9000}',
                    "arguments_digest": "DIGEST",
                    "state": "asked",
                    "reason": "ask refund when cents > 5000",
                    "attempt": 0,
                }
            ],
            "doubts": [],
            "commands": [
                "remanence approvals approve SESSION call_1_1_1",
                "remanence approvals deny SESSION call_1_1_1",
            ],
            "frozen": None,
            "last_effect": 4,
            "window_turn": 1,
            "window_position": 2,
            "model_calls": 1,
            "tool_calls": 0,
            "unpriced_calls": 0,
            "input_tokens": "N",
            "output_tokens": "N",
            "cached_tokens": 0,
            "usd_micros": 0,
            "last_turn": "",
            "turn_started_at": "AT",
        }
    )
    ended = begun(cli, "hello")
    shown = cli("sessions", "get", ended).out
    assert "turns        1, the last completed" in shown
    assert "answer with" not in shown


def test_an_unknown_session(project: Path, cli: Run) -> None:
    assert cli("sessions", "get", "last").code == 3
    begun(cli, "hello")
    for verb in ("get", "tail", "cancel", "fork", "freeze", "thaw", "export", "verify"):
        ran = cli("sessions", verb, "sess_nowhere")
        assert (ran.code, ran.out) == (3, ""), verb
        assert "sess_nowhere" in ran.err
    assert cli("sessions", "send", "sess_nowhere", "hello").code == 3


def test_a_session_of_another_project_is_not_found(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    for verb in ("get", "tail", "export", "verify", "cancel"):
        ran = cli("sessions", verb, session, "--project", "other")
        assert (ran.code, f"There is no session '{session}'" in ran.err) == (3, True), verb


# --- the journal ------------------------------------------------------------------------------------------------------


def test_prompt(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    ran = cli("sessions", "prompt", session, "model_1_1")
    assert "exact: the digest of these very bytes is in the journal" in ran.out
    assert "--- 1 user ---\nhello" in ran.out
    found = cli("sessions", "prompt", "last", "model_1_1", "-o", "json").json
    assert (found["exact"], found["position"], found["attempt"]) == (True, 4, 1)
    assert found["messages"] == [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]
    assert cli("sessions", "prompt", session, "4", "-o", "json").json == found
    ran = cli("sessions", "prompt", session, "model_9_1")
    assert (ran.code, "has no model call 'model_9_1'" in ran.err) == (3, True)


def test_tail(project: Path, cli: Run) -> None:
    session = begun(cli, SMALL_REFUND)
    lines = cli("sessions", "tail", session).out.splitlines()
    assert [line.split()[2] for line in lines] == snapshot(
        [
            "SessionOpened",
            "InputReceived",
            "TurnStarted",
            "ModelCalled",
            "ModelReplied",
            "CallJudged",
            "ToolStarted",
            "ToolReturned",
            "ModelCalled",
            "ModelReplied",
            "TurnEnded",
        ]
    )
    started = next(line for line in lines if "ToolStarted" in line)
    assert started.endswith(f'refund(order="42", cents=900)  key={session}:1:call_1_1_1')
    assert cli("sessions", "tail", session, "-n", "2").out.splitlines() == lines[-2:]
    assert cli("sessions", "tail", session, "--after", "9").out.splitlines() == lines[9:]


def test_tail_as_json(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    records = cli("sessions", "tail", session, "-o", "json").json
    assert masked(records[1]) == snapshot(
        {
            "session": "SESSION",
            "position": 2,
            "at": "AT",
            "epoch": 0,
            "actor": "ada",
            "kind": "InputReceived",
            "event": {
                "type": "InputReceived",
                "input": "INPUT",
                "parts": [{"type": "text", "text": "hello"}],
                "user": "ada",
            },
            "digest": "DIGEST",
            "redacted": False,
        }
    )
    assert len(cli("sessions", "tail", session, "--raw").out.splitlines()) == len(records)


def test_tail_follows_until_it_is_left(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    command = command_line("sessions", "tail", session, "--follow", "-n", "1")
    tail = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tail.stdout is not None
    try:
        assert "turn 1 completed" in tail.stdout.readline()
        assert cli("sessions", "send", session, "more").code == 0
        assert 'ada: "more"' in tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=60)
    finally:
        tail.kill()
        tail.communicate()
    assert tail.returncode == 0
    assert f"remanence sessions tail {session} --follow" in err


# --- steering ---------------------------------------------------------------------------------------------------------


def test_send(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    ran = cli("sessions", "send", session, "more", "--idempotency-key", "k1", "-o", "json")
    assert masked(ran.json) == snapshot({"session": "SESSION", "position": 7, "replayed": False})
    again = cli("sessions", "send", session, "more", "--idempotency-key", "k1")
    assert "Was accepted before as record" in again.out
    other = cli("sessions", "send", session, "else", "--idempotency-key", "k1")
    assert other.code == 4
    assert cli("sessions", "send", session, " ").code == 2
    assert cli("sessions", "send", session, "-", text="from stdin").code == 0
    assert 'ada: "from stdin"' in cli("sessions", "tail", session).out


def test_send_and_wait(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    ran = cli("sessions", "send", session, SMALL_REFUND, "--wait")
    assert ran.code == 0
    assert "refund returned: refunded 900" in ran.out


@pytest.mark.direct  # the settings of a server are those it was started with
def test_an_input_that_is_too_large(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    (project / "remanence.toml").write_text("input_bytes_max = 100\n")
    ran = cli("sessions", "send", session, "x" * 200)
    assert ran.code == 2
    assert "at most 100" in ran.err
    assert cli("sessions", "get", session, "-o", "json").json["queued"] == 0


@pytest.mark.direct
def test_what_is_refused_leaves_no_empty_session_behind(project: Path, cli: Run) -> None:
    """It says that nothing was written."""
    begun(cli, "hello")
    (project / "remanence.toml").write_text("input_bytes_max = 100\n" + (project / "remanence.toml").read_text())
    ran = cli("run", "shop", "x" * 200)
    assert (ran.code, "at most 100" in ran.err, "Nothing was written" in ran.err) == (2, True, True), ran.err
    assert len(cli("sessions", "list", "-o", "json").json) == 1


def test_a_question_is_answered(project: Path, cli: Run) -> None:
    session = begun(cli, '/tool ask_human {"question": "Which colour?", "options": ["red", "blue"]}', 5)
    ran = cli("sessions", "get", session)
    assert "The agent asks: Which colour? [red | blue]" in ran.out
    ran = cli("sessions", "send", session, "blue", "--wait")
    assert ran.code == 0
    assert "ask_human returned: blue" in ran.out


def test_one_of_two_questions_is_answered(project: Path, cli: Run) -> None:
    said = '/tool ask_human {"question": "One?"}\n/tool ask_human {"question": "Two?"}'
    session = begun(cli, said, 5)
    calls = [call["call"] for call in cli("sessions", "get", session, "-o", "json").json["calls"]]
    for call in calls:
        assert cli("sessions", "send", session, f"to {call}", "--answers", call).code == 0
    ran = cli("attach", session)
    assert ran.code == 0
    for call in calls:
        assert f"ask_human returned: to {call}" in ran.out
    assert cli("sessions", "send", session, "late", "--answers", calls[0]).code == 3


def test_cancel(project: Path, cli: Run) -> None:
    session = begun(cli, BIG_REFUND, 5)
    ran = cli("sessions", "cancel", session, "--reason", "wrong order")
    assert ran.code == 0
    assert f"Cancel of {session} asked for" in ran.out
    ran = cli("attach", session)
    assert "turn cancelled: ada: wrong order" in ran.err
    ran = cli("sessions", "cancel", session)
    assert (ran.code, ran.out) == (4, "")


def test_fork(project: Path, cli: Run) -> None:
    session = begun(cli, "one")
    cli("sessions", "send", session, "two", "--wait")
    forked = cli("sessions", "fork", session, "--turn", "1", "--title", "again", "-o", "json").json
    assert forked["fork_of"] == session
    assert (forked["turns"], forked["title"]) == (1, "again")
    ran = cli("sessions", "fork", session)
    assert f"of {session}. Talk to it with:" in ran.out
    assert cli("sessions", "send", forked["session"], "other", "--wait").code == 0
    journal = cli("sessions", "tail", forked["session"]).out
    assert 'ada: "one"' in journal
    assert 'ada: "two"' not in journal
    assert cli("sessions", "fork", session, "--turn", "9").code == 3
    assert cli("sessions", "fork", session, "--position", "900").code == 2
    assert cli("sessions", "fork", session, "--turn", "1", "--position", "2").code == 2


# --- freezing ---------------------------------------------------------------------------------------------------------


def test_freeze_one(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    ran = cli("sessions", "freeze", session, "--reason", "looks odd")
    assert f"session:{session} is frozen: no new effect starts." in ran.out
    assert f"The last effect that started is record 4 of {session}." in ran.out
    assert cli("sessions", "freeze", session).code == 4
    ran = cli("sessions", "send", session, SMALL_REFUND, "--wait")
    assert ran.code == 5
    assert f"remanence sessions thaw {session}" in ran.err
    assert masked(cli("sessions", "thaw", session, "-o", "json").json) == snapshot(
        {
            "scope": "session:SESSION",
            "frozen": False,
            "by": "ada",
            "reason": "",
            "last_effect_session": None,
            "last_effect_position": None,
        }
    )
    assert "refunded 900" in cli("attach", session).out
    assert cli("sessions", "thaw", session).code == 4


@pytest.mark.parametrize(
    ("flag", "scope"),
    [(("--all",), "all"), (("--agent", "shop"), "agent:shop"), (("--whole-project",), "project:default")],
)
def test_freeze_many(project: Path, cli: Run, flag: tuple[str, ...], scope: str) -> None:
    session = begun(cli, "hello")
    frozen = cli("sessions", "freeze", *flag, "--reason", "kill switch", "-o", "json").json
    assert frozen == {
        "scope": scope,
        "frozen": True,
        "by": "ada",
        "reason": "kill switch",
        "last_effect_session": session,
        "last_effect_position": 4,
    }
    (stands,) = cli("sessions", "freezes", "-o", "json").json
    assert stands == frozen
    assert cli("sessions", "freezes").out.splitlines()[1].split()[:2] == [scope, "ada"]
    ran = cli("run", "shop", "hello")
    assert ran.code == 5
    assert f"{scope} is frozen by ada: kill switch." in ran.err
    line = next(line for line in ran.err.splitlines() if "sessions thaw" in line)
    assert cli(*line.split()[1:]).code == 0
    assert cli("attach", "last").code == 0
    assert cli("sessions", "thaw", *flag).code == 3
    assert cli("sessions", "freezes").err == "Nothing is frozen.\n"


def test_a_freeze_of_an_agent_stays_in_its_project(project: Path, cli: Run) -> None:
    begun(cli, "hello")
    assert cli("--project", "acme", "sessions", "freeze", "--agent", "shop").code == 3
    assert cli("--project", "acme", "run", "shop", "hello").code == 0
    ran = cli("--project", "acme", "sessions", "freeze", "--agent", "shop")
    assert (ran.code, "remanence --project acme sessions thaw --agent shop" in ran.out) == (0, True)
    assert cli("run", "shop", "hello").code == 0
    ran = cli("--project", "acme", "run", "shop", "hello")
    assert (ran.code, "agent:shop is frozen by ada" in ran.err) == (5, True)
    assert cli("sessions", "freezes", "-o", "json").json == []
    assert cli("--project", "acme", "sessions", "freezes", "-o", "json").json[0]["scope"] == "agent:shop"
    (found,) = [each for each in cli("doctor", "-o", "json").json if each["check"] == "freeze"]
    assert "agent:shop in project acme is frozen" in found["found"]
    line = found["advice"].partition(": ")[2]
    assert line == "remanence --project acme sessions thaw --agent shop"
    assert cli("sessions", "thaw", "--agent", "shop").code == 3
    assert cli(*line.split()[1:]).code == 0
    assert cli("--project", "acme", "attach", "last").code == 0


def test_a_freeze_of_a_misspelt_agent_does_not_look_like_one(project: Path, cli: Run) -> None:
    begun(cli, "hello")
    ran = cli("sessions", "freeze", "--agent", "shpo")
    assert ran.code == 3
    assert "Nothing was frozen. The agents there are: shop." in ran.err
    assert cli("run", "shop", "hello").code == 0


def test_freeze_asks_for_exactly_one_scope(project: Path, cli: Run) -> None:
    for args in ((), ("x", "--all"), ("--all", "--agent", "shop")):
        assert cli("sessions", "freeze", *args).code == 2
        assert cli("sessions", "thaw", *args).code == 2


def test_an_idempotency_key_is_named_as_it_was_given_and_is_never_empty(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    assert cli("sessions", "send", session, "one", "--idempotency-key", "k1").code == 0
    reused = cli("sessions", "send", session, "another", "--idempotency-key", "k1")
    assert (reused.code, "The idempotency key 'k1' was used before" in reused.err) == (4, True)
    empty = cli("sessions", "send", session, "one", "--idempotency-key", "")
    assert (empty.code, "Nothing was written" in empty.err) == (2, True), empty
