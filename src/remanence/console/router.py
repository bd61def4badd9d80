"""The routers of every page of the console, and what the application has to know for it."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, FastAPI

from remanence.console.acts import acts_router
from remanence.console.agents import agents_router
from remanence.console.attempts import Attempts
from remanence.console.cost import cost_router
from remanence.console.entry import Doors, entry_router, visitor_of
from remanence.console.failures import lost
from remanence.console.home import home_router
from remanence.console.inbox import inbox_router
from remanence.console.keys import keys_router
from remanence.console.live import live_router
from remanence.console.playground import playground_router, trial_router
from remanence.console.session import session_router
from remanence.console.sessions import sessions_router
from remanence.console.static import static_router
from remanence.console.steps import steps_router
from remanence.console.views import views_router

__all__ = ["ROOMS", "open_console"]

ROOMS: tuple[APIRouter, ...] = (
    static_router,
    entry_router,
    home_router,
    sessions_router,
    acts_router,
    live_router,
    steps_router,
    session_router,
    inbox_router,
    playground_router,
    trial_router,
    agents_router,
    cost_router,
    keys_router,
    views_router,
)
"""The console, as faces for `build_app`."""


def open_console(app: FastAPI, doors: Doors) -> None:
    """Tell an application with the console's router how people come in, and what to show where nothing is."""
    app.state.doors = doors
    app.state.attempts = Attempts()
    app.state.lost = partial(lost, visitor_of)
    # What is not there has no place in the navigation.
    app.state.pages = frozenset(str(getattr(route, "path", "")) for room in ROOMS for route in room.routes)
