"""Every face, mounted: the vendors' under `/v1` and the same under `/openai/v1`, the native ones under `/admin/v1`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from remanence.api.admin.face import admin_router
from remanence.api.agents.agents import agents_router
from remanence.api.agents.events import events_router
from remanence.api.agents.missing import missing_router
from remanence.api.agents.sessions import sessions_router
from remanence.api.chat.completions import chat_router
from remanence.api.models import models_router
from remanence.api.responses.conversations import conversations_router
from remanence.api.responses.responses import responses_router
from remanence.api.responses.socket import socket_router
from remanence.api.router import Face

__all__ = ["FACES", "faces"]

FACES: tuple[Face, ...] = (
    events_router,
    sessions_router,
    missing_router,
    agents_router,  # after the others: `/agents/{agent_id}` would take their paths
    responses_router,
    socket_router,
    conversations_router,
    chat_router,
    models_router,
)


def faces() -> Sequence[APIRouter]:
    """Routers for `build_app`."""
    plain, hosted = Face(at="/v1"), Face(at="/openai/v1", include_in_schema=False)
    for face in FACES:
        plain.include_router(face)
        hosted.include_router(face)
    return (plain, hosted, admin_router)
