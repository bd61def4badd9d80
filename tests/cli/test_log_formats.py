"""What a server logs, as the settings want it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from cli_project import Run, command_line

TALKATIVE = '''
import structlog
from remanence import Agent, tool

log = structlog.get_logger("shop")

@tool
def look(order: str) -> str:
    """Look an order up."""
    log.info("looked", order=order, of=Agent)
    try:
        raise LookupError(f"no order {order}\\nin the book")
    except LookupError:
        log.exception("not found")
    return "nothing"

shop = Agent("shop", model="default", tools=[look])
'''


def logged(project: Path, cli: Run, **variables: str) -> str:
    """What a worker says on standard error while it runs one turn."""
    (project / "agent.py").write_text(TALKATIVE)
    (project / "remanence.toml").write_text('agents = ["agent.py"]\nlog_level = "info"\n')
    session = cli("run", "shop", '/tool look {"order": "42"}', "--no-wait").out.strip()
    with subprocess.Popen(
        command_line("worker"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | variables
    ) as worker:
        for _ in range(600):
            if cli("sessions", "get", session, "-o", "json", "--direct").json["status"] == "idle":
                break
            threading.Event().wait(0.1)
        worker.send_signal(signal.SIGTERM)
        return worker.communicate(timeout=60)[1]


def test_a_log_for_machines_is_one_object_to_a_line(project: Path, cli: Run) -> None:
    said: list[dict[str, Any]] = [
        json.loads(line) for line in logged(project, cli, REMANENCE_LOG_FORMAT="json").splitlines()
    ]
    looked, missed = (next(line for line in said if line["event"] == event) for event in ("looked", "not found"))
    assert (looked["level"], looked["order"], looked["of"]) == ("info", "42", "<class 'remanence.agent.Agent'>")
    assert looked["timestamp"].endswith("Z")
    assert missed["level"] == "error"
    assert missed["exception"].endswith("LookupError: no order 42\nin the book")


def test_a_log_for_people_is_lines(project: Path, cli: Run) -> None:
    said = logged(project, cli)
    assert "looked" in said
    assert "\nin the book" in said
