"""The HTTP server: whether it lives, whether it is ready, what it is, its own description, and the faces it is given.

`build_app` is given an open runtime and serves it; opening and draining are the command line's. Faces (the wire
formats of vendors) are routers that are handed in. Everything works offline: `/docs` is one page without a script, made
from the OpenAPI document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from importlib.metadata import version as version_of
from typing import Annotated, Any, Literal, Protocol

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from remanence.api.auth import Access
from remanence.api.described import describe, shorten
from remanence.api.failures import REFUSALS, answer_failures, refusal_shapes
from remanence.api.guard import BODY_BYTES_MAX, Guard
from remanence.api.held import Held
from remanence.api.lane import Lanes
from remanence.api.lookout import Lookout
from remanence.api.pages import docs_page
from remanence.api.router import Face
from remanence.commands.caller import Caller
from remanence.commands.metrics import Tally
from remanence.errors import RemanenceError
from remanence.runtime.live import Hub
from remanence.runtime.worker import Worker
from remanence.stores.schema_state import SchemaState

__all__ = ["Health", "Ready", "Served", "Serving", "VersionAnswer", "build_app", "check_all"]

CHECK_TIMEOUT_S = 3.0


class Served(Protocol):
    """What is served: an open `remanence.app.Remanence` is one."""

    @property
    def caller(self) -> Caller: ...
    @property
    def worker(self) -> Worker | None: ...
    async def schema(self) -> SchemaState: ...


class Serving(msgspec.Struct):
    """What the process tells the routes while it runs. `draining`: it is about to stop, and takes no new work."""

    draining: bool = False


# --- answers ----------------------------------------------------------------------------------------------------------


class Health(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether this process does its work: each check is `ok`, or says in words what is wrong."""

    ready: bool
    checks: dict[str, str] = Field(description="`database`, `schema`, `worker` and `process`, each with its finding.")


class VersionAnswer(BaseModel):
    """What is running."""

    name: Literal["remanence"] = "remanence"
    version: str


# --- the application --------------------------------------------------------------------------------------------------


class Application(FastAPI):
    """The framework's application behind `front`, through which every request comes first: what our own layers answer
    or take the short way never costs the layers of the framework."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self.front(scope, receive, send)

    async def beneath(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The framework's own way."""
        await super().__call__(scope, receive, send)


def build_app(
    runtime: Served,
    *,
    serving: Serving | None = None,
    hosts: Iterable[str] = (),
    body_bytes_max: int = BODY_BYTES_MAX,
    faces: Sequence[APIRouter] = (),
    access: Access | None = None,
) -> FastAPI:
    """The application over an open runtime. `hosts` are names it answers to besides this machine's own.

    `access` checks the keys of requests (default: those of the database, as often as they like).
    """
    app = Application(
        title="Remanence",
        version=version_of("remanence"),
        summary="Sessions that survive: a durable runtime for AI agents.",
        description="Errors have one shape everywhere (see `ErrorAnswer`), and every answer names its request in the "
        "header `x-request-id`.",
        openapi_url=None,  # a route of our own: the document is not made on the event loop
        responses=REFUSALS,
    )
    app.state.runtime = runtime
    app.state.serving = serving or Serving()
    app.state.describing = asyncio.Lock()
    app.state.access = access or Access(runtime.caller)
    app.state.lookout = Lookout(runtime.caller)
    app.state.held = Held(app.state.access.identify, runtime.caller.clock)
    app.state.tally = Tally()
    if isinstance(runtime.caller.live, Hub):
        runtime.caller.live.listen(app.state.tally.take)
    answer_failures(app)
    lanes = [lane for face in faces if isinstance(face, Face) for lane in face.lanes]
    lane = Lanes(app.beneath, lanes=lanes)
    app.front = Guard(lane, make_id=runtime.caller.make_id, hosts=hosts, body_bytes_max=body_bytes_max)
    for router in (operations, *faces):
        app.include_router(router, prefix=router.at if isinstance(router, Face) else "")
    app.openapi = lambda: _document(app)
    return app


def _runtime(request: Request) -> Served:
    return request.app.state.runtime


def _serving(request: Request) -> Serving:
    return request.app.state.serving


operations = Face(tags=["operations"])


@operations.head("/health", include_in_schema=False)
@operations.get("/health", summary="Whether the process lives")
async def health() -> Health:
    """Answers as long as the process does, whatever the database is doing. For restarting what hangs."""
    return Health()


@operations.head("/ready", include_in_schema=False)
@operations.get("/ready", summary="Whether it does its work", responses={503: {"model": Ready}})
async def ready(
    response: Response,
    runtime: Annotated[Served, Depends(_runtime)],
    serving: Annotated[Serving, Depends(_serving)],
) -> Ready:
    """The database answers, its schema is this release's, the worker runs, and the process is not about to stop.

    Status 503 when one of them fails. For sending traffic elsewhere.
    """
    found = await check_all(runtime, serving)
    if not found.ready:
        response.status_code = 503
    return found


@operations.head("/version", include_in_schema=False)
@operations.get("/version", summary="What is running")
async def version() -> VersionAnswer:
    """The release of this server."""
    return VersionAnswer(version=version_of("remanence"))


@operations.head("/docs", include_in_schema=False)
@operations.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    """The human page."""
    return docs_page(await _described(request.app))


@operations.head("/openapi.json", include_in_schema=False)
@operations.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The page for programs. Behind a proxy it says under which path everything is."""
    document = await _described(request.app)
    under: str = request.scope.get("root_path", "").rstrip("/")
    if under:
        document = {**document, "servers": [{"url": under}]}
    return Response(msgspec.json.encode(document), media_type="application/json")


# --- readiness --------------------------------------------------------------------------------------------------------


async def check_all(runtime: Served, serving: Serving) -> Ready:
    """Every check, with its finding."""
    checks = {
        "database": await _check_database(runtime),
        "schema": await _check_schema(runtime),
        "worker": _check_worker(runtime),
        "process": "shutting down: it finishes what runs and takes nothing new" if serving.draining else "ok",
    }
    return Ready(ready=all(check.startswith("ok") for check in checks.values()), checks=checks)


async def _check_database(runtime: Served) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await runtime.caller.database.controls.holds()
    except TimeoutError:
        return f"it did not answer within {CHECK_TIMEOUT_S:g} s"
    except RemanenceError as error:
        return error.message
    return "ok"


async def _check_schema(runtime: Served) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            state = await runtime.schema()
    except TimeoutError:
        return f"it could not be looked at within {CHECK_TIMEOUT_S:g} s"
    except RemanenceError as error:
        return error.message
    if state.pending:
        return f"migrations are pending ({', '.join(state.pending)}): run `remanence db migrate`"
    return f"ok: {state.current}"


def _check_worker(runtime: Served) -> str:
    worker = runtime.worker
    if worker is None:
        return "ok: none in this process"
    return f"ok: {worker.sessions} sessions" if worker.alive else "it has stopped; restart this process"


# --- the description --------------------------------------------------------------------------------------------------


async def _described(app: FastAPI) -> dict[str, Any]:
    """The document, made once, in a thread: that takes a second of the processor, and turns are running."""
    async with app.state.describing:
        return await asyncio.to_thread(app.openapi)


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document. A request that does not fit is answered 400 in our shape, not FastAPI's 422."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        shapes = document["components"]["schemas"] | refusal_shapes()
        document["components"]["schemas"] = dict(sorted(shapes.items()))
        describe(document)
        shorten(document)
        app.openapi_schema = document
    return app.openapi_schema
