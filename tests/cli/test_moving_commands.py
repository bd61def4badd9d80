"""`sessions export`, `import` and `verify`: a session as one file, and what is said of a damaged one."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import msgspec
import pytest
from cli_project import SMALL_REFUND, Run, begun, command_line

from remanence.core.snapshots import decode_snapshot, encode_snapshot


def test_export_and_import(project: Path, cli: Run, tmp_path: Path) -> None:
    session = begun(cli, "hello")
    ran = cli("sessions", "export", session)
    assert f"{session}.remanence: 6 records" in ran.out
    assert cli("sessions", "export", session).code == 4
    other = ("--database", "sqlite:///other.db")
    ran = cli(*other, "sessions", "import", f"{session}.remanence")
    assert ran.code == 0, ran.err
    assert f"{session}: 6 records of agent shop, idle." in ran.out
    assert cli(*other, "sessions", "import", f"{session}.remanence").code == 4
    assert cli(*other, "sessions", "import", f"{session}.remanence", "--as-session", "copy", "-o", "json").code == 0
    assert cli(*other, "sessions", "send", "copy", SMALL_REFUND, "--wait").code == 0
    damaged = Path(f"{session}.remanence").read_bytes()
    Path("damaged").write_bytes(damaged[:200] + b"\0\0\0\0" + damaged[204:])
    ran = cli(*other, "sessions", "import", "damaged", "--as-session", "third")
    assert ran.code == 2
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("missing", 3, "There is no file or folder missing. Nothing was written."),
        (".", 2, ". cannot be used (Is a directory)"),
        ("empty", 2, "empty is not a session that Remanence exported: it is empty"),
        ("agent.py", 2, "agent.py is not a session that Remanence exported"),
    ],
)
def test_an_import_that_cannot_be_leaves_no_database_behind(
    project: Path, cli: Run, name: str, code: int, says: str
) -> None:
    Path("empty").touch()
    ran = cli("--database", "sqlite:///other.db", "sessions", "import", name)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert not Path("other.db").exists()


def test_export_to_stdout(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    done = subprocess.run(command_line("sessions", "export", session, "-"), capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith(b"PK")
    _flip(project, session)
    done = subprocess.run(command_line("sessions", "export", session, "-"), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, b""), "not a byte of a journal that is damaged"
    assert b"was not exported: record 2 is not as it was written" in done.stderr


def test_verify(project: Path, cli: Run) -> None:
    session = begun(cli, "hello")
    forked = cli("sessions", "fork", session, "-o", "json").json["session"]
    ran = cli("sessions", "verify", session)
    assert (ran.code, ran.out.splitlines()[1].split()[:3]) == (0, [session, "intact", "6"])
    everything = cli("sessions", "verify", "--all", "-o", "json").json
    assert f"{len(everything)} sessions of {len(everything)} as written." in cli("sessions", "verify", "--all").err
    assert {row["session"]: row["faults"] for row in everything} == {session: 0, forked: 0}
    assert cli("sessions", "verify").code == 2
    _flip(project, session)
    ran = cli("sessions", "verify", session)
    assert ran.code == 1
    assert f"{session}, record 2: its content" in ran.err


def test_verify_names_a_changed_snapshot_and_mends_it(project: Path, cli: Run) -> None:
    forked = cli("sessions", "fork", begun(cli, "hello"), "-o", "json").json["session"]
    _forge_snapshots(project, "Hacked")
    ran = cli("sessions", "verify", forked)
    assert (ran.code, ran.out.splitlines()[1].split()[1:6]) == (1, ["intact", "7", "6", "0", "1"])
    assert f"{forked}, snapshot at record 7: it differs from what the records say, in: title" in ran.err
    assert f"remanence sessions verify {forked} --mend" in ran.err
    ran = cli("sessions", "verify", forked, "--mend")
    assert (ran.code, "Dropped 1 snapshot. Nothing is lost" in ran.err) == (0, True)
    assert cli("sessions", "verify", "--all", "--mend").code == 0
    assert "Hacked" not in cli("sessions", "get", forked).out
    _flip(project, forked)
    assert cli("sessions", "verify", forked, "--mend").code == 1


def _forge_snapshots(project: Path, title: str) -> None:
    """Give every snapshot another title, as somebody would who knows how they are written."""
    connection = sqlite3.connect(project / ".remanence" / "remanence.db")
    with connection:
        for place, state in connection.execute("SELECT place, state FROM snapshots").fetchall():
            s = decode_snapshot(state[17:], "whose")  # before that is what binds it to its record
            assert s is not None
            forged = encode_snapshot(msgspec.structs.replace(s, title=title))
            connection.execute("UPDATE snapshots SET state = ? WHERE place = ?", (forged, place))
    connection.close()


def _flip(project: Path, session: str) -> None:
    """Change what was said, behind the back of the journal."""
    connection = sqlite3.connect(project / ".remanence" / "remanence.db")
    with connection:
        changed = connection.execute(
            "UPDATE records SET payload = CAST(replace(CAST(payload AS TEXT), 'hello', 'howdy') AS BLOB) "
            "WHERE CAST(payload AS TEXT) LIKE '%hello%' AND CAST(payload AS TEXT) LIKE '%InputReceived%'"
        )
        assert changed.rowcount == 1
    connection.close()
