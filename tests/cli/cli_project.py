"""A project in a folder of its own, and two ways to run the command there: in this process, and as a real one."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from remanence.cli.root import remanence
from remanence.testing.wire import Answer, WireServer

AGENT = '''
import asyncio
import multiprocessing
import os
from pathlib import Path

from remanence import Agent, tool
from remanence.errors import EffectInDoubt
from remanence.tools import ask_human, sleep_until


@tool(replay="never", approval="cents > 5000")
def refund(order: str, cents: int) -> str:
    """Refund an order."""
    return f"refunded {cents}"


@tool(replay="never")
def wire(cents: int) -> str:
    """Send money over a line that breaks."""
    raise EffectInDoubt("the line broke")


@tool(replay="safe")
async def slow(name: str) -> str:
    """Wait until a file of that name is there."""
    Path(name + ".started").touch()
    while not Path(name).exists():
        await asyncio.sleep(0.01)
    return "found"


shop = Agent("shop", model="default", instructions="Help.", tools=[refund, wire, slow, ask_human, sleep_until])
'''
SETTINGS = 'agents = ["agent.py"]\n\n[worker]\nlease_s = 3\n'

BIG_REFUND = '/tool refund {"order": "42", "cents": 9000}'
SMALL_REFUND = '/tool refund {"order": "42", "cents": 900}'


LOADED = (
    "remanence.cli.serving",
    "remanence.cli.serve",
    "remanence.api.faces",
    "remanence.console.router",
    "remanence.app",
    "remanence.stores.sqlite.database",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "websockets.server",
)
"""What a server has loaded before it is forked: all that it would load."""


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and none of this machine's own settings."""
    for name in [name for name in os.environ if name.startswith("REMANENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REMANENCE_USER", "ada")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(folder: Path) -> Path:
    """A folder with an agent `shop` in it."""
    (folder / "agent.py").write_text(AGENT)
    (folder / "remanence.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """Whether commands ask the `database`, or a `server` that runs for it."""
    return getattr(request, "param", "database")


@pytest.fixture
def cli(folder: Path, way: str) -> Iterator[Run]:
    """Runs a command in this process. The `server` is started with the first one."""
    servers: list[BaseProcess] = []

    def run(*args: str, text: str | None = None) -> Ran:
        if way == "server" and not servers:
            servers.append(started(folder))
        result = CliRunner().invoke(remanence, args, input=text, prog_name="remanence")
        return Ran(result.exit_code, result.stdout, result.stderr)

    yield run
    for server in servers:
        server.terminate()
        server.join(60)
        assert server.exitcode == 0
        assert not (folder / ".remanence" / "server.json").exists()


def started(folder: Path) -> BaseProcess:
    """A server that answers, in a process of its own. They are forked from one that has loaded everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    environment = {name: os.environ[name] for name in ("REMANENCE_USER", "NO_COLOR", "TZ")}
    server = context.Process(target=serve_in, args=(str(folder), environment), daemon=True)
    server.start()
    pause = threading.Event()
    while not (folder / ".remanence" / "server.json").exists():
        assert server.is_alive(), (folder / "server.log").read_text()
        pause.wait(0.01)
    return server


def serve_in(folder: str, environment: dict[str, str]) -> None:
    """What the process of a server does."""
    for name in [name for name in os.environ if name.startswith("REMANENCE_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(folder)
    log = os.open("server.log", os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    remanence.main(["serve", "--port", "0", "--no-worker"], prog_name="remanence")


def command_line(*args: str) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "remanence", *args]


@pytest.fixture
def process(folder: Path) -> Run:
    """Runs a command as a process of its own."""

    def run(*args: str, text: str = "") -> Ran:
        done = subprocess.run(
            command_line(*args), input=text, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def served() -> Iterator[WireServer]:
    """A model server on this machine, in a thread of its own: it says hello, and counts 100 tokens in and 20 out."""
    server = WireServer(lambda request: Answer(text="hello from the server"), models=("tiny", "small"))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(60)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def begun(cli: Run, said: str, code: int = 0) -> str:
    """A new session in which this was said; its id."""
    ran = cli("run", "shop", said, "--json")
    assert ran.code == code, ran.err
    return ran.json["session"]


def masked(value: Any) -> Any:
    """An answer with what differs from run to run replaced: ids, digests, times, and tokens of the scripted model."""
    if isinstance(value, dict):
        return {key: "N" if "tokens" in key and item else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and value > 10**15:
        return "AT"
    if isinstance(value, str):
        value = re.sub(r"sess_[0-9a-f]{30}", "SESSION", value)
        value = re.sub(r"in_[0-9a-f]{30}", "INPUT", value)
        return re.sub(r"\b[0-9a-f]{64}\b", "DIGEST", value)
    return value
