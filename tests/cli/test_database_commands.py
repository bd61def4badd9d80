"""`db` and `doctor` over real databases: what they say, what they leave alone, and their exit codes."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_project import BIG_REFUND, Run, begun

from remanence.stores.migrations import migrations
from remanence.stores.sqlite.schema import APPLICATION_ID

DATABASE = ".remanence/remanence.db"
MB = 1_000_000


# --- the schema -------------------------------------------------------------------------------------------------------


def test_migrate_makes_what_is_missing_and_then_has_nothing_to_do(cli: Run, project: Path) -> None:
    ran = cli("db", "status")
    assert (ran.code, "There is no database" in ran.err, "remanence db migrate" in ran.err) == (3, True, True)
    assert not (project / DATABASE).exists()
    made = cli("db", "migrate", "-o", "json").json
    assert made["applied"][0] == "0001_journal"
    assert made["schema"] == len(made["applied"])
    assert cli("db", "migrate").out == f"Nothing to do. {made['database']} has schema {made['schema']}.\n"


def test_status_and_stats(cli: Run, project: Path) -> None:
    begun(cli, "hello")
    begun(cli, BIG_REFUND, code=5)
    status = cli("db", "status", "-o", "json").json
    assert (status["pending"], status["schema"] == status["known"], status["sessions"]) == ([], True, 2)
    assert status["durability"] == "journal_mode=WAL, synchronous=FULL"
    assert 0 < status["bytes"] < MB
    shown = cli("db", "status").out
    assert "up to date" in shown
    stats = cli("db", "stats", "-o", "json").json
    assert (stats["backend"], stats["sessions"]) == ("sqlite", {"idle": 1, "waiting": 1})
    assert stats["records"] > 10
    assert "waiting" in cli("db", "stats").out


def made_by_the_first_release(path: Path) -> list[str]:
    """A database that has the first migration alone; the names of those it lacks."""
    first, *others = migrations("sqlite")
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA journal_mode = WAL; {first.sql}")
        connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, digest TEXT)")
        connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (first.number, first.name, first.digest))
    return [f"{one.number:04}_{one.name}" for one in others]


def test_status_tells_of_pending_migrations_and_does_not_apply_them(cli: Run, project: Path) -> None:
    pending = made_by_the_first_release(project / DATABASE)
    ran = cli("db", "status", "-o", "json")
    assert (ran.code, ran.json["pending"], ran.json["durability"]) == (1, pending, None)
    ran = cli("db", "status")
    assert (ran.code, "pending" in ran.out, "make a backup, then: remanence db migrate" in ran.err) == (1, True, True)
    assert cli("db", "migrate", "-o", "json").json["applied"] == pending
    assert cli("db", "status").code == 0


def test_a_newer_schema_is_left_alone(cli: Run, project: Path) -> None:
    cli("db", "migrate")
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES (99, 'dreams', 'x')")
    for command in (["db", "status"], ["db", "migrate"], ["db", "stats"], ["sessions", "list"]):
        ran = cli(*command)
        assert (ran.code, "has schema 99" in ran.err, "Nothing was changed" in ran.err) == (1, True, True), command


# --- upkeep -----------------------------------------------------------------------------------------------------------


def test_prune_forgets_old_idempotency_keys(cli: Run, project: Path) -> None:
    session = begun(cli, "hello")
    assert cli("sessions", "send", session, "again", "--idempotency-key", "k1").code == 0
    assert cli("db", "prune", "-o", "json").json["keys"] == 0
    assert cli("db", "prune", "--older-than", "0h", "-o", "json").json["keys"] == 1
    ran = cli("db", "prune", "--older-than", "soon")
    assert (ran.code, "such as 30d" in ran.err) == (2, True)


def test_backup_and_copy(cli: Run, project: Path) -> None:
    session = begun(cli, BIG_REFUND, code=5)
    ran = cli("db", "backup", "backup.db")
    assert (ran.code, "backup.db: 0." in ran.out, "complete" in ran.out) == (0, True, True)
    ran = cli("db", "backup", "backup.db")
    assert (ran.code, "left as it is" in ran.err) == (4, True)
    there = f"sqlite:///{project}/there.db"
    ran = cli("db", "copy", there)
    assert (ran.code, "1 session with" in ran.out) == (0, True)
    again = cli("db", "copy", there, "-o", "json").json
    assert (again["sessions"], again["present"], again["refused"]) == (0, 1, [])
    for url in (f"sqlite:///{project}/backup.db", there):
        listed = cli("--database", url, "sessions", "list", "-o", "json").json
        assert [(row["session"], row["status"]) for row in listed] == [(session, "waiting")]
        assert cli("--database", url, "sessions", "verify", "--all").code == 0
    ran = cli("db", "copy", "mysql://nowhere")
    assert (ran.code, "not a database this release knows" in ran.err) == (2, True)


def test_a_copy_to_postgresql_and_back(cli: Run, project: Path, empty_postgres_database: str) -> None:
    session = begun(cli, BIG_REFUND, code=5)
    assert cli("db", "copy", empty_postgres_database).code == 0
    status = cli("--database", empty_postgres_database, "db", "status", "-o", "json").json
    assert (status["pending"], status["sessions"]) == ([], 1)
    assert "password" not in status["database"]
    approved = cli("--database", empty_postgres_database, "approvals", "approve", session, "--yes")
    assert approved.code == 0, approved.err
    assert cli("--database", empty_postgres_database, "db", "backup", "from-postgres.db").code == 0
    url = f"sqlite:///{project}/from-postgres.db"
    assert [row["session"] for row in cli("--database", url, "sessions", "list", "-o", "json").json] == [session]


def test_a_copy_names_what_it_could_not_copy(cli: Run, project: Path) -> None:
    session = begun(cli, "hello")
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        connection.execute("UPDATE records SET at = at + 1 WHERE place = (SELECT max(place) FROM records)")
    ran = cli("db", "copy", f"sqlite:///{project}/there.db")
    assert (ran.code, f"Not copied: {session}: Record" in ran.err) == (1, True)


def test_a_file_of_another_program_is_called_that_by_whoever_looks_at_it(cli: Run, project: Path) -> None:
    with closing(sqlite3.connect(project / "theirs.db")) as connection, connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = (project / "theirs.db").read_bytes()
    for words in (("db", "status"), ("db", "migrate"), ("db", "stats"), ("sessions", "list"), ("doctor",)):
        ran = cli("--database", "sqlite:///theirs.db", *words)
        assert ran.code in (1, 2)
        assert "theirs.db is a SQLite database of another program. It was left as it is" in ran.out + ran.err
    assert (project / "theirs.db").read_bytes() == before


# --- doctor -----------------------------------------------------------------------------------------------------------


def examined(cli: Run, code: int = 0) -> dict[str, dict[str, Any]]:
    """What doctor finds, by check."""
    ran = cli("doctor", "-o", "json")
    assert ran.code == code, ran.out + ran.err
    return {finding["check"]: finding for finding in ran.json}


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    monkeypatch.setenv("REMANENCE_PORT", str(free))
    return free


def test_doctor_on_what_is_well(cli: Run, project: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(cli, "hello")
    found = examined(cli)
    assert {name for name, finding in found.items() if finding["state"] != "ok"} <= {"model", "file system", "disk"}
    assert {
        "python",
        "sqlite",
        "packages",
        "settings",
        "agents",
        "port",
        "clock",
        "writing",
        "database",
        "workers",
    } <= (found.keys())
    assert found["agents"]["found"] == "shop"
    assert "journal_mode=WAL, synchronous=FULL" in found["database"]["found"]
    shown = cli("doctor")
    assert (shown.code, "to look at" in shown.out) == (0, True)


def test_doctor_finds_what_lists_do_not_show(cli: Run, project: Path, port: int) -> None:
    """A session whose journal is damaged is listed as it was when it was last written."""
    begun(cli, "hello")
    path = project / DATABASE
    assert {examined(cli)[name]["state"] for name in ("pages", "journals")} == {"ok"}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE records SET actor = 'mallory' WHERE place & 0xffffffff = 3")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'snapshots'").fetchone()[0]
    assert cli("sessions", "list").code == 0
    journals = examined(cli, 1)["journals"]
    assert (journals["state"], "damaged at record 3" in journals["found"]) == ("wrong", True)
    assert "sessions verify --all" in journals["advice"]
    with path.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(b"\xa5" * 4_096)
    pages = examined(cli, 1)["pages"]
    assert (pages["state"], str(page) in pages["found"]) == ("wrong", True)


def test_doctor_says_that_an_index_was_lost(cli: Run, project: Path, port: int) -> None:
    begun(cli, "hello")
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        lost = "CAST(x'00000000' || x'8f51' || block AS BLOB)"
        connection.execute(f"UPDATE search_words_data SET block = {lost} WHERE id = 10")
    found = examined(cli)["search"]
    assert found["state"] == "warning"
    assert "It was made again from its texts just now" in found["found"]
    assert "search" not in examined(cli)


def test_doctor_misses_the_key_of_the_default_model(
    cli: Run, project: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMANENCE_MODEL", "openai:gpt-6-astra")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran = cli("doctor")
    assert (ran.code, "OPENAI_API_KEY is not set" in ran.out) == (1, True)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-anything")
    assert "is not set" not in cli("doctor").out


def test_doctor_never_shows_a_key(cli: Run, project: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    for output in ("table", "json"):
        ran = cli("doctor", "-o", output)
        assert ("OPENAI_API_KEY" in ran.out, "secret" in ran.out + ran.err) == (True, False)


def test_doctor_names_settings_agents_models_and_ports_that_are_wrong(
    cli: Run, project: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project / "remanence.toml"
    good = settings.read_text()
    settings.write_text(good + "[models.fast]\nprovider = 'openai'\nkey_env = 'FAST_KEY'\n")
    monkeypatch.setenv("REMANENCE_MODEL", "fast")
    with socket.create_server(("127.0.0.1", port)):
        (project / "agent.py").write_text("this is not Python")
        found = examined(cli, code=1)
    wrong = {name for name, finding in found.items() if finding["state"] == "wrong"}
    assert wrong == {"agents", "model fast", "port"}
    assert found["model fast"]["found"] == "FAST_KEY is not set"
    assert all(found[name]["advice"] for name in wrong)
    settings.write_text("agnets = []")
    found = examined(cli, code=1)
    assert "Did you mean `agents`?" in found["settings"]["found"]


@pytest.mark.parametrize("content", [b"", b"not a database, and long enough to be told apart from one" * 100])
def test_doctor_on_a_database_that_is_none(content: bytes, cli: Run, project: Path, port: int) -> None:
    (project / ".remanence").mkdir()
    (project / DATABASE).write_bytes(content)
    before = (project / DATABASE).read_bytes()
    ran = cli("doctor", "-o", "json")
    found = {finding["check"]: finding for finding in ran.json}["database"]
    assert found["state"] == ("wrong" if content else "warning")
    assert (project / DATABASE).read_bytes() == before


def test_doctor_tells_who_waits(cli: Run, project: Path, port: int) -> None:
    begun(cli, BIG_REFUND, code=5)
    begun(cli, '/tool wire {"cents": 1}', code=5)
    session = begun(cli, "hello")
    cli("sessions", "freeze", "--agent", "shop", "--reason", "repairs")
    assert cli("sessions", "send", session, "again").code == 0
    set_back(project, session)
    found = examined(cli, code=1)
    assert found["waiting: approval"]["advice"] == "remanence approvals list"
    assert found["waiting: doubt"]["advice"] == "remanence doubts list"
    assert "agent:shop is frozen by ada: repairs" in found["freeze"]["found"]
    assert "remanence sessions thaw --agent shop" in found["freeze"]["advice"]
    assert (found["workers"]["state"], found["workers"]["advice"]) == (
        "wrong",
        "Run one that has their agents: remanence worker",
    )


def set_back(project: Path, session: str) -> None:
    """Let a session have been due for an hour."""
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        changed = connection.execute(
            "UPDATE heads SET wake_at = wake_at - 3600000000 WHERE id = (SELECT id FROM sessions WHERE name = ?)",
            (session,),
        )
        assert changed.rowcount == 1


def test_doctor_notices_a_clock_that_was_set_back(cli: Run, project: Path, port: int) -> None:
    begun(cli, "hello")
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        connection.execute(
            "UPDATE heads SET updated_at = updated_at + 7200000000, updated_minute = updated_minute + 120"
        )
    found = examined(cli)["clock and journal"]
    assert (found["state"], "s in the future" in found["found"]) == ("warning", True)
