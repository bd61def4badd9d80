"""`serve`, `worker` and `dev` as real processes: ready, drained, forced, reloaded; a port that is taken."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from cli_project import AGENT, Run
from serving_process import Running, get, until

from remanence.app import open_database
from remanence.content import text_of
from remanence.events import Event, ToolReturned, TurnEnded, kind_of
from remanence.ports import SessionRow


def journal(session: str) -> tuple[SessionRow, list[Event]]:
    """A session's row and events, read by a process that runs nothing."""

    async def read() -> tuple[SessionRow, list[Event]]:
        database = await open_database("sqlite:///.remanence/remanence.db")
        try:
            records = await database.store.read(session)
            return await database.views.session(session), [record.event for record in records]
        finally:
            await database.close()

    return asyncio.run(read())


def in_a_slow_call(cli: Run, project: Path) -> str:
    """A session whose tool is running in a server: it waits for the file `gate`."""
    ran = cli("run", "shop", '/tool slow {"name": "gate"}', "--no-wait", "--json")
    assert ran.code == 0, ran.err
    until((project / "gate.started").exists)
    return ran.json["session"]


def test_sigterm_in_mid_turn_journals_the_outcome_and_another_worker_finishes(cli: Run, project: Path) -> None:
    with Running("serve", "--port", "0") as server:
        url = server.url()
        assert get(f"{url}/ready")[0] == 200
        assert cli("run", "shop", "hello").code == 0  # a session that rests there a little is no work
        session = in_a_slow_call(cli, project)
        server.signal(signal.SIGTERM)
        server.line("Finishing what runs in 1 session, at most 20 s. Once more stops at once.")
        status, ready = get(f"{url}/ready")
        assert (status, ready["ready"]) == (503, False)
        assert "shutting down" in ready["checks"]["process"]
        assert get(f"{url}/health") == (200, {"status": "ok"})
        (project / "gate").touch()
        assert server.end() == 0
    row, events = journal(session)
    returned = [event for event in events if isinstance(event, ToolReturned)]
    assert [text_of(event.parts) for event in returned] == ["found"]
    assert not any(isinstance(event, TurnEnded) for event in events)
    assert (row.lease_until, row.wake_at is not None) == (None, True)
    with Running("worker") as worker:
        worker.line("worker ready in")
        worker.line("agents: shop")
        until(lambda: isinstance(journal(session)[1][-1], TurnEnded))
        worker.signal(signal.SIGINT)
        assert worker.end() == 0
    row, events = journal(session)
    assert [kind_of(event) for event in events].count("ToolStarted") == 1
    assert (row.summary.status, row.lease_until) == ("idle", None)


def test_streams_end_in_order_with_the_server(cli: Run, project: Path) -> None:
    with Running("serve", "--port", "0") as server:
        url = server.url()
        made = cli("keys", "create", "ada", "-o", "json")
        session = cli("run", "shop", "hello", "--json").json["session"]
        request = urllib.request.Request(f"{url}/v1/agents/sessions/{session}/events")
        request.add_header("authorization", f"Bearer {made.json['text']}")
        with urllib.request.urlopen(request, timeout=60) as stream:
            assert stream.readline() == b"event: agent.session.idle\n"
            server.signal(signal.SIGTERM)
            stream.read()  # to its end: had the connection broken, this would raise
        assert server.end() == 0


def test_a_second_signal_stops_at_once_and_loses_nothing(cli: Run, project: Path) -> None:
    with Running("serve", "--port", "0") as server:
        server.url()
        session = in_a_slow_call(cli, project)
        server.signal(signal.SIGINT)
        server.line("Finishing what runs")
        server.signal(signal.SIGINT)
        assert server.end() == 128 + signal.SIGINT
        assert "Stopped at once. What was acknowledged is kept" in "\n".join(server.printed)
    (project / "gate").touch()
    with Running("worker") as worker:
        worker.line("worker ready in")
        until(lambda: isinstance(journal(session)[1][-1], TurnEnded))
        worker.signal()
        assert worker.end() == 0
    # Nobody knows whether the first call ran to its end; the tool said that it may run twice.
    assert [kind_of(event) for event in journal(session)[1]].count("ToolStarted") == 2


def test_without_a_worker_it_serves_and_runs_nothing(cli: Run, project: Path) -> None:
    with Running("serve", "--port", "0", "--no-worker") as server:
        url = server.url()
        server.line("Worker +none here +sessions wait until one runs: remanence worker")
        ran = cli("run", "shop", "hello", "--no-wait", "--json")
        status, ready = get(f"{url}/ready")
        assert (status, ready["checks"]["worker"]) == (200, "ok: none in this process")
        server.signal()
        assert server.end() == 0
    assert [kind_of(event) for event in journal(ran.json["session"])[1]] == ["SessionOpened", "InputReceived"]


def test_a_port_that_is_taken(cli: Run, project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = cli("serve", "--port", str(port))
        assert (ran.code, ran.out) == (4, "")
        assert f"Port {port} of 127.0.0.1 is taken: another program uses it. Nothing was started." in ran.err
        assert "--port (0 takes any free one)" in ran.err
    with Running("serve", "--port", "0") as server:
        ran = cli("dev", "--port", server.url().rpartition(":")[2])
        assert (ran.code, "remanence 0.1.0 is running there already" in ran.err) == (4, True)


@pytest.mark.parametrize(("host", "says"), [("nowhere.invalid", "is not an address"), ("192.0.2.1", "cannot be used")])
def test_an_address_that_is_not_here(host: str, says: str, cli: Run, project: Path) -> None:
    ran = cli("serve", "--host", host, "--port", "7499")
    assert (ran.code, says in ran.err, "Nothing was started" in ran.err) == (2, True, True)


# --- dev --------------------------------------------------------------------------------------------------------------


def rewrite(path: Path, text: str) -> None:
    """Change a file so that even a coarse clock of the file system shows it."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 1_000_000_000, before + 1_000_000_000))


def test_dev_says_what_is_true_and_starts_again_when_a_file_changes(cli: Run, project: Path) -> None:
    with Running("dev", "--port", "0") as server:
        assert float(server.line(r"^remanence 0\.1\.0  ready in (\d+\.\d+) s$")[1]) < 60
        url = server.url()
        server.line(rf"Docs +{url}/docs$")
        key = server.line(r"Key +(rmn_development_\S{32}) ")[1]
        assert get(f"{url}/v1/agents")[0] == 401
        assert get(f"{url}/v1/agents", key=key)[1]["data"][0]["id"] == "shop"
        server.line(r"Data +\./\.remanence/remanence\.db +SQLite WAL, synchronous=FULL: sessions survive crashes$")
        server.line("Agents +shop")
        server.line(r"Model +scripted \(no LLM\)")
        server.line("Telemetry +none$")
        server.line("Try +remanence chat shop +kill this process at any time and run it again: nothing is lost$")
        pid = server.process.pid
        for name in ("a.json", "a.py", "a.toml"):  # before agent.py: the first that counts is the one that is named
            (project / name).write_text("{}")
        rewrite(project / "agent.py", AGENT.replace('"shop"', '"store"'))
        server.line(r"agent\.py has changed: starting again")
        server.line(r"^remanence 0\.1\.0  again, ready in \d+\.\d+ s$")
        assert server.url() == url
        server.line("Agents +store")
        rewrite(project / "agent.py", "this is not Python")
        server.line(r"agent\.py has changed")
        server.line("The sessions are safe. Waiting for a file to change")
        assert "agent.py" in "\n".join(server.printed[-3:])
        rewrite(project / "remanence.toml", "agents = [")
        server.line(r"remanence: .*not valid TOML")
        server.line("Waiting for a file to change")
        rewrite(project / "remanence.toml", 'agents = ["agent.py"]\n')
        server.line("Waiting for a file to change")
        rewrite(project / "agent.py", AGENT)
        assert server.url() == url
        assert get(f"{url}/health")[0] == 200
        assert server.process.pid == pid
        server.signal(signal.SIGINT)
        assert server.end() == 0


def test_dev_finishes_what_runs_before_it_starts_again(cli: Run, project: Path) -> None:
    with Running("dev", "--port", "0") as server:
        server.line("Try")
        session = in_a_slow_call(cli, project)
        rewrite(project / "agent.py", AGENT + "\n")
        server.line("has changed: starting again once what runs is finished")
        (project / "gate").touch()
        server.line("again, ready in")
        until(lambda: isinstance(journal(session)[1][-1], TurnEnded))
        server.signal()
        assert server.end() == 0
    assert [kind_of(event) for event in journal(session)[1]].count("ToolStarted") == 1


def test_dev_with_nothing_to_keep_says_so(cli: Run, project: Path) -> None:
    with Running("dev", "--port", "0", "--ephemeral", "--no-reload") as server:
        server.line("Data +a temporary file +--ephemeral: the sessions end with this process$")
        server.line("Telemetry")
        server.signal()
        assert server.end() == 0
    assert "Try" not in "".join(server.printed)
    assert not (project / ".remanence").exists()


def test_dev_with_a_broken_agent_does_not_begin(cli: Run, project: Path) -> None:
    (project / "agent.py").write_text("this is not Python")
    ran = cli("dev", "--port", "0")
    assert (ran.code, "agent.py" in ran.err) == (2, True)


def test_dev_tells_of_a_key_and_what_to_do_with_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, its content never printed."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with Running("dev", "--port", "0", "--no-reload") as server:
        server.line(r"Model +scripted \(no LLM\) +found openai, by OPENAI_API_KEY: remanence models use openai:\S+$")
        server.signal()
        assert server.end() == 0
    assert "secret" not in "\n".join(server.printed)
