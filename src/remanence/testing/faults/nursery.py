"""A nursery of workers: one warm process that forks a real worker for each line it reads.

Each child opens the database and the world by itself, works, and dies by a real `SIGKILL` at the point it was given.
The nursery reports its process id, and its end. One JSON object a line, both ways:

    -> {"database": url, "world": path, "kill_at": 17, "name": "worker-3"}
    <- {"pid": 4711}
    <- {"pid": 4711, "status": -9}
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from remanence import logs
from remanence.app import open_database
from remanence.runtime.services import Times
from remanence.testing.faults.fuse import Fuse
from remanence.testing.faults.remembering import remember
from remanence.testing.faults.sweep import worker_of
from remanence.testing.faults.world import Watch, World

__all__ = ["TIMES"]

TIMES = Times(lease_s=0.3, linger_s=0.05, poll_s=0.02, retry_base_s=0.02, drain_s=2.0)


def die() -> None:
    """The end of this process, as the kernel makes it."""
    os.kill(os.getpid(), signal.SIGKILL)


async def work(order: dict[str, Any]) -> None:
    """Be a worker until SIGTERM, or until the fuse blows."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    database = await open_database(order["database"])
    watch = Watch()
    world = World(Path(order["world"]), lambda: watch.looked_at)
    worker, _ = worker_of(database, world, watch, Fuse(order["kill_at"], die), name=order["name"], times=TIMES)
    await worker.start()
    await stop.wait()
    await worker.stop()
    await database.close()
    world.close()


async def obey(order: dict[str, Any]) -> None:
    """Be the worker that was ordered: with an `act`, one of those that remember."""
    if "act" in order:
        await remember(order, Fuse(order["kill_at"], die), TIMES)
    else:
        await work(order)


def main() -> None:
    """Serve orders from standard input until it ends."""
    logs.configure("error")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            asyncio.run(obey(json.loads(line)))
            os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"pid": pid, "status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
