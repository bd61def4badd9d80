"""A site as it is run in production: one HTTP server and some workers, real processes over one database.

Workers die by `SIGKILL`. The server is restarted, in turn by `SIGKILL` and by `SIGTERM` (it drains); it comes back on
the same port, and meanwhile whoever connects is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from remanence.ports import Clock

__all__ = ["LEASE_S", "Site"]

LEASE_S = 2.0
UP_S_MAX = 60.0
_ENDS = (signal.SIGKILL, signal.SIGTERM)
_SETTINGS = """\
database = {database}
model = "scripted:script.json"
log_level = "error"

[worker]
lease_s = {lease_s}
poll_s = 0.1
drain_s = 3
retry_base_s = 0.05
retry_cap_s = 0.5
"""
_LOOK = {"calls": [{"tool": "look", "arguments": {"at": "$user"}}], "text": "Looking at $user.", "delay_s": 0.01}
_SAY = {"text": "Of $user we know: $result. That is all there is to say.", "delay_s": 0.01, "piece_s": 0.005}


class Site:
    """The processes; an async context manager. `url` is where the server listens, `key` what opens it."""

    def __init__(self, database: str, folder: Path, *, workers: int, clock: Clock, script: Any = None) -> None:
        """`script` is what the model `default` follows; without one it looks, then says what it saw."""
        self._folder = folder
        self._workers_wanted = workers
        self._clock = clock
        self._server: asyncio.subprocess.Process | None = None
        self._workers: list[asyncio.subprocess.Process] = []
        self._port = _free_port()
        self.kills = 0
        self.restarts = 0
        self.key = ""
        self.url = f"http://127.0.0.1:{self._port}"
        settings = _SETTINGS.format(database=json.dumps(database), lease_s=LEASE_S)
        (folder / "remanence.toml").write_text(settings, encoding="utf-8")
        (folder / "script.json").write_text(json.dumps(script or {"steps": [_LOOK, _SAY]}), encoding="utf-8")

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end)
            made = await self._run("keys", "create", "load", "-o", "json", stdout=subprocess.PIPE)
            out, _ = await made.communicate()
            if made.returncode != 0:
                raise RuntimeError("no key could be made; standard error says why")
            self.key = json.loads(out)["text"]
            self._server = await self._serve()
            self._workers = [await self._run("worker") for _ in range(self._workers_wanted)]
            stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    # --- what befalls it ----------------------------------------------------------------------------------------------

    async def kill_worker(self, dice: random.Random) -> None:
        """Kill a worker where it stands, and start another in its place."""
        number = dice.randrange(len(self._workers))
        self._check_lives(self._workers[number], "a worker")
        self._workers[number].kill()
        await self._workers[number].wait()
        self.kills += 1
        self._workers[number] = await self._run("worker")

    async def restart_server(self) -> None:
        """End the server, in turn by SIGKILL and by SIGTERM, and start it again; returns when it can be reached."""
        await self.end_server(_ENDS[self.restarts % len(_ENDS)])
        self.restarts += 1
        self._server = await self._serve()

    async def end_server(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server. Raises RuntimeError when it ends otherwise than it should."""
        if self._server is None:
            raise RuntimeError("there is no server to end")
        self._check_lives(self._server, "the server")
        self._server.send_signal(number)
        code = await self._server.wait()
        if code not in (0, -number):
            raise RuntimeError(f"the server ended with {code} on {number.name}; standard error says why")

    def check(self) -> None:
        """Raises RuntimeError when a process ended that nobody killed."""
        for process in (*self._workers, *((self._server,) if self._server else ())):
            self._check_lives(process, "a process")

    @staticmethod
    def _check_lives(process: asyncio.subprocess.Process, name: str) -> None:
        if process.returncode is not None:
            raise RuntimeError(f"{name} ended by itself with {process.returncode}; standard error says why")

    # --- processes ----------------------------------------------------------------------------------------------------

    async def _run(self, *command: str, stdout: int = subprocess.DEVNULL) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("REMANENCE_")}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "remanence", *command, cwd=self._folder, env=environment, stdout=stdout
        )

    async def _serve(self) -> asyncio.subprocess.Process:
        server = await self._run("serve", "--port", str(self._port))
        until = self._clock.now() + int(UP_S_MAX * 1e6)
        while self._clock.now() < until:
            self._check_lives(server, "the server")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await self._clock.sleep(0.02)
                continue
            writer.close()
            return server
        raise RuntimeError(f"the server did not answer within {UP_S_MAX:g} s")

    async def _end(self) -> None:
        processes = [*self._workers, *((self._server,) if self._server else ())]
        for process in processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in processes))


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]
