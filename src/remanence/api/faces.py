"""The wire formats of vendors, mounted: `/v1`, and the same under `/openai/v1`, where hosted services have it."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from remanence.api.agents import agents_router
from remanence.api.agents_events import events_router
from remanence.api.agents_missing import missing_router
from remanence.api.agents_sessions import sessions_router

__all__ = ["FACES", "faces"]

FACES: tuple[APIRouter, ...] = (events_router, sessions_router, missing_router, agents_router)
"""In this order: the paths of the first are looked at first, and `/agents/{agent_id}` would take them all."""


def faces() -> Sequence[APIRouter]:
    """Routers for `build_app`."""
    plain, hosted = APIRouter(prefix="/v1"), APIRouter(prefix="/openai/v1", include_in_schema=False)
    for face in FACES:
        plain.include_router(face)
        hosted.include_router(face)
    return (plain, hosted)
