"""The same commands on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import BIG_REFUND, Run, begun


def test_a_session_from_end_to_end(
    project: Path, cli: Run, empty_postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMANENCE_DATABASE", empty_postgres_database)
    assert cli("sessions", "list", "-o", "json").json == []
    session = begun(cli, BIG_REFUND, 5)
    assert [waiting["session"] for waiting in cli("approvals", "list", "-o", "json").json] == [session]
    assert cli("approvals", "approve", "last", "--yes", "--as", "bob").code == 0
    assert "refunded 9000" in cli("attach", session).out
    assert "approved by bob" in cli("sessions", "tail", session).out
    assert cli("sessions", "freeze", "--all", "-o", "json").json["last_effect_session"] == session
    assert cli("run", "shop", "hello").code == 5
    assert cli("sessions", "thaw", "--all").code == 0
    assert cli("attach", "last").code == 0
    assert cli("budgets", "set", "agent:shop", "--tokens", "10").code == 0
    assert cli("run", "shop", "hello").code == 5
    assert cli("cost", "-o", "json").json[0]["calls"] == 3
    assert cli("sessions", "verify", "--all").code == 0
    assert not list(project.glob(".remanence"))


def test_a_server_that_is_not_there(project: Path, cli: Run) -> None:
    ran = cli("--database", "postgresql://ada@127.0.0.1:1/nowhere", "sessions", "list")
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
    assert "127.0.0.1" in ran.err
