"""Who answers a command: the server that runs for the database, found by the file it leaves, or the database itself."""

from __future__ import annotations

import re
import signal
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cli_project import BIG_REFUND, Run
from serving_process import Running

from remanence.cli.client import error_of
from remanence.cli.server_file import Announced
from remanence.errors import BudgetExceeded, Busy, NotFound, RateLimited, RemanenceError, StoreUnavailable


@pytest.fixture
def server(project: Path) -> Iterator[Running]:
    """A server with a worker."""
    with Running("serve", "--port", "0") as running:
        running.line("Worker +up to")
        yield running


def place(project: Path) -> Path:
    return project / ".remanence" / "server.json"


def hide(project: Path) -> None:
    """Put the database where only those find it who have it open."""
    for file in (project / ".remanence").glob("remanence.db*"):
        file.rename(file.with_name(f"hidden-{file.name}"))


def test_a_server_is_found_and_does_the_work(project: Path, cli: Run, server: Running) -> None:
    assert stat.S_IMODE(place(project).stat().st_mode) == 0o600
    ran = cli("run", "shop", "hello", "--json")
    assert (ran.code, ran.json["status"]) == (0, "completed")
    session = ran.json["session"]
    assert "You said: hello" in cli("run", "shop", "again", "--session", session).out.replace("again", "hello")
    waiting = cli("run", "shop", BIG_REFUND)
    assert waiting.code == 5
    assert "remanence approvals approve" in waiting.err
    assert cli("approvals", "approve", "last", "--yes", "--as", "zoë").code == 0
    assert cli("attach", "last").code == 0
    records = cli("sessions", "tail", "last", "-o", "json").json
    assert [r["actor"] for r in records if r["kind"] in ("SessionOpened", "InputReceived")] == ["ada", "ada"]
    assert [r["actor"] for r in records if r["kind"] == "ApprovalGiven"] == ["zoë"]
    assert cli("sessions", "list", "--project", "other", "-o", "json").json == []
    chatted = cli("chat", "--session", session, text="one more\n")
    assert (chatted.code, "You said: one more" in chatted.out) == (0, True)
    missing = cli("sessions", "get", "nobody")
    assert (missing.code, "There is no session 'nobody'" in missing.err) == (3, True)
    hide(project)
    assert len(cli("sessions", "list", "-o", "json").json) == 2, "the server has it open"
    assert cli("sessions", "list", "-o", "json", "--direct").json == []
    server.signal()
    server.end()
    assert not place(project).exists()


def test_what_a_killed_server_left_is_removed(project: Path, cli: Run) -> None:
    with Running("serve", "--port", "0") as server:
        server.url()
        ran = cli("run", "shop", "hello", "--json")
        server.signal(signal.SIGKILL)
    assert place(project).exists()
    assert [row["session"] for row in cli("sessions", "list", "-o", "json").json] == [ran.json["session"]]
    assert not place(project).exists()
    # Another process has its number, and nobody its port.
    said = Announced("http://127.0.0.1:9", 1, "rmn_local_x", "")
    place(project).write_bytes(msgspec.json.encode(said))
    assert cli("sessions", "list").code == 0
    assert place(project).exists(), "another database's is left alone"


def test_nobody_answers_where_a_server_was(project: Path, cli: Run, server: Running) -> None:
    said = msgspec.json.decode(place(project).read_bytes(), type=Announced)
    for changed in (
        msgspec.structs.replace(said, url="http://127.0.0.1:9"),  # the port is nobody's
        msgspec.structs.replace(said, key="rmn_local_of_before"),  # the port is another server's
    ):
        place(project).write_bytes(msgspec.json.encode(changed))
        assert cli("sessions", "list").code == 0
        assert not place(project).exists()
    place(project).write_bytes(b"{")
    assert cli("sessions", "list").code == 0


WHERE = """
import os
from remanence import Agent, tool

@tool(replay="safe")
def where() -> str:
    \"\"\"Which process this is.\"\"\"
    return f"process {os.getpid()}."

NAME = Agent("NAME", model="default", instructions="", tools=[where])
"""


def test_who_does_the_work(project: Path, process: Run) -> None:
    (project / "agent.py").write_text(WHERE.replace("NAME", "shop"))
    (project / "other.py").write_text(WHERE.replace("NAME", "other"))
    with Running("serve", "--port", "0") as server:
        server.line("Worker +up to")
        there = f"process {server.process.pid}."
        asked = "/tool where {}"
        assert there in process("run", "shop", asked).out
        assert there in process("chat", "shop", text=asked).out
        # By a place that only this command line knows.
        assert there not in process("run", "other.py", asked).out
        # What the settings declare has changed since the server was started.
        (project / "agent.py").write_text(WHERE.replace("NAME", "shop").replace('instructions=""', 'instructions="x"'))
        assert process("run", "shop", "hello").code == 0
        assert len(process("agents", "versions", "shop", "-o", "json").json) == 2


def test_the_variable(project: Path, cli: Run, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("run", "shop", "hello")
    hide(project)
    assert len(cli("sessions", "list", "-o", "json").json) == 1
    monkeypatch.setenv("REMANENCE_DIRECT", "1")
    assert cli("sessions", "list", "-o", "json").json == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("There is none.", param="x"), 404),
        (Busy("Later."), 409),
        (RateLimited("Slowly.", retry_after_s=3), 429),
        (BudgetExceeded("No.", scope="s", unit="tokens", limit=1, used=1, needed=1), 402),
    ],
)
def test_an_error_comes_back_as_what_it_was(error: RemanenceError, status: int) -> None:
    body = {"error": {"type": "t", "code": error.code, "message": error.message, "param": error.param}}
    again = error_of(status, msgspec.json.encode(body))
    assert (type(again), again.message, again.exit_code) == (type(error), error.message, error.exit_code)


def test_an_answer_that_is_none_of_ours() -> None:
    assert isinstance(error_of(502, b"<html>"), StoreUnavailable)


def test_doctor_asks_the_server_how_it_does(project: Path, cli: Run, server: Running) -> None:
    found = {finding["check"]: finding for finding in cli("doctor", "-o", "json").json}
    assert found["server"]["state"] == "ok"
    assert re.fullmatch(r"http://127.0.0.1:\d+ is ready; worker: 0 sessions", found["server"]["found"])
    assert "server" not in [finding["check"] for finding in cli("doctor", "--direct", "-o", "json").json]
    with closing(sqlite3.connect(project / ".remanence" / "remanence.db")) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'dreams', 'x')")
    ran = cli("doctor", "-o", "json")
    wrong = {finding["check"]: finding for finding in ran.json if finding["state"] == "wrong"}
    assert (ran.code, "schema 99" in wrong["server: schema"]["found"]) == (1, True), wrong
    server.signal()
    server.end()
    assert "server" not in [finding["check"] for finding in cli("doctor", "-o", "json").json]


def test_memory_is_asked_over_there(project: Path, cli: Run, server: Running) -> None:
    assert "in idle time" in cli("memory", "rebuild").out, "only a server puts it off"
    kept = cli("memory", "keep", "Lunch is at noon on the terrace.", "--scope", "user:ada", "-o", "json").json
    name = kept["memory"]
    assert kept["author"] == "ada"
    assert cli("memory", "search", "when is lunch?", "-o", "json").json[0]["memory"]["memory"] == name
    assert [row["memory"]["memory"] for row in cli("memory", "search", "--kind", "note", "-o", "json").json] == [name]
    assert cli("memory", "edit", name, "Lunch is at one.", "--seen", "1").code == 0
    assert cli("memory", "edit", name, "Lunch is at two.", "--seen", "1").code == 4
    assert [one["version"] for one in cli("memory", "history", name, "-o", "json").json] == [1, 2]
    assert "Lunch is at noon" in cli("memory", "undo", name).out
    assert "learned from" in cli("memory", "show", name).out
    lines = cli("memory", "export", "-o", "jsonl").out.splitlines()
    assert [msgspec.json.decode(line)["version"] for line in lines] == [1, 2, 3]
    assert cli("memory", "keep", "Be brief.", "--scope", "project", "--block", "style").code == 0
    assert cli("memory", "stores", "create", "team").code == 0
    assert cli("memory", "grant", "team", "agent:shop", "--read", "project").code == 0
    assert "agent:shop" in cli("memory", "grants").out
    assert cli("memory", "revoke", "team", "agent:shop").code == 0
    refused = cli("memory", "attach", "team", "agent:shop")
    assert (refused.code, "has no memory" in refused.err) == (2, True), refused
    assert "team" in cli("memory", "attachments").out
    assert "new to take notes of" in cli("memory", "consolidate", "--model", "scripted").err
    assert cli("memory", "hold", "user:ada", "--reason", "case 12").code == 0
    refused = cli("memory", "erase", "memory", name, "--reason", "asked to", "--yes")
    assert (refused.code, "A legal hold stands over user:ada" in refused.err) == (4, True), refused
    assert "case 12" in cli("memory", "holds").out
    assert cli("memory", "unhold", "user:ada").code == 0
    assert cli("memory", "erase", "memory", name, "--reason", "asked to", "--yes").code == 0
    order = cli("memory", "receipts", "-o", "json").json[0]["order"]["id"]
    assert cli("memory", "verify-erasure", order).out.count("holds ") == 4
    assert cli("memory", "show", name).code == 3
    assert cli("memory", "forget", "nothing").code == 3
