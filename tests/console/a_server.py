"""A project with golden journals and an agent that talks, served by `remanence dev` as a real process."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from remanence.app import open_database
from remanence.core.session import fold
from remanence.core.state import Session, status_of, waiting_on
from remanence.ports import Database, RawRecord, Summary
from remanence.spec import AgentSpec
from remanence.testing.golden import Row, records_in, rows_in

WAIT_S = 60
JOURNALS = Path(__file__).resolve().parent.parent / "journals"
GOLDEN = sorted(path.stem for path in JOURNALS.glob("*.jsonl"))
CUT_OFF = {
    "budget_reached": ("budget_reached_and_raised", "BudgetReached"),
    "question_waiting": ("question", "QuestionAsked"),
    "in_doubt": ("doubt_resolved", "ToolLost"),
}
"""Sessions that wait: golden journals as they were at the first record of a kind."""
KEY = "rmn_console_of_the_tests"

AGENT = '''
from remanence import Agent, tool


@tool(replay="never", approval="cents > 5000")
def refund(order: str, cents: int) -> str:
    """Refund an order."""
    return f"refunded {cents} cents for order {order}"


shop = Agent("shop", model="default", instructions="Help the customers of a small shop.", tools=[refund])
'''
SETTINGS = 'agents = ["agent.py"]\nmodel = "scripted:script.toml"\n\n[worker]\nlease_s = 3\n'
SCRIPT = """
[[dialogues]]
when = "story"
[[dialogues.steps]]
text = "Once upon a time there was a kettle that whistled in the key of B, and nobody minded. It whistled on and on."
piece_s = 0.3

[[dialogues]]
when = "refund"
[[dialogues.steps]]
text = "I look at the order, then I pay back what it cost."
piece_s = 0.02
[[dialogues.steps.calls]]
tool = "refund"
arguments = { order = "O-42", cents = 7250 }
[[dialogues.steps]]
text = "Done: $result."

[[dialogues]]
when = "fails"
[[dialogues.steps]]
fail = { kind = "invalid_request", times = 0, message = "The script fails here." }

[[dialogues]]
[[dialogues.steps]]
text = "You said: $user"
"""


def lay_out(folder: Path, *, golden: bool = True) -> Path:
    """The project's files, and a database that holds every golden journal under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("agent.py", AGENT), ("remanence.toml", SETTINGS), ("script.toml", SCRIPT)):
        (folder / name).write_text(text)
    if golden:
        # In a thread of its own: where a browser is driven, an event loop runs already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, restore(folder / ".remanence" / "remanence.db")).result()
    return folder


def lay_down_again(folder: Path, names: Sequence[str], times: int) -> None:
    """The same journals under the names `NAME_1`, `NAME_2`..., in a folder that was laid out."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _again(folder / ".remanence" / "remanence.db", names, times)).result()


async def _again(path: Path, names: Sequence[str], times: int) -> None:
    database = await open_database(f"sqlite:///{path}")
    try:
        for name in names:
            for number in range(1, times + 1):
                await _lay_down(database, f"{name}_{number}", _lines_of(name))
    finally:
        await database.close()


async def restore(path: Path) -> None:
    """A database at this path with every golden journal in it."""
    path.parent.mkdir(parents=True)
    database = await open_database(f"sqlite:///{path}")
    try:
        await restore_into(database)
    finally:
        await database.close()


async def restore_into(database: Database) -> None:
    """Every golden journal under its own name, those that are cut off, and the versions they pin."""
    for spec in _specs():
        await database.specs.put(spec, project="default", at=1)
    for name in (*GOLDEN, *CUT_OFF):
        await _lay_down(database, name, _lines_of(name))


def _lines_of(name: str) -> list[bytes]:
    """A golden journal, or what one was at the first record of a kind."""
    journal, kind = CUT_OFF.get(name, (name, ""))
    lines = (JOURNALS / f"{journal}.jsonl").read_bytes().splitlines()
    rows = enumerate(rows_in(b"\n".join(lines)), 1)
    return lines[: next((number for number, row in rows if _kind(row.payload) == kind), len(lines))]


async def _lay_down(database: Database, name: str, lines: Sequence[bytes]) -> None:
    content = b"\n".join(lines)
    s = fold(Session(name), records_in(content))
    if s.project == "default":
        await database.restore(name, [_raw(row) for row in rows_in(content)], _summary(s), None)


def _specs() -> Sequence[AgentSpec]:
    """The versions that the golden journals were written under."""
    path = Path(__file__).resolve().parents[2] / "scripts" / "golden_scenarios.py"
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return tuple(module.KNOWN_SPECS.values())


def _raw(row: Row) -> RawRecord:
    return RawRecord(
        row.position,
        row.at,
        row.epoch,
        row.actor,
        _kind(row.payload),
        row.payload.encode(),
        bytes.fromhex(row.digest),
        bytes.fromhex(row.payload_digest) or None,
    )


def _kind(payload: str) -> str:
    return msgspec.json.decode(payload, type=dict[str, Any])["type"]


def _summary(s: Session) -> Summary:
    return Summary(
        agent=s.agent,
        version=s.version,
        project=s.project,
        user=s.user,
        status=status_of(s),
        waiting_on=waiting_on(s),
        title=s.title,
        turns=s.turns,
        usd_micros=s.ledger.usd_micros,
        tokens=s.ledger.usage.total_tokens,
        needs="an agent that is nowhere",
    )


def surroundings() -> dict[str, str]:
    """The environment of a process of ours: none of this machine's own settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("REMANENCE_")}
    return {**own, "REMANENCE_API_KEY": KEY, "REMANENCE_USER": "ada", "NO_COLOR": "1"}


class Server:
    """`remanence dev` over a folder. `link` signs in whoever opens it."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "remanence", "dev", "--port", str(port), "--no-reload"],
            cwd=folder,
            env=surroundings(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self.printed: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self.link = self._line(r"Console\s+(http://\S+)")
            self.url = self.link.partition("/?")[0]
            self._line(r"(Telemetry)")
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _line(self, pattern: str) -> str:
        while True:
            line = self._lines.get(timeout=WAIT_S)
            assert line is not None, f"it ended without {pattern!r}:\n" + "\n".join(self.printed)
            self.printed.append(line)
            found = re.search(pattern, line)
            if found:
                return found[1]

    def kill(self) -> None:
        """SIGKILL: no time for anything."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving(folder: Path, *, port: int = 0) -> Iterator[Server]:
    """A server meanwhile."""
    server = Server(folder, port=port)
    try:
        yield server
    finally:
        server.close()
