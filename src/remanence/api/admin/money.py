"""`/admin/v1`: budgets, usage and cost, and the versions of agents that spend."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.admin.shapes import BudgetBody, json_answer, listed, page_answer, shown
from remanence.api.bodies import JsonRoute
from remanence.api.once import IdempotencyKey, digest_of_request, mark_under, once
from remanence.api.router import Face
from remanence.commands import controls, usage, versions
from remanence.commands.given import Key
from remanence.commands.shapes import BudgetShape, CostShape, DiffShape, VersionShape
from remanence.errors import InvalidInput, NotFound
from remanence.ports import UsageQuery

__all__ = ["money_router"]

money_router = Face(tags=["money and versions"], route_class=JsonRoute, responses=REFUSALS)


@money_router.get("/budgets", summary="List budgets", response_model=listed(BudgetShape))
async def list_budgets(caller: Admin, scope: str | None = None) -> Response:
    """Budgets of the project, and of its sessions, agents and users."""
    return page_answer([BudgetShape.of(budget) for budget in await controls.budgets_of(caller, scope)])


@money_router.put("/budgets", summary="Set or raise a budget", response_model=shown(BudgetShape))
@once
async def set_budget(
    request: Request, caller: Admin, body: BudgetBody, idempotency_key: IdempotencyKey = None
) -> Response:
    """Set the limit of a scope, or raise one that stands; sessions that paused at it go on."""
    if [body.limit, body.raise_by, body.raise_to].count(None) != 2:
        words = "limit: give one of `limit`, `raise_by` and `raise_to`. Nothing was changed."
        raise InvalidInput(words, param="limit")
    if not await controls.has_scope(caller, body.scope):
        raise NotFound(f"There is no {body.scope} in project {caller.project!r}. Nothing was changed.", param="scope")
    mark = None
    if idempotency_key is not None:
        mark = await mark_under(caller, Key(f"budget:{idempotency_key}", await digest_of_request(request)))
        if mark is None:  # whoever did it died before it answered
            return json_answer(BudgetShape.of(await controls.changed_before(caller, body.scope, body.unit)))
    if body.limit is not None:
        budget = await controls.set_budget(caller, body.scope, body.unit, body.limit, mark=mark)
    elif body.raise_to is not None:
        budget = await controls.raise_budget(caller, body.scope, body.unit, to=body.raise_to, mark=mark)
    else:
        budget = await controls.raise_budget(caller, body.scope, body.unit, by=body.raise_by or 0, mark=mark)
    return json_answer(BudgetShape.of(budget))


@money_router.get("/usage", summary="What was spent", response_model=listed(CostShape))
async def sum_usage(
    caller: Admin,
    by: Annotated[str, Query(description="Any of agent, user, model, day and session, with commas.")] = "agent",
    since: Annotated[int | None, Query(ge=0, lt=2**62, description="Microseconds since 1970.")] = None,
) -> Response:
    """Calls, tokens and money of the project up to now, summed by these fields."""
    fields = tuple(by.split(","))
    rows, unread = await usage.usage(caller, UsageQuery(fields, caller.project, since))
    return page_answer([CostShape.of(fields, row) for row in rows], unread=unread)


# --- agents -----------------------------------------------------------------------------------------------------------


@money_router.get("/agents", summary="List agents", response_model=listed(VersionShape))
async def list_agents(caller: Admin) -> Response:
    """Each agent of the project with the version that its name stands for."""
    newest = versions.standing(await versions.versions_of(caller))
    return page_answer([VersionShape.of(version) for version in newest.values()])


@money_router.get("/agents/{agent}/versions", summary="List versions", response_model=listed(VersionShape))
async def list_versions(caller: Admin, agent: str) -> Response:
    """Every version of an agent, oldest first."""
    return page_answer([VersionShape.of(version) for version in await versions.versions_of(caller, agent)])


@money_router.get("/agents/{agent}/diff", summary="Compare versions", response_model=shown(DiffShape))
async def compare_versions(caller: Admin, agent: str, a: str | None = None, b: str | None = None) -> Response:
    """What changed from `a` to `b` (numbers or digests); by default from the one before the last to the last."""
    return json_answer(DiffShape.of(await versions.difference(caller, agent, a, b)))
