"""`db stats`, `db status` and `metrics`: the figures of a database, asked of its server or of itself."""

from __future__ import annotations

from pathlib import Path

from cli_project import BIG_REFUND, Run, begun


def test_stats_and_status(project: Path, cli: Run) -> None:
    begun(cli, "hello")
    begun(cli, BIG_REFUND, 5)
    stats = cli("db", "stats", "-o", "json").json
    assert (stats["backend"], stats["sessions"]) == ("sqlite", {"idle": 1, "waiting": 1})
    status = cli("db", "status", "-o", "json").json
    assert (status["sessions"], status["durability"]) == (2, stats["durability"])
    assert [line.split() for line in cli("db", "stats").out.splitlines()[-2:]] == [["idle", "1"], ["waiting", "1"]]
    assert cli("db", "stats", "--direct", "-o", "json").json["records"] == stats["records"]


def test_metrics(project: Path, cli: Run, way: str) -> None:
    begun(cli, "hello")
    text = cli("metrics").out
    lines = text.splitlines()
    assert "# TYPE remanence_sessions gauge" in lines
    assert 'remanence_sessions{status="idle"} 1' in lines
    assert "remanence_model_calls_total{model=" in text
    # Only a process that goes on has counted something.
    assert ("remanence_process_records_total" in text) == (way == "server")
    assert cli("metrics", "--project", "other").out == text, "they are those of every project"
