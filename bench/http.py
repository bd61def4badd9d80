"""How fast turns are over HTTP with streams, beside a bare FastAPI echo of the same machine in the same run.

    python -m bench.http [--store sqlite|postgres] [--sessions 64] [--seconds 8] [--delay 1] [--streams 1000]

Three things are measured, each with so many sessions at once, each session one request after another over a connection
of its own, the server in a process of its own:

* *paced*: the model takes `--delay` for each call, as models do. What is over what it took in truth (a timer rings
  late; the server says by how much) is the overhead of a call: the request, the key, the input, the intent and the
  reply made durable, the stream, and the client's own reading. `responses` is one streamed response after another, each
  continuing the one before. `agents` is a turn with a tool of the server (two model calls) heard on a stream of the
  session that stays open. The calls of all sessions are evenly apart; by chance (`paced_by_chance`) their moments are
  drawn, so that some fall together.
* *flat out*: the model answers at once, so that only our work is measured: turns a second.
* *idle*: what a thousand streams cost that have nothing to say.

The floor streams as many frames after the same delay and does nothing else.
"""

# ruff: noqa: A005 - only ever imported as `bench.http`

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from remanence.testing.postgres import postgres_database, postgres_server

HERE = Path(__file__).parent.parent
DONE = b"data: [DONE]\n\n"
IDLE = b"event: agent.session.idle\n"
WARM_S = 4.0
MESSAGE = "Order 42 arrived broken. " * 4
TOOK = re.compile(rb"model took us (\d+)\.")


class Took(NamedTuple):
    """One turn of a session, in seconds: until its first event, until its end, and what of that the model took."""

    first_s: float
    whole_s: float
    model_s: float


Turn = Callable[[int], Awaitable[Took]]


def took(began: float, first_at: float, ended_at: float, said: bytes) -> Took:
    """A turn, from when it began and what its stream said when."""
    found = TOOK.search(said)
    if found is None:
        raise RuntimeError(said.decode())
    return Took(first_at - began, ended_at - began, int(found[1]) / 1e6)


# --- a client that costs little ---------------------------------------------------------------------------------------


class Wire(asyncio.Protocol):
    """One connection that stays open: HTTP/1.1, as much of it as this needs.

    What comes is looked at as it comes, so that a moment is that of the socket and not of a task that was woken.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = f"host: 127.0.0.1\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        self._kept = b""
        self._end, self._least = b"", 0
        self._waiting: asyncio.Future[float] | None = None
        self._first_at = 0.0

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)

    def data_received(self, data: bytes) -> None:
        """A piece came."""
        now = time.perf_counter()
        if not self._kept:
            self._first_at = now
        self._kept += data
        if self._waiting is not None and self._enough() and not self._waiting.done():
            self._waiting.set_result(now)

    def _enough(self) -> bool:
        return self._end in self._kept and len(self._kept) >= self._least

    def connection_lost(self, exc: Exception | None) -> None:
        """The server is gone."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or RuntimeError(f"the server closed after {self._kept[-2_000:]!r}"))

    def send(self, line: str, body: Any = None) -> None:
        """A request: its first line without the version, its body."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{line} HTTP/1.1\r\n{self._head}content-length: {len(content)}\r\n\r\n"
        self.transport.write(head.encode() + content)

    async def until(self, end: bytes, *, least: int = 0) -> tuple[float, float, bytes]:
        """Take what came up to the first piece with this, and with so many bytes: when its first piece came, its last,
        and all of it."""
        self._end, self._least, self._waiting = end, least, asyncio.get_running_loop().create_future()
        if self._enough():
            self._waiting.set_result(time.perf_counter())
        ended_at = await self._waiting
        said, self._kept, self._waiting = self._kept, b"", None
        return self._first_at, ended_at, said

    async def answered(self) -> bytes:
        """The head of an answer; what came behind it stays. Raises RuntimeError unless it is good."""
        _, _, said = await self.until(b"\r\n\r\n")
        head, _, self._kept = said.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 2"):
            raise RuntimeError(said.decode())
        return head

    async def whole(self) -> bytes:
        """A short answer, head and body."""
        head = await self.answered()
        length = int((head + b"\r\n").lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return (await self.until(b"", least=length))[2]


# --- turns ------------------------------------------------------------------------------------------------------------


async def responding(port: int, key: str, sessions: int) -> Turn:
    """Streamed responses, each continuing the one before."""
    wires = [Wire(port, key) for _ in range(sessions)]
    previous: list[str | None] = [None] * sessions
    for wire in wires:
        await wire.open()

    async def turn(number: int) -> Took:
        wire = wires[number]
        body = {"model": "m", "input": MESSAGE, "stream": True, "previous_response_id": previous[number]}
        began = time.perf_counter()
        wire.send("POST /v1/responses", body)
        await wire.answered()
        first_at, ended_at, said = await wire.until(b"0\r\n\r\n")
        one = took(began, first_at, ended_at, said)
        if DONE not in said:
            raise RuntimeError(said.decode())
        previous[number] = said.partition(b'"response":{"id":"')[2].split(b'"')[0].decode()
        return one

    return turn


async def conversing(port: int, key: str, sessions: int) -> Turn:
    """Turns of the Agents API with a tool of the server, heard on a stream that stays open."""
    wires = [(Wire(port, key), Wire(port, key)) for _ in range(sessions)]
    names: list[str] = []
    for asks, hears in wires:
        await asks.open()
        await hears.open()
        asks.send("POST /v1/agents/sessions", {"agent_id": "bench", "environment": {"type": "none"}})
        names.append(json.loads(await asks.whole())["id"])
        hears.send(f"GET /v1/agents/sessions/{names[-1]}/events?include_obfuscation=false")
        await hears.answered()
        await hears.until(IDLE)
    content = [{"type": "input_text", "text": MESSAGE}]
    message = {"type": "agent.session.input.message", "input": [{"role": "user", "content": content}]}

    async def turn(number: int) -> Took:
        asks, hears = wires[number]
        began = time.perf_counter()
        asks.send(f"POST /v1/agents/sessions/{names[number]}/events", {"events": [message]})
        heard = asyncio.ensure_future(hears.until(IDLE))
        await asks.answered()
        return took(began, *await heard)

    return turn


async def echoing(port: int, key: str, sessions: int) -> Turn:
    """The floor."""
    wires = [Wire(port, key) for _ in range(sessions)]
    for wire in wires:
        await wire.open()

    async def turn(number: int) -> Took:
        began = time.perf_counter()
        wires[number].send("POST /echo", {"model": "m", "input": MESSAGE, "stream": True})
        await wires[number].answered()
        return took(began, *await wires[number].until(b"0\r\n\r\n"))

    return turn


# --- measuring --------------------------------------------------------------------------------------------------------


@contextmanager
def server(kind: str, delay_s: float) -> Generator[tuple[dict[str, Any], int]]:
    """A server process: what it says of itself, and its id."""
    command = [sys.executable, "-m", "bench.http_server", kind, str(delay_s)]
    with subprocess.Popen(command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), process.pid
        finally:
            process.stdin.close()
            process.wait(30)


async def repeat(
    turn: Turn, arguments: argparse.Namespace, *, spread_s: float, pid: int, by_chance: bool
) -> tuple[list[Took], float]:
    """Turn after turn in every session for so long. The sessions begin evenly spread over `spread_s`, or by chance.

    Answers the turns, and the processor time in seconds that the server (`pid`) took for them. What comes in the first
    `WARM_S` is not among them: it opens the sessions, and a server that has just started lays its log down for the
    first time, which costs each commit a write of the file's size.
    """
    turns: list[Took] = []
    sessions, dice = arguments.sessions, random.Random(1)
    begins_s = [spread_s * (dice.random() if by_chance else number / sessions) for number in range(sessions)]

    async def one(number: int) -> None:
        await asyncio.sleep(begins_s[number])
        while time.perf_counter() < until:
            turns.append(await turn(number))

    await asyncio.gather(*map(turn, range(sessions)))
    until = time.perf_counter() + WARM_S
    await asyncio.gather(*map(one, range(sessions)))
    turns.clear()
    until, used_s = time.perf_counter() + arguments.seconds, _processor_s(pid)
    await asyncio.gather(*map(one, range(sessions)))
    return turns, _processor_s(pid) - used_s


def summed(turns: list[Took], processor_s: float, seconds: float, *, calls: int) -> dict[str, float]:
    """The figures of turns that make so many model calls each. Milliseconds, but for `turns_per_s`."""
    firsts = sorted(one.first_s * 1e3 for one in turns)
    overs = sorted((one.whole_s - one.model_s) * 1e3 / calls for one in turns)
    return {
        "turns": len(turns),
        "turns_per_s": round(len(turns) / seconds, 1),
        "first_event_ms_p50": round(statistics.median(firsts), 2),
        "first_event_ms_p99": round(firsts[int(len(firsts) * 0.99)], 2),
        "overhead_per_call_ms_p50": round(statistics.median(overs), 2),
        "overhead_per_call_ms_p99": round(overs[int(len(overs) * 0.99)], 2),
        "processor_ms_per_turn": round(processor_s * 1e3 / len(turns), 2),
    }


KINDS = {"responses": (responding, 1), "agents": (conversing, 2), "floor": (echoing, 1)}


def paced(
    url: str, name: str, delay_s: float, arguments: argparse.Namespace, *, by_chance: bool = False
) -> dict[str, float]:
    """One kind of turn, against a server of its own. A session of several calls a turn begins within the first, so
    that no two calls come at one moment."""
    make, calls = KINDS[name]

    async def run(said: dict[str, Any], pid: int) -> tuple[list[Took], float]:
        turn = await make(said["port"], said.get("key", ""), arguments.sessions)
        return await repeat(turn, arguments, spread_s=delay_s, pid=pid, by_chance=by_chance)

    with server("echo" if name == "floor" else url, delay_s) as (said, pid):
        return summed(*asyncio.run(run(said, pid)), arguments.seconds, calls=calls)


async def idle(said: dict[str, Any], pid: int, streams: int) -> dict[str, float]:
    """Megabytes that so many streams of 50 sessions take, each over a connection of its own."""
    opener = Wire(said["port"], said["key"])
    await opener.open()
    names: list[str] = []
    for _ in range(50):
        opener.send("POST /v1/agents/sessions", {"agent_id": "bench", "environment": {"type": "none"}})
        names.append(json.loads(await opener.whole())["id"])
    before = _megabytes(pid)
    wires = [Wire(said["port"], said["key"]) for _ in range(streams)]
    for number, wire in enumerate(wires):
        await wire.open()
        wire.send(f"GET /v1/agents/sessions/{names[number % 50]}/events")
        await wire.answered()
        await wire.until(IDLE)
    taken = _megabytes(pid) - before
    for wire in wires:
        wire.transport.close()
    return {"streams": streams, "megabytes": round(taken, 1), "kilobytes_each": round(taken * 1e3 / streams, 1)}


def _processor_s(pid: int) -> float:
    """Processor time of a process so far, its threads included."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def measure(make_url: Callable[[str], str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Every figure of one store; each part on a database of its own."""
    if arguments.only:
        return {arguments.only: paced(make_url("only"), arguments.only, arguments.delay, arguments)}
    result: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "sessions": arguments.sessions,
        "model_delay_s": arguments.delay,
        "paced": {name: paced(make_url(name), name, arguments.delay, arguments) for name in KINDS},
        "paced_by_chance": {
            name: paced(make_url(f"chance_{name}"), name, arguments.delay, arguments, by_chance=True)
            for name in ("responses", "agents")
        },
        "flat_out": {name: paced(make_url(f"flat_{name}"), name, 0.0, arguments) for name in KINDS},
    }
    with server(make_url("idle"), 0.0) as (said, pid):
        result["idle"] = asyncio.run(idle(said, pid, arguments.streams))
    return result


def main() -> None:
    """Measure one store."""
    parser = argparse.ArgumentParser(description="How fast turns are over HTTP, beside a bare echo.")
    parser.add_argument("--store", default="sqlite", choices=("sqlite", "postgres"))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--only", help="one kind of turn, paced")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".", prefix="bench-"))).resolve()
        if arguments.store == "postgres":
            at = stack.enter_context(postgres_server(durable=True))
            text = json.dumps(measure(lambda name: stack.enter_context(postgres_database(at)), arguments), indent=2)
        else:
            text = json.dumps(measure(lambda name: f"sqlite:///{folder}/{name}.db", arguments), indent=2)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
