"""`/admin/v1`: how the server does, for people (`health`) and for Prometheus (`metrics`)."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from pydantic import Field

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.app import Ready, Served, check_all
from remanence.api.bodies import JsonRoute
from remanence.api.router import Face
from remanence.commands.metrics import exposition

__all__ = ["HealthAnswer", "state_router"]

state_router = Face(tags=["state"], route_class=JsonRoute, responses=REFUSALS)


class HealthAnswer(Ready):
    """What `/ready` says, with what the database holds."""

    database: dict[str, Any] = Field(description="Counts and sizes: sessions by status, records, blobs, bytes.")


@state_router.get("/health", summary="How the server does")
async def admin_health(request: Request, caller: Admin) -> HealthAnswer:
    """The checks of `/ready` and the figures of `remanence db stats`. Always 200: read `ready`."""
    found = await check_all(request.app.state.runtime, request.app.state.serving)
    return HealthAnswer(ready=found.ready, checks=found.checks, database=await caller.database.views.stats())


@state_router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "The text format, version 0.0.4."}},
)
async def metrics(request: Request, caller: Admin) -> Response:
    """Sessions by status, turns, model calls, tokens, money, claims: of the whole server."""
    served: Served = request.app.state.runtime
    held = served.worker.sessions if served.worker is not None else None
    text = await exposition(caller, request.app.state.tally, held=held)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
