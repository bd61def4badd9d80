"""`run`, `attach` and `chat`: what is said, what waits, and what becomes of it when somebody leaves."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from a_terminal import Terminal
from cli_project import BIG_REFUND, SMALL_REFUND, Run, begun, command_line, masked
from inline_snapshot import snapshot

# --- run --------------------------------------------------------------------------------------------------------------


def test_run_prints_the_answer_and_nothing_else(project: Path, process: Run) -> None:
    ran = process("run", "shop", SMALL_REFUND)
    assert (ran.code, ran.out) == (0, "refund returned: refunded 900\n")
    assert '> refund(order="42", cents=900)  key=sess_' in ran.err
    assert '< refund(order="42", cents=900)  -> refunded 900' in ran.err


def test_run_as_json(project: Path, cli: Run) -> None:
    ran = cli("run", "shop", SMALL_REFUND, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert masked(ran.json) == snapshot(
        {
            "session": "SESSION",
            "position": 2,
            "turn": 1,
            "status": "completed",
            "text": "refund returned: refunded 900",
            "reason": "",
            "waiting_on": "",
            "commands": [],
            "usd_micros": 0,
            "tokens": "N",
        }
    )


def test_run_that_waits_says_what_answers(project: Path, cli: Run) -> None:
    ran = cli("run", "shop", BIG_REFUND)
    assert ran.code == 5
    session = re.findall(r"sess_[0-9a-f]{30}", ran.err)[0]
    assert ran.err.splitlines()[-5:] == [
        'Waiting: refund(order="42", cents=9000) waits for an approval.',
        f"  remanence approvals approve {session} call_1_1_1",
        f"  remanence approvals deny {session} call_1_1_1",
        "Then come back with:",
        f"  remanence attach {session}",
    ]
    ran = cli("run", "shop", BIG_REFUND, "-o", "json")
    assert ran.code == 5
    assert masked(ran.json) == snapshot(
        {
            "session": "SESSION",
            "position": 2,
            "turn": 1,
            "status": "waiting",
            "text": "",
            "reason": 'refund(order="42", cents=9000) waits for an approval.',
            "waiting_on": "approval",
            "commands": [
                "remanence approvals approve SESSION call_1_1_1",
                "remanence approvals deny SESSION call_1_1_1",
            ],
            "usd_micros": 0,
            "tokens": "N",
        }
    )


def test_run_from_a_place(folder: Path, project: Path, cli: Run) -> None:
    (project / "remanence.toml").unlink()
    ran = cli("run", "agent.py:shop", BIG_REFUND)
    assert ran.code == 5
    assert ran.err.splitlines()[-1].endswith(" --agent agent.py:shop")
    assert cli("approvals", "approve", "last", "--yes").code == 0
    ran = cli(*ran.err.splitlines()[-1].split()[1:])
    assert ran.code == 0
    assert "refunded 9000" in ran.out


def test_a_place_may_begin_with_a_point(project: Path, cli: Run) -> None:
    for place in ("./agent.py", "./agent.py:shop", f"{project}/agent.py:shop"):
        assert cli("run", place, "hello").code == 0, place


def test_run_of_what_is_not_there(project: Path, cli: Run) -> None:
    ran = cli("run", "shopp", "hello")
    assert ran.code == 3
    assert "There is no agent called 'shopp'. Did you mean 'shop'?" in ran.err
    assert cli("run", "nothing.py", "hello").code == 3
    cli("run", "shop", "hello")
    ran = cli("run", "shop@7", "hello")
    assert ran.code == 3
    assert "Agent 'shop' has no version '7'; it has shop@1" in ran.err
    assert cli("run", "shop@1", "hello").code == 0
    assert cli("run", "shop", " ").code == 2


def test_run_of_a_broken_agent_names_the_line(project: Path, cli: Run) -> None:
    (project / "agent.py").write_text("from remanence import Agent\n\nshop = Agent('shop', model=1 / 0)\n")
    ran = cli("run", "shop", "hello")
    assert ran.code == 2
    assert "agent.py, line 3" in ran.err
    assert "Traceback" not in ran.err


def test_run_without_waiting_leaves_it_to_a_worker(project: Path, cli: Run) -> None:
    ran = cli("run", "shop", "hello", "--no-wait")
    session = ran.out.strip()
    assert ran.code == 0
    assert f"remanence attach {session}" in ran.err
    assert cli("sessions", "get", session, "-o", "json").json["queued"] == 1
    assert "You said: hello" in cli("attach", session).out


def test_run_again_with_the_same_key_is_the_same_run(project: Path, cli: Run) -> None:
    first = cli("run", "shop", "hello", "--json", "--idempotency-key", "k").json
    again = cli("run", "shop", "hello", "--json", "--idempotency-key", "k", "--no-wait").json
    assert (again["session"], again["position"]) == (first["session"], first["position"])
    assert len(cli("sessions", "list", "-o", "json").json) == 1


def test_run_again_with_the_same_key_gives_the_answer_again(project: Path, cli: Run) -> None:
    first = cli("run", "shop", "hello", "--json", "--idempotency-key", "k").json
    assert cli("run", "shop", "hello", "--json", "--idempotency-key", "k").json == first


def test_run_in_a_session_that_exists(project: Path, cli: Run) -> None:
    session = begun(cli, "one")
    ran = cli("run", "shop", "-", "--session", "last", "--json", text="two")
    assert (ran.json["session"], ran.json["turn"]) == (session, 2)


def test_a_doubt_waits_for_somebody(project: Path, cli: Run) -> None:
    ran = cli("run", "shop", '/tool wire {"cents": 5}')
    assert ran.code == 5
    assert "Nobody can vouch for whether wire(cents=5) happened (the line broke)." in ran.err
    for outcome in ("--happened", "--run-again", "--give-up"):
        assert outcome in ran.err


def test_a_budget_waits_for_somebody(project: Path, cli: Run) -> None:
    assert cli("budgets", "set", "agent:shop", "--tokens", "10").code == 0
    ran = cli("run", "shop", "hello")
    assert ran.code == 5
    assert "The budget of agent:shop is reached: 0 of 10 tokens are used" in ran.err
    line = next(line for line in ran.err.splitlines() if "budgets raise" in line)
    assert cli(*line.split()[1:]).code == 0
    ran = cli("attach", "last")
    assert ran.code == 0
    assert "You said: hello" in ran.out


def test_a_timer_is_waited_for(project: Path, cli: Run) -> None:
    ran = cli("run", "shop", '/tool sleep_until {"seconds": 1}')
    assert ran.code == 0
    assert "sleep_until(seconds=1)  until " in ran.err


# --- leaving and coming back ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_run(project: Path) -> Iterator[subprocess.Popen[str]]:
    """A `run` whose tool waits for the file `go`."""
    command = command_line("run", "shop", '/tool slow {"name": "go"}')
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def until(run: subprocess.Popen[str], words: str) -> str:
    """Read stderr until a line holds the words; that line."""
    assert run.stderr is not None
    for line in run.stderr:
        if words in line:
            return line
    raise AssertionError(f"{words!r} was not said")


def test_ctrl_c_detaches_and_says_how_to_come_back(project: Path, cli: Run, slow_run: subprocess.Popen[str]) -> None:
    until(slow_run, "> slow(")
    slow_run.send_signal(signal.SIGINT)
    until(slow_run, "Detached")
    come_back = until(slow_run, "remanence attach sess_")
    # What runs is given time to finish, and then the session is given back.
    Path("go").touch()
    out, err = slow_run.communicate(timeout=60)
    assert (slow_run.returncode, out, err) == (130, "", "")
    ran = cli(*come_back.split()[1:])
    assert ran.code == 0
    assert ran.out.endswith("slow returned: found\n")


def test_a_killed_run_is_taken_over(project: Path, cli: Run, slow_run: subprocess.Popen[str]) -> None:
    session = re.findall(r"sess_[0-9a-f]{30}", until(slow_run, "> slow("))[0]
    slow_run.kill()
    slow_run.wait(timeout=60)
    Path("go").touch()
    ran = cli("attach", session)
    assert ran.code == 0
    assert "attempt=2" in ran.err
    assert "slow returned: found" in ran.out


def test_attach_shows_the_last_turn_and_what_comes_next(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    ran = cli("attach", "last")
    assert ran.code == 0
    assert ran.out.startswith(f"shop  {session}\n")
    assert "You said: hello" in ran.out
    assert "ada: hello" in ran.err
    assert f"remanence chat --session {session}" in ran.err


def test_attach_without_the_code_says_what_is_missing(project: Path, cli: Run) -> None:
    session = cli("run", "shop", "hello", "--no-wait").out.strip()
    (project / "remanence.toml").write_text("")
    attach = subprocess.Popen(command_line("attach", session), stderr=subprocess.PIPE, text=True)
    try:
        assert "Python functions this process does not have: refund, wire, slow" in until(attach, "Python functions")
        attach.send_signal(signal.SIGINT)
        assert attach.wait(timeout=60) == 130
    finally:
        attach.kill()
        attach.communicate()


# --- chat -------------------------------------------------------------------------------------------------------------


def test_chat_takes_each_line_of_a_pipe_as_an_input(project: Path, process: Run) -> None:
    ran = process("chat", text=f"hello\n\n{SMALL_REFUND}\n/session\n/quit\nnot said\n")
    assert ran.code == 0
    assert "You said: hello" in ran.out
    assert "refund returned: refunded 900" in ran.out
    assert "status   idle" in ran.out
    assert "not said" not in process("sessions", "tail", "last").out


def test_chat_in_a_pipe_stops_where_a_person_is_needed(project: Path, process: Run) -> None:
    ran = process("chat", "shop", text=f"{BIG_REFUND}\nnot said\n")
    assert ran.code == 5
    assert "remanence approvals approve" in ran.err
    assert ran.err.splitlines()[-1].startswith("  remanence chat --session sess_")
    assert "not said" not in process("sessions", "tail", "last").out


def test_chat_in_a_pipe_answers_questions(project: Path, process: Run) -> None:
    ran = process("chat", text='/tool ask_human {"question": "Which?"}\nthe blue one\n')
    assert ran.code == 0
    assert "ask_human returned: the blue one" in ran.out


def test_chat_in_which_nothing_is_said_leaves_no_session(project: Path, process: Run) -> None:
    assert process("chat", text="/session\n").code == 0
    assert process("sessions", "list", "-o", "json").json == []


def test_chat_without_an_agent_says_which_there_are(project: Path, process: Run) -> None:
    (project / "two.py").write_text(
        "from remanence import Agent\n\na = Agent('a', model='default')\nb = Agent('b', model='default')\n"
    )
    (project / "remanence.toml").write_text('agents = ["two.py"]\n')
    ran = process("chat")
    assert ran.code == 2
    assert "Say which agent: a, b." in ran.err
    (project / "remanence.toml").write_text("")
    ran = process("chat")
    assert ran.code == 3
    assert "remanence init" in ran.err


def test_chat_asks_for_approval_on_the_spot(project: Path, cli: Run) -> None:
    chat = Terminal("chat", "--as", "bob")
    chat.until("> ")
    chat.type(f"{BIG_REFUND}\n")
    chat.until("Approve as bob?")
    chat.type("d\n")
    assert '"cents": 9000' in chat.until("Approve as bob?")
    chat.type("y\n")
    chat.until("refund returned: refunded 9000")
    chat.until("> ")
    chat.type(f"{BIG_REFUND}\n")
    chat.until("Approve as bob?")
    chat.type("n\n")
    chat.until("Why?")
    chat.type("too much\n")
    chat.until("denied by bob: too much")
    chat.until("> ")
    chat.type("/quit\n")
    assert chat.close() == 0
    assert "remanence chat --session sess_" in chat.shown
    journal = cli("sessions", "tail", "last", "-o", "json").json
    given = [record["event"] for record in journal if record["kind"] == "ApprovalGiven"]
    assert [(event["decision"], event["by"]) for event in given] == [("approve", "bob"), ("deny", "bob")]


def test_chat_asks_about_doubts_and_budgets(project: Path, cli: Run) -> None:
    cli("budgets", "set", "agent:shop", "--tokens", "10")
    chat = Terminal("chat")
    chat.until("> ")
    chat.type("hello\n")
    chat.until("Raise it by how many tokens")
    chat.type("many\n")
    chat.until("is not a number of tokens")
    chat.until("> ")
    chat.type("\n")
    chat.until("Raise it by how many tokens")
    chat.type("100000\n")
    chat.until("You said: hello")
    chat.until("> ")
    chat.type('/tool wire {"cents": 5}\n')
    chat.until("Enter: later")
    chat.type("h\n")
    chat.until("What came of it?")
    chat.type("it arrived\n")
    chat.until("wire returned: it arrived")
    chat.until("> ")
    chat.type("/quit\n")
    assert chat.close() == 0


def test_chat_forks_and_cancels(project: Path, cli: Run) -> None:
    chat = Terminal("chat")
    chat.until("> ")
    chat.type("/fork\n")
    chat.until("There is no session yet")
    chat.type("one\n")
    chat.until("You said: one")
    chat.until("> ")
    chat.type("/fork 1\n")
    chat.until("that one stays as it is")
    chat.type('/tool slow {"name": "never"}\n')
    chat.until("> slow(")
    chat.type("\x03")
    chat.until("The turn goes on")
    chat.type("/cancel enough\n")
    chat.until("turn cancelled: ada: enough")
    chat.until("> ")
    chat.type("\x04")
    assert chat.close() == 0
    assert [row["turns"] for row in cli("sessions", "list", "-o", "json").json] == [2, 1]
