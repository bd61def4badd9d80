"""A SQLite file that can only be read is read, by every command that only reads; writing is refused in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from remanence import Agent, Remanence
from remanence.app import Options
from remanence.content import Text
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

# Root may write everything. A process without capabilities may do what the permissions say.
CHILD = """
import ctypes, json, sys
from click.testing import CliRunner

class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

libc = ctypes.CDLL(None, use_errno=True)
assert libc.capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0, ctypes.get_errno()
from remanence.cli.root import remanence

for line in sys.stdin:
    ran = CliRunner().invoke(remanence, json.loads(line), prog_name="remanence")
    print(json.dumps([ran.exit_code, ran.stdout, ran.stderr, repr(ran.exception)]))
"""
# Another process that has the file open and dies: its log and the index of that stay behind.
KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("UPDATE summaries SET title = 'only in the log'")
os.kill(os.getpid(), signal.SIGKILL)
"""
READS = [
    ["sessions", "list", "-o", "json"],
    ["sessions", "get", "S"],
    ["sessions", "tail", "S"],
    ["sessions", "verify", "S"],
    ["cost", "-o", "json"],
    ["cost", "--by", "session,day"],
    ["db", "status"],
    ["doubts", "list", "-o", "json"],
]
WRITES = [["sessions", "send", "S", "hello"], ["budgets", "set", "user:ada", "--tokens", "5"], ["worker"]]


def speak(request: ModelRequest) -> ModelReply:
    return ModelReply((Text("good day"),))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)


async def filled(folder: Path) -> str:
    async with Remanence(f"sqlite:///{folder}/r.db", options=Options(model=Scripted(speak))) as rt:
        session = await rt.open(Agent("host", model="scripted"))
        await session.send("hello")
    return session.id


def bar(folder: Path, *, only_file: bool = False) -> None:
    for file in folder.iterdir():
        file.chmod(0o444)
    if not only_file:
        folder.chmod(0o555)


def commands(folder: Path, session: str, *wanted: list[str]) -> list[tuple[int, str, str]]:
    lines = [[session if word == "S" else word for word in words] for words in wanted]
    given = b"\n".join(msgspec.json.encode([f"--database=sqlite:///{folder}/r.db", *line]) for line in lines)
    environment = {**os.environ, "NO_COLOR": "1", "REMANENCE_USER": "ada"}
    ran = subprocess.run(
        [sys.executable, "-c", CHILD], input=given, cwd=folder, env=environment, check=True, timeout=60, stdout=-1
    )
    answers: list[Any] = [msgspec.json.decode(line) for line in ran.stdout.splitlines()]
    assert len(answers) == len(lines)
    return [(code, out, err) for code, out, err, _ in answers]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("r.db*") if not file.name.endswith("-shm")}


def with_a_log(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, folder / "r.db"], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert (folder / "r.db-wal").stat().st_size > 0


@pytest.mark.parametrize("way", ["file", "folder", "log"])
async def test_it_is_read_and_not_written(way: str, place: Path) -> None:
    session = await filled(place)
    if way == "log":
        with_a_log(place)
    bar(place, only_file=way == "file")
    before = contents(place)
    answers = commands(place, session, *READS, ["sessions", "export", "S", "-"], *WRITES, ["doctor"])
    for (code, out, err), words in zip(answers[: len(READS) + 1], [*READS, ["export"]], strict=True):
        assert (code, bool(out)) == (0, True), (words, out, err)
        assert "can only be read here: there is no permission to write the file. Nothing can be written" in " ".join(
            err.split()
        )
    listed = msgspec.json.decode(answers[0][1])
    assert [row["title"] for row in listed] == ["only in the log" if way == "log" else ""]
    assert [(row["key"], row["calls"]) for row in msgspec.json.decode(answers[4][1])] == [({"agent": "host"}, 1)]
    assert session in answers[5][1]
    for (code, _, err), words in zip(answers[len(READS) + 1 : -1], WRITES, strict=True):
        assert code == 1, words
        assert "Nothing of this was kept" in err
    code, out, _ = answers[-1]
    assert code == 1
    assert "sessions can be read, and nothing written" in " ".join(out.split())
    after = contents(place)
    assert {name: held for name, held in after.items() if held} == before


async def test_a_link_from_a_folder_that_cannot_be_written_is_no_obstacle(place: Path, tmp_path: Path) -> None:
    session = await filled(place)
    links = tmp_path / "links"
    links.mkdir()
    (links / "r.db").symlink_to(place / "r.db")
    links.chmod(0o555)
    ((code, _, err),) = commands(links, session, ["sessions", "send", "S", "hello"])
    links.chmod(0o755)
    assert (code, "can only be read" in err) == (0, False)


async def test_a_log_that_cannot_be_read_in_place_says_what_to_do(place: Path) -> None:
    session = await filled(place)
    with_a_log(place)
    (place / "r.db-shm").unlink()
    bar(place)
    ((code, _, err),) = commands(place, session, ["sessions", "list"])
    assert code == 1
    assert "Copy both files together" in " ".join(err.split())
