"""Routers that are passed over: never one whose route it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.routing import Match

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.bodies import JsonRoute
from remanence.api.faces import FACES, faces
from remanence.api.router import Face
from remanence.console.router import ROOMS


def found(app: FastAPI, method: str, path: str) -> bool:
    scope = {"type": "http", "method": method.upper(), "path": path, "root_path": app.root_path, "headers": []}
    return any(route.matches(dict(scope))[0] == Match.FULL for route in app.routes)


@pytest.mark.parametrize("root", ["", "/behind/a/proxy"])
async def test_every_route_is_found_wherever_it_is_mounted(tmp_path: Path, root: str) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/routes.db", worker=False) as rt:
        app = build_app(rt, faces=faces())
    app.root_path = root
    paths = app.openapi()["paths"]
    assert len(paths) > 80
    for path, operations in paths.items():
        filled = re.sub(r"{\w+}", "x1", path)
        for method in operations:
            assert found(app, method, root + filled), f"{method} {path}"
            if filled.startswith("/v1"):
                assert found(app, method, f"{root}/openai{filled}"), f"{method} /openai{path}"
    assert not found(app, "GET", f"{root}/v2/responses")


def test_a_request_is_shown_to_few_routers() -> None:
    """A response is no business of the routers of agents, conversations or chat."""
    scope = {"type": "http", "method": "POST", "path": "/v1/responses", "headers": []}
    beginnings = [face for face in FACES if any(one in scope["path"] for one in face._beginnings)]
    assert len(beginnings) == 2  # those over HTTP and over a WebSocket


async def test_a_route_is_made_when_a_request_comes_near(tmp_path: Path) -> None:
    """A server that starts makes none: what it is never asked for costs it nothing."""
    inner = Face(route_class=JsonRoute)

    @inner.get("/things/{thing}")
    async def read(thing: str) -> str:
        return thing

    outer = Face(at="/v1")
    outer.include_router(inner)
    async with Remanence(f"sqlite:///{tmp_path}/late.db", worker=False) as rt:
        app = build_app(rt, faces=[outer])
    [route] = inner.routes
    assert not found(app, "GET", "/v2/things/x1")
    assert "dependant" not in vars(route)
    assert found(app, "GET", "/v1/things/x1")
    assert "dependant" in vars(route)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        getattr(route, "colour")  # noqa: B009 - pyright knows as well that there is none


def test_no_face_is_mounted_in_a_way_that_makes_its_routes() -> None:
    """Mounted at no place of its own, a router of routers has all their routes made when the server starts."""
    for face in (*faces(), *ROOMS):
        nested = any(hasattr(route, "original_router") for route in face.routes)
        assert not nested or (isinstance(face, Face) and face.at)
