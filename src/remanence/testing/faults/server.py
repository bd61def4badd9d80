"""One of several HTTP servers on one database, each with a worker in it: every face, served as `remanence serve` does.

It prints where it listens, one line, and lives until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from remanence import logs
from remanence.api import once
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.api.faces import faces
from remanence.app import Options, Remanence
from remanence.cli.serving import listen, served
from remanence.models.scripted import Scripted
from remanence.testing.faults.racer import TIMES, RareWords, Unhurried, agents_of, answer
from remanence.testing.faults.remembering import keeper
from remanence.testing.faults.world import World

__all__ = ["KEY"]

KEY: Final = "rmn_local_races"
"""Opens everything in the project `default`."""


async def serve(url: str, world: World, name: str) -> None:
    """Serve until standard input ends."""
    options = Options(times=TIMES, worker_name=name, actor=name, embedder=RareWords())
    models = {"scripted": Scripted(answer), "keeping": Unhurried(keeper)}
    async with Remanence(url, agents=agents_of(world), models=models, options=options) as rt:
        app = build_app(rt, faces=faces(), access=Access(rt.caller, own={KEY: development_principal("default")}))
        with listen("127.0.0.1", 0) as listener:
            async with served(app, listener):
                print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
                await asyncio.to_thread(sys.stdin.read)


def main(arguments: Sequence[str]) -> None:
    url, world, name = arguments
    logs.configure("error")
    once.RENEW_S, once.DEAD_S = 0.5, 5.0  # as `TIMES`: whoever repeats the request of a dead server waits less
    asyncio.run(serve(url, World(Path(world)), name))


if __name__ == "__main__":
    main(sys.argv[1:])
