"""`/admin/v1`: the versions of agents whole, as they are declared and registered; and the keys of the server."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.admin.shapes import json_answer, listed, page_answer, shown
from remanence.api.auth import access_of
from remanence.api.bodies import JsonRoute
from remanence.api.once import once
from remanence.api.router import Face
from remanence.commands import keys, versions
from remanence.commands.deployments import DeploymentShape, deployments
from remanence.commands.keys import CreatedKey, Key
from remanence.commands.shapes import RegisteredShape, VersionShape
from remanence.core.registry import checked
from remanence.errors import InvalidInput, InvalidSpec, NotFound
from remanence.spec import AgentSpec

__all__ = ["versions_router"]

versions_router = Face(tags=["versions and keys"], route_class=JsonRoute, responses=REFUSALS)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PushBody(_Body):
    """A declared agent, as `remanence agents push` has it."""

    spec: dict[str, Any]


class KeyBody(_Body):
    """A new key. `expires_s`: it is good for so long; null: until it is revoked."""

    name: str
    scopes: list[Literal["api", "read", "admin"]] = Field(default=["api"], min_length=1)
    expires_s: float | None = Field(default=None, gt=0)


@versions_router.get("/versions", summary="List versions of agents", response_model=listed(RegisteredShape))
async def list_registered(caller: Admin, agent: str | None = None) -> Response:
    """Every version of an agent, or of all, oldest first, with what it says."""
    found = await caller.database.specs.versions(caller.project, agent)
    return page_answer([RegisteredShape.of(version) for version in found])


@versions_router.post("/versions", status_code=201, summary="Register a version", response_model=shown(VersionShape))
@once
async def register_version(caller: Admin, body: PushBody) -> Response:
    """The same declaration again is the same version (then `created` is false). Sessions keep theirs."""
    try:
        spec = checked(msgspec.convert(body.spec, AgentSpec))
    except msgspec.ValidationError as error:
        raise InvalidSpec(f"spec: {error}. Nothing was registered.", param="spec") from None
    before = {version.version for version in await caller.database.specs.versions(caller.project, spec.name)}
    made = await caller.database.specs.put(spec, project=caller.project, at=caller.clock.now())
    return json_answer(VersionShape.of(made, created=made.version not in before), status=201)


@versions_router.get("/deployments", summary="List deployments", response_model=listed(DeploymentShape))
async def list_deployments(request: Request, caller: Admin, agent: str | None = None) -> Response:
    """Which version answers the new sessions of each agent, or of one."""
    return page_answer(await deployments(caller, request.app.state.runtime.shelf.specs(), agent))


@versions_router.get("/versions/{digest}", summary="Get a version", response_model=shown(RegisteredShape))
async def get_version(caller: Admin, digest: str) -> Response:
    """One version by its digest."""
    for version in await versions.versions_of(caller):
        if version.version == digest:
            return json_answer(RegisteredShape.of(version))
    raise NotFound(f"There is no version {digest!r}. `remanence agents versions NAME` shows those there are.")


# --- keys -------------------------------------------------------------------------------------------------------------


@versions_router.get("/keys", summary="List keys", response_model=listed(Key))
async def list_keys(caller: Admin) -> Response:
    """The keys of the project, revoked ones too, without their secrets."""
    return page_answer(await keys.list_keys(caller))


@versions_router.post("/keys", status_code=201, summary="Make a key", response_model=shown(CreatedKey))
async def create_key(
    caller: Admin, body: KeyBody, idempotency_key: Annotated[str | None, Header(max_length=255)] = None
) -> Response:
    """Make a key of the project. Its text is in this answer and is kept nowhere, so it cannot be given again."""
    if idempotency_key is not None:
        raise InvalidInput(
            "idempotency-key: the text of a key is kept nowhere, so the same answer cannot be given again. Nothing was "
            "made; send it without, and revoke what you did not get.",
            param="idempotency-key",
        )
    made, text = await keys.create_key(caller, body.name, scopes=body.scopes, expires_s=body.expires_s)
    return json_answer(CreatedKey(made, text), status=201)


@versions_router.delete("/keys/{key}", summary="Revoke a key", response_model=shown(Key))
async def revoke_key(request: Request, caller: Admin, key: str) -> Response:
    """Let a key open nothing any more: here at once, on other servers within five seconds."""
    revoked = await keys.revoke_key(caller, key)
    access_of(request.app.state).keyring.forget()
    return json_answer(revoked)
