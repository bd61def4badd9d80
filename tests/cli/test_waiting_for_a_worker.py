"""What the commands say of sessions that wait for a worker while none runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, begun

from remanence.testing.wire import Answer, WireServer


def listed(cli: Run, *more: str) -> list[tuple[str, str]]:
    rows = cli("sessions", "list", *more, "-o", "json").json
    return sorted((row["session"], row["status"]) for row in rows)


def test_an_input_that_waits_shows_where_no_worker_runs(project: Path, cli: Run) -> None:
    opened = cli("run", "shop", "hello", "--no-wait").out.strip()
    asked = cli("sessions", "get", opened, "-o", "json").json
    assert (asked["status"], asked["queued"]) == ("queued", 1)
    assert listed(cli) == [(opened, "queued")]
    assert cli("attach", opened).code == 0
    assert listed(cli) == listed(cli, "--status", "idle") == [(opened, "idle")]
    assert cli("sessions", "send", opened, "again").code == 0
    assert listed(cli, "--status", "queued") == [(opened, "queued")]
    assert listed(cli, "--status", "idle") == []
    assert cli("db", "stats", "-o", "json").json["sessions"] == {"queued": 1}


def test_what_changes_nothing_does_not_wait(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    for verb in ("freeze", "thaw"):
        assert cli("sessions", verb, session).code == 0
    assert listed(cli) == [(session, "idle")]
    assert cli("sessions", "freeze", session).code == 0
    assert cli("sessions", "send", session, "hold on").code == 0
    assert listed(cli) == [(session, "frozen")]
    assert cli("sessions", "thaw", session).code == 0
    assert listed(cli) == [(session, "queued")]


def test_an_answer_that_no_worker_has_read_yet_waits_for_nobody(project: Path, cli: Run) -> None:
    session = begun(cli, '/tool ask_human {"question": "Which colour?"}', 5)
    assert listed(cli, "--status", "waiting") == [(session, "waiting")]
    assert cli("sessions", "send", session, "blue", "--answers", "call_1_1_1").code == 0
    assert listed(cli) == [(session, cli("sessions", "get", session, "-o", "json").json["status"])]
    assert listed(cli, "--status", "waiting") == []


def test_between_two_attempts_nobody_is_missed(
    project: Path, cli: Run, served: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pause is longer than the patience after which a wait is explained.
    slow = Answer(status=429, headers={"retry-after": "4"})
    served.answer_with(slow, Answer(text="Here I am."))
    monkeypatch.setenv("REMANENCE_UPSTREAM_URL", f"{served.url}/v1")
    monkeypatch.setenv("REMANENCE_MODEL", "any-name:7b")
    ran = cli("run", "shop", "hello")
    assert (ran.code, ran.out) == (0, "Here I am.\n")
    assert "No worker" not in ran.err
    assert "The model is asked again at " in ran.err


def test_why_a_turn_failed_is_said_to_its_last_word(
    project: Path, cli: Run, served: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.answer_with(Answer(status=400, text="long " * 60 + "end"))
    monkeypatch.setenv("REMANENCE_UPSTREAM_URL", f"{served.url}/v1")
    monkeypatch.setenv("REMANENCE_MODEL", "any-name:7b")
    ran = cli("run", "shop", "hello")
    assert ran.code == 1
    last = ran.err.splitlines()[-1]
    assert last.startswith("turn failed: model: default refused the request (400): long long")
    assert last.endswith("long end. Everything before this call is kept. Change what it names and send again.")
