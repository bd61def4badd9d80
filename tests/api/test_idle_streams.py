"""What a stream costs that has nothing to say, and how it shows that it lives."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import httpx2
import pytest
from openai._streaming import SSEDecoder
from wire_server import KEY

from remanence import Agent, Remanence
from remanence.api.lookout import Lookout
from remanence.api.stream import BEAT, frame, paced, watch
from remanence.app import Options
from remanence.testing.clock import FakeClock

STREAMS = 1_000
MB_MAX = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: where it listens, and its id."""
    here = Path(__file__).parent
    command = [sys.executable, str(here / "idle_server.py"), str(tmp_path / "a.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.kill()


async def test_a_thousand_idle_streams_are_light(server: tuple[str, int]) -> None:
    """Each over a socket of its own: under 100 MB together."""
    url, pid = server
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    body = {"environment": {"type": "none"}, "agent": {"model": "scripted"}}
    async with httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as client:
        made = [(await client.post("/v1/agents/sessions", json=body)).json()["id"] for _ in range(50)]
    before = megabytes(pid)
    writers = [await listening(url, made[number % len(made)]) for number in range(STREAMS)]
    taken = megabytes(pid) - before
    for writer in writers:
        writer.close()
    assert taken < MB_MAX, f"{taken:.0f} MB"


async def listening(url: str, session: str) -> asyncio.StreamWriter:
    """A connection that has heard how its session stands."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = (f"GET /v1/agents/sessions/{session}/events HTTP/1.1", f"host: {host}", f"authorization: Bearer {KEY}")
    writer.write("\r\n".join((*lines, "", "")).encode())
    assert b"200 OK" in await reader.readuntil(b"agent.session.idle")
    return writer


def megabytes(pid: int) -> float:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def test_a_comment_every_fifteen_seconds_of_silence() -> None:
    clock = FakeClock()

    async def batches() -> AsyncGenerator[Sequence[bytes]]:
        for number in range(8):
            clock.advance(5)
            yield [b"news"] if number == 4 else []

    assert [piece async for piece in paced(clock, batches())] == [BEAT, b"news", BEAT]


async def test_what_says_nothing_puts_no_comment_off(tmp_path: Path) -> None:
    """A reader is stirred, as by a worker that gives the session back: there is nothing new, and its time runs on."""
    clock, came = FakeClock(), asyncio.Event()
    ada = Agent("ada", model="scripted")
    rt = Remanence(f"sqlite:///{tmp_path / 'a.db'}", agents=[ada], worker=False, options=Options(clock=clock))
    async with rt:
        session = await rt.open(ada)

        async def batches() -> AsyncGenerator[Sequence[bytes]]:
            async for _ in watch(rt.caller, session.id, after=1, lookout=Lookout(rt.caller)):
                came.set()
                yield []

        pieces = paced(clock, batches())
        beat = asyncio.create_task(anext(pieces))
        async with asyncio.timeout(60):
            while not came.is_set():
                rt.caller.live.stir(session.id)
                await asyncio.sleep(0)
            came.clear()
            clock.advance(10)
            while not came.is_set():
                rt.caller.live.stir(session.id)
                await asyncio.sleep(0)
            clock.advance(5)
            assert await beat == BEAT
        await pieces.aclose()


def test_silence_is_no_event_to_the_vendors_client() -> None:
    """It takes an empty line for an event without data as soon as it has seen an id, and cannot read that."""
    told = [frame("response.created", "0", {"n": 0}), BEAT, BEAT, frame("response.completed", "1", {"n": 1}), BEAT]
    events = list(SSEDecoder().iter_bytes(iter([*told, b"data: [DONE]\n\n"])))
    assert [event.data for event in events] == ['{"n":0}', '{"n":1}', "[DONE]"]
