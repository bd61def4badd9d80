"""A real server in a thread: uvicorn on a free port, a worker, a real SQLite file, the scripted model.

The vendors' clients talk to it over a socket. `kill` is what a killed process leaves behind: leases that nobody gives
back, connections that break, nothing written.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
from fastapi import APIRouter, FastAPI
from openai import AsyncOpenAI, OpenAI

from remanence import Agent, Remanence
from remanence.api.app import Serving, build_app
from remanence.api.auth import Access, Rate, development_principal
from remanence.api.faces import faces
from remanence.app import Options
from remanence.cli.serving import KEEP_ALIVE_S
from remanence.commands.keys import Principal
from remanence.ports import Model
from remanence.runtime.services import Times
from remanence.testing.scripted import Scripted

__all__ = ["KEY", "OTHER", "READER", "WireServer", "serve"]

KEY, OTHER, READER = "rmn_test_own", "rmn_test_other", "rmn_test_reader"
T = TypeVar("T")
QUICK = Times(lease_s=5.0, linger_s=0.2, drain_s=2.0, poll_s=0.05, retry_base_s=0.01, retry_cap_s=0.05)
_LOOKS, _LOOK_S = 12_000, 0.005
"""How often to look whether a server is up, and how long to wait between."""


class WireServer:
    """One server process, so to speak."""

    works = True
    """Whether it has a worker."""

    def __init__(
        self,
        database: str,
        models: Mapping[str, Model],
        agents: Sequence[Agent] = (),
        *,
        rate: Rate | None = None,
        mcp_hosts: Sequence[str] = (),
        extra: Sequence[APIRouter] = (),
    ) -> None:
        self._remanence = Remanence(
            database if "://" in database else f"sqlite:///{database}",
            agents=agents,
            models=models,
            worker=self.works,
            options=Options(times=QUICK, mcp_hosts=mcp_hosts),
        )
        self._rate = rate
        self._extra = extra
        self._up = threading.Event()
        self._killed = False
        self._app: FastAPI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self.url = ""
        self._thread = threading.Thread(target=self._main, name="wire server", daemon=True)
        self._thread.start()
        assert self._up.wait(60), "the server did not come up"
        if self._failure is not None:
            raise self._failure

    # --- talking to it ------------------------------------------------------------------------------------------------

    def client(self, key: str = KEY, **options: Any) -> Any:
        """The vendors' client, strict. Untyped: a test reads fields that not every arm of their unions has."""
        return OpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, _strict_response_validation=True, **options
        )

    def async_client(self, key: str = KEY) -> Any:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, _strict_response_validation=True)

    def do(self, action: Callable[[Remanence], Coroutine[Any, Any, T]]) -> T:
        """Run something with the runtime, in its loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(action(self._remanence), self._loop).result(60)

    @property
    def app(self) -> FastAPI:
        """The application that is served."""
        assert self._app is not None
        return self._app

    # --- its life -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End in order."""
        self._end()

    def kill(self) -> None:
        """Vanish: nothing is written, nothing is given back, connections break."""
        self._killed = True
        self._end()

    def _end(self) -> None:
        if self._loop is not None and self._ended is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._up.set()
            raise

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        rt = self._remanence
        await rt.start()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = self._server(rt)
            running = asyncio.create_task(server.serve(sockets=[listener]))
            for _ in range(_LOOKS):
                if server.started:
                    break
                await asyncio.sleep(_LOOK_S)
            self._up.set()
            await self._ended.wait()
            if self._killed and rt.worker is not None:
                await rt.worker.abandon()
            elif rt.worker is not None:
                await rt.worker.stop()
            server.config.app.state.lookout.close()  # pyright: ignore[reportAttributeAccessIssue]
            server.should_exit, server.force_exit = True, self._killed
            await running
        await rt.stop()

    def _server(self, rt: Remanence) -> uvicorn.Server:
        own = {
            KEY: development_principal("default"),
            OTHER: development_principal("other"),
            READER: Principal("reader", "key:reader", "default", frozenset(("read",))),
        }
        app = build_app(
            rt, faces=(*faces(), *self._extra), serving=Serving(), access=Access(rt.caller, own=own, rate=self._rate)
        )
        self._app = app
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=3
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
        return server


@contextmanager
def serve(database: object, script: Any = None, agents: Sequence[Agent] = (), **options: Any) -> Iterator[WireServer]:
    """A server over a database file, with the model `scripted` following this script."""
    server = WireServer(str(database), {"scripted": Scripted(script)}, agents, **options)
    try:
        yield server
    finally:
        server.stop()
