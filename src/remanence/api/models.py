"""`GET /v1/models`: the models and the agents that `model` may name. See `named` for what a name stands for."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from remanence.api.auth import may
from remanence.api.bodies import JsonRoute
from remanence.api.named import Named, Served, agents_of, known_names, named, owner_of
from remanence.api.router import Face
from remanence.commands.caller import Caller

__all__ = ["ModelAnswer", "ModelList", "models_router"]


class ModelAnswer(BaseModel):
    """Something that `model` may name. `created` is in seconds since 1970, 0 when nobody knows."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = Field(description="The provider, or `remanence` for aliases and agents.")


class ModelList(BaseModel):
    """All of them. Models of providers are not listed: any `provider:name` may be named."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


models_router = Face(tags=["models"], route_class=JsonRoute)
_Caller = Annotated[Caller, Depends(may("api"))]


@models_router.get("/models", summary="List models and agents")
async def list_models(request: Request, caller: _Caller) -> ModelList:
    """The aliases of the configuration, ready-made models, and the agents of the key's project."""
    served: Served = request.app.state.runtime
    agents = await agents_of(served, caller)
    models = [Named(name) for name in known_names(served) if name not in agents]
    return ModelList(data=[_answer(found) for found in (*models, *agents.values())])


@models_router.get("/models/{model:path}", summary="Look a model or an agent up")
async def retrieve_model(request: Request, model: str, caller: _Caller) -> ModelAnswer:
    """One of them, or any model of a provider that can be named. 404 for anything else."""
    return _answer(await named(request.app.state.runtime, caller, model))


def _answer(found: Named) -> ModelAnswer:
    return ModelAnswer(id=found.name, created=found.since, owned_by=owner_of(found))
