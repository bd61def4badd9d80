"""Ctrl-C and closed terminals, in real ones: nothing is lost, what runs may finish, no traceback."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from a_terminal import Terminal
from cli_project import Run, command_line
from serving_process import Running

SLOW = '/tool slow {"name": "go"}'


def kinds(cli: Run) -> list[str]:
    return [record["kind"] for record in cli("sessions", "tail", "last", "-o", "json").json]


def begun(verb: str, cli: Run) -> Terminal:
    """A command in a terminal, in the middle of a tool call."""
    match verb:
        case "chat":
            there = Terminal("chat")
            there.until("> ")
            there.type(f"{SLOW}\n")
        case "run":
            there = Terminal("run", "shop", SLOW)
        case _:
            assert cli("run", "shop", SLOW, "--no-wait").code == 0
            there = Terminal("attach", "last")
    there.until("> slow(")
    return there


@pytest.mark.parametrize("verb", ["chat", "run", "attach"])
def test_a_terminal_that_is_closed_leaves_in_order(verb: str, project: Path, cli: Run) -> None:
    there = begun(verb, cli)
    assert there.hang_up(Path("go").touch) == (0 if verb == "chat" else 130)
    # The call was given time, and the session was given back: nothing runs twice, nobody waits for a lease.
    assert kinds(cli).count("ToolReturned") == 1
    assert cli("sessions", "list", "-o", "json").json[0]["status"] != "idle"
    ran = cli("attach", "last")
    assert (ran.code, ran.out.endswith("slow returned: found\n")) == (0, True)
    assert kinds(cli).count("ToolStarted") == 1


def test_who_is_not_to_be_hung_up_is_not(project: Path, cli: Run) -> None:
    command = ["nohup", *command_line("run", "shop", SLOW)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not Path("go.started").exists():
        threading.Event().wait(0.02)
    run.send_signal(signal.SIGHUP)
    Path("go").touch()
    out, _ = run.communicate(timeout=60)
    assert (run.returncode, b"slow returned: found" in out) == (0, True)


def test_chat_is_left_at_the_prompt(project: Path, cli: Run) -> None:
    chat = Terminal("chat")
    chat.until("> ")
    chat.type("hello\n")
    chat.until("You said: hello")
    chat.until("> ")
    chat.interrupt_until("Come back with:")
    assert chat.close() == 130
    assert re.search(r"The session is kept. Come back with:\r\n  remanence chat --session sess_", chat.shown)
    assert "given time" not in chat.shown, "nothing runs"


@pytest.mark.parametrize("times", [2, 3, 5])
def test_chat_is_left_in_a_call(times: int, project: Path, cli: Run) -> None:
    chat = begun("chat", cli)
    chat.interrupt()
    chat.until("The turn goes on. Enter follows it")
    chat.until("> ")
    threading.Event().wait(1)  # until it listens: what comes while a prompt is being made is heard at the next key
    chat.interrupt_until("Come back with:")
    chat.until("Calls that run are given time to finish (Ctrl-C again leaves at once).")
    for _ in range(times - 2):
        chat.interrupt()
        threading.Event().wait(0.05)
    if times == 2:
        Path("go").touch()
    assert chat.close() == 130
    assert ("remanence: interrupted. What was acknowledged is kept." in chat.shown) == (times > 2)
    for noise in ("Traceback", "destroyed", "Error", "╭"):
        assert noise not in chat.shown
    Path("go").touch()
    ran = cli("attach", "last")
    assert (ran.code, ran.out.endswith("slow returned: found\n")) == (0, True)


def test_who_leaves_while_a_server_works_is_told_where_it_goes_on(project: Path, cli: Run) -> None:
    with Running("serve", "--port", "0") as server:
        server.line("Worker +up to")
        there = begun("run", cli)
        there.interrupt()
        there.until("goes on at http://127.0.0.1:")
        assert there.close() == 130
        assert "given time" not in there.shown
        Path("go").touch()
        assert cli("attach", "last").code == 0
    assert kinds(cli).count("ToolStarted") == 1
