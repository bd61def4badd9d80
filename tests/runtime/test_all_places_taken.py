"""More sessions at once than a worker has places for: those that rest make room, and nothing stands still."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CROWD = """
import asyncio, sys
from remanence import Agent, Remanence
from remanence.app import Options
from remanence.runtime.services import Times
from remanence.testing.scripted import Scripted, says

async def main():
    model = Scripted([says("Good morning.")] * 4)
    options = Options(model=model, times=Times(linger_s=3600.0), sessions_max=2)
    agent = Agent("greeter", model="scripted")
    async with Remanence(sys.argv[1], agents=[agent], options=options) as rt:
        async def one():
            session = await rt.open(agent)
            return [await session.send("Hello") for _ in range(4)]
        said = await asyncio.gather(*(one() for _ in range(12)))
        print(sum(map(len, said)), "answers")

asyncio.run(main())
"""

TALKERS = """
import asyncio, sys
from remanence import Agent, Remanence
from remanence.app import Options
from remanence.content import Text, Usage
from remanence.ports import ModelReply
from remanence.runtime.services import Times
from remanence.testing.scripted import Scripted

async def main():
    model = Scripted(lambda request: ModelReply((Text("Good morning."),), Usage(10, 2)))
    options = Options(model=model, times=Times(linger_s=3600.0), sessions_max=2)
    agent = Agent("greeter", model="scripted")
    async with Remanence(sys.argv[1], agents=[agent], options=options) as rt:
        heard = asyncio.Event()
        async def talk():
            session = await rt.open(agent)
            while not heard.is_set():
                await session.send("Hello")
        async def one():
            return await (await rt.open(agent)).send("Hello")
        talkers = [asyncio.create_task(talk()) for _ in range(2)]
        await asyncio.sleep(0.2)
        said = await asyncio.gather(*(one() for _ in range(6)))
        heard.set()
        await asyncio.gather(*talkers)
        print(len(said), "answers")

asyncio.run(main())
"""


def outcome(script: str, url: str) -> str:
    """What a process says in which many sessions want two places. In one of its own: what goes wrong here may keep an
    event loop for ever, and no time-out within it would be heard."""
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout.strip() or done.stderr


def test_sessions_that_rest_make_room_for_those_that_wait(tmp_path: Path) -> None:
    assert outcome(CROWD, f"sqlite:///{tmp_path}/shop.db") == "48 answers"


def test_sessions_that_rest_make_room_on_postgresql(postgres_database: str) -> None:
    assert outcome(CROWD, postgres_database) == "48 answers"


def test_sessions_that_never_stop_talking_leave_between_two_turns(tmp_path: Path) -> None:
    assert outcome(TALKERS, f"sqlite:///{tmp_path}/shop.db") == "6 answers"


def test_sessions_that_never_stop_talking_leave_between_two_turns_on_postgresql(postgres_database: str) -> None:
    assert outcome(TALKERS, postgres_database) == "6 answers"
