"""Servers as processes: a port, signals, an orderly end, and the restart that `dev` makes when a file changes.

**Ending.** The first SIGTERM or SIGINT drains: the server says that it is not ready, the worker starts nothing new,
lets what runs finish for a while and gives its sessions back, then the port is closed. A second signal ends the process
at once; nothing is lost by that either, only that the sessions it held wait until their leases end. A tool that does
not end is named, and the process ends without it (see `watchdog`); the exit status is not 0 then.

**Reload.** The listening socket survives the restart, so that no request is refused meanwhile and a free port that was
chosen stays the same.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

import uvicorn

from remanence.cli.gathering import GatheringProtocol
from remanence.cli.leaving import cut_off
from remanence.cli.output import counted, note
from remanence.cli.watchdog import Watchdog
from remanence.errors import Conflict, InvalidConfig

if TYPE_CHECKING:
    from fastapi import FastAPI

    from remanence.api.app import Serving
    from remanence.app import Remanence
    from remanence.runtime.running import Running

__all__ = [
    "KEEP_ALIVE_S",
    "Ending",
    "Handed",
    "answers_to",
    "handed_on",
    "listen",
    "restart",
    "seconds_since_start",
    "served",
    "until_ended",
    "url_of",
]

HANDED_ON = "_REMANENCE_LISTENER"
"""The variable through which a restarted process learns of the socket it inherits, and when the restart began."""
HTTP_CLOSE_S = 5
"""How long open connections may take to finish once the worker has drained."""
KEEP_ALIVE_S = 75
"""How long a connection may say nothing between two requests. It must be longer than clients keep one to use it again
(the vendors' five seconds, proxies' sixty), or a request meets a connection that is being closed and is lost."""

Reason = Literal["signal", "changed", "worker died"]


# --- the port ---------------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises Conflict when the port is taken, InvalidConfig when it cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise InvalidConfig(
            f"{host!r} is not an address of this machine ({error.strerror}). Nothing was started; use 127.0.0.1 for "
            "this machine only, 0.0.0.0 for every network it is in.",
            param="host",
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _cannot_listen(error, host, port) from None
    return listener


def _cannot_listen(error: OSError, host: str, port: int) -> Conflict | InvalidConfig:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {port} of {host} is taken: {_who(host, port)}. Nothing was started. Give another with --port (0 "
            "takes any free one), or stop the other.",
            param="port",
        )
    return InvalidConfig(
        f"Port {port} of {host} cannot be used ({error.strerror}). Nothing was started; choose another address or "
        "port (those below 1024 need special rights).",
        param="port",
    )


def _who(host: str, port: int) -> str:
    """Who has the port: a server of ours says so."""
    import http.client
    import json

    connection = http.client.HTTPConnection(_reachable(host), port, timeout=1)
    try:
        connection.request("GET", "/version")
        found = json.loads(connection.getresponse().read(10_000))
        return f"remanence {found['version']} is running there already" if found["name"] == "remanence" else "in use"
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return "another program uses it"
    finally:
        connection.close()


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    host = _reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def answers_to(host: str, hosts: tuple[str, ...]) -> list[str]:
    """The names a server that listens on `host` answers to, besides those that mean this machine anyway."""
    try:
        own = [] if ip_address(host).is_unspecified else [host]
    except ValueError:
        own = [host]
    return [*own, *hosts]


# --- the end ----------------------------------------------------------------------------------------------------------


ECHO_S = 1.0
"""Who ends a process may signal it, and then its whole group with it, as `timeout` does: one word, said twice. On a
busy machine some time passes between the two, and before each is heard."""


class Ending:
    """Why and when a server is to end. The first signal asks; a second one does not wait."""

    def __init__(self, runtime: Remanence) -> None:
        self._runtime = runtime
        self._asked = asyncio.Event()
        self._watchdog: Watchdog | None = None
        self.cut: Sequence[Running] = ()
        self.reason: Reason = "signal"
        self.asked_at = 0.0

    def ask(self, reason: Reason) -> None:
        """End, in order."""
        if not self._asked.is_set():
            self.reason, self.asked_at = reason, time.time()
            self._asked.set()

    async def wait(self) -> None:
        await self._asked.wait()

    @contextmanager
    def signals(self) -> Generator[None]:
        """Listen to SIGINT and SIGTERM meanwhile."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        worker = self._runtime.worker
        self._watchdog = Watchdog(self._runtime.options.times.drain_s, worker.running if worker else list)
        try:
            with self._watchdog.watching():
                yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def drained(self, cut: Sequence[Running]) -> None:
        """The worker has ended, and these calls have not: say so, and what becomes of them."""
        self.cut = cut
        cut_off(cut)
        if self._watchdog is not None:
            self._watchdog.leaving(1 if cut or self.reason == "worker died" else 0)

    def _on_signal(self, number: int) -> None:
        if self._asked.is_set():
            if number == signal.SIGTERM and time.time() - self.asked_at < ECHO_S:
                return
            note("Stopped at once. What was acknowledged is kept; sessions that were held go on elsewhere, or when")
            note(f"this is run again, after at most {self._runtime.options.times.lease_s:g} s.")
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(128 + number)
        worker = self._runtime.worker
        if worker is not None and (busy := worker.at_work):
            drain_s = self._runtime.options.times.drain_s
            held = counted(busy, "session")
            note(f"Finishing what runs in {held}, at most {drain_s:g} s. Once more stops at once.")
        self.ask("signal")


async def until_ended(runtime: Remanence, ending: Ending, serving: Serving | None = None) -> None:
    """Wait until somebody asks for the end, or the worker has died; then say so to the routes and drain the worker."""
    watch = asyncio.create_task(_watch_worker(runtime, ending))
    try:
        await ending.wait()
    finally:
        watch.cancel()
    if serving is not None:
        serving.draining = True
    ending.drained(await runtime.worker.stop() if runtime.worker is not None else ())


async def _watch_worker(runtime: Remanence, ending: Ending) -> None:
    if runtime.worker is not None:
        await runtime.worker.ended()
        ending.ask("worker died")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: ours know what has to be drained first. `up` is set when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@asynccontextmanager
async def served(app: FastAPI, listener: socket.socket) -> AsyncGenerator[None, None]:
    """Serve meanwhile; it answers when the block begins. Then no request is taken any more, and open ones finish."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        http=GatheringProtocol,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=HTTP_CLOSE_S,
    )
    server = _Server(config)
    # A socket of its own to close, so that a restart can hand on the first.
    serving = asyncio.create_task(server.serve(sockets=[listener.dup()]), name="http")
    up = asyncio.create_task(server.up.wait())
    await asyncio.wait((up, serving), return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        up.cancel()
        app.state.lookout.close()  # streams end here; whoever reads them goes on elsewhere, from where they are
        await app.state.lookout.quiet(HTTP_CLOSE_S)
        server.should_exit = True
        await serving


# --- starting again ---------------------------------------------------------------------------------------------------


class Handed(NamedTuple):
    """What a restarted process inherits: the listening socket, and when the restart began (seconds since 1970)."""

    listener: socket.socket
    at: float


def handed_on() -> Handed | None:
    """What the process before this one left, if it restarted into this one."""
    number, _, at = os.environ.pop(HANDED_ON, "").partition(":")
    if not number:
        return None
    return Handed(socket.socket(fileno=int(number)), float(at))


def restart(listener: socket.socket, began_at: float) -> NoReturn:
    """Become the same command anew, with the listening socket. Everything else must be closed."""
    listener.set_inheritable(True)
    os.environ[HANDED_ON] = f"{listener.fileno()}:{began_at}"
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def seconds_since_start(handed: Handed | None = None) -> float:
    """How long this process has been running, interpreter and imports included; or since the restart began."""
    if handed is not None:
        return time.time() - handed.at
    try:
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        # Not Linux: count the processor time instead, which is nearly all of it.
        return time.process_time()
