"""Where the time of a turn goes: the event loop's thread under the standard profiler, summed by room of the house.

    python -m bench.shares [--sessions 64] [--turns 30]

The profiler makes every call dearer, so shares are indications and the turns here are slower than those of
`bench.turns`. The writer's thread is not in it: its work runs beside the loop, mostly inside SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from bench.agents import AGENT, SAID, options

from remanence.app import Remanence
from remanence.runtime.process import settle

ROOMS = ("core", "events", "runtime", "stores", "commands", "tools", "app", "content")


async def shares(url: str, sessions: int, turns: int) -> dict[str, Any]:
    """Per cent of the loop thread's time, by room; `asyncio` is the event loop itself, `waiting` its idle time."""
    async with Remanence(url, options=options()) as rt:
        opened = [await rt.open(AGENT, user="bench") for _ in range(sessions)]
        await asyncio.gather(*(session.send(SAID) for session in opened))
        settle()
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(turns):
            await asyncio.gather(*(session.send(SAID) for session in opened))
        profile.disable()
    sums: Counter[str] = Counter()
    for (file, _line, name), row in pstats.Stats(profile).stats.items():  # pyright: ignore[reportAttributeAccessIssue]
        sums[_room(file, name)] += row[2]
    total = sum(sums.values())
    return {room: round(100 * seconds / total, 1) for room, seconds in sums.most_common()}


def _room(file: str, name: str) -> str:
    if "poll" in name and "select" in name:
        return "waiting"
    parts = Path(file).parts
    if "remanence" in parts:
        room = parts[parts.index("remanence") + 1].removesuffix(".py")
        return room if room in ROOMS else "other rooms"
    if "msgspec" in name or "hashlib" in name or "openssl" in name:
        return "msgspec and digests"
    return "asyncio" if "asyncio" in file or "asyncio" in name or "contextvars" in name else "other"


def main() -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(description="Where the time of a turn goes.")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--turns", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".", prefix="bench-") as name:
        url = f"sqlite:///{Path(name).resolve()}/profile.db"
        found = asyncio.run(shares(url, arguments.sessions, arguments.turns))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
