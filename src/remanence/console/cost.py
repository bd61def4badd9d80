"""Cost: what was spent, by day and by whatever explains it, and the budgets that bound it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Literal, cast, get_args

import msgspec
from fastapi import APIRouter, Response
from msgspec.structs import replace

from remanence.commands import controls
from remanence.commands.shapes import BudgetShape, CostShape
from remanence.console.entry import Deciding, Looking, Sent
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.reading import ask, ask_current
from remanence.console.ways import WAYS_OF, ways
from remanence.core.ledger import own_scope
from remanence.errors import InvalidInput, NotFound
from remanence.ports import Budget, UsageQuery, UsageRow
from remanence.screens import Budgets, Spent
from remanence.stores.usage_rows import day_of

__all__ = ["CostData", "cost_router"]

cost_router = APIRouter(prefix="/cost", route_class=ConsoleRoute, include_in_schema=False)

By = Literal["agent", "user", "model"]
FIELDS: tuple[By, ...] = get_args(By)
SPANS = (1, 7, 30, 90)
"""Over how many days sums may go; 1: since midnight UTC."""
ROWS_MAX = 100
BUDGETS_MAX = 200
_DAY_US = 86_400_000_000
Unit = Literal["usd_micros", "tokens"]


class CostData(msgspec.Struct, frozen=True):
    """What was spent in the last `days`: by day (each there is, oldest first), and by one field, the dearest first."""

    by: By
    days: int
    by_day: list[CostShape]
    rows: list[CostShape]
    usd_micros: int
    calls: int
    tokens: int
    unpriced_calls: int
    budgets: list[BudgetShape]
    unread: list[str]


@cost_router.get(".json")
@cost_router.get("")
async def cost(frame: Looking, by: By = "agent", days: int = 30) -> Response:
    """The page."""
    if days not in SPANS:
        raise InvalidInput(f"days: one of {', '.join(map(str, SPANS))}. Nothing was read.", param="days").because(
            "bad_filter"
        )
    data = await _data(frame, by, days)
    since = _since(frame, days)
    lines = ways(
        frame,
        ["cost", "--by", by, "--since", f"{days}d"],
        f"/admin/v1/usage?by={by}&since={since}",
        f"await usage(rt.caller, UsageQuery(({by!r},), rt.caller.project, {since}))",
    )
    first = since // _DAY_US
    spent = {row.key["day"]: row.usd_micros / 1_000_000 for row in data.by_day}
    all_days = range(first, frame.now // _DAY_US + 1)
    chart = [[day * 86_400 for day in all_days], [spent.get(day_of(day * _DAY_US), 0) for day in all_days]]
    return frame.show("cost.html", "cost", data, fields=FIELDS, spans=SPANS, ways=lines, chart=chart, ways_of=WAYS_OF)


@cost_router.post("/budgets")
async def change(frame: Deciding, fields: Sent) -> Response:
    """Set the limit of a scope, or raise one that stands; sessions that paused at it go on."""
    scope, unit = fields.text("scope").strip(), cast("Unit", fields.one_of("unit", ("usd_micros", "tokens")))
    if not await controls.has_scope(frame.caller, scope):
        raise NotFound(
            f"There is no {scope} in project {frame.caller.project}. Nothing was changed.", param="scope"
        ).because("no_scope", scope=scope[:80])
    amount = amount_of(fields.text("amount"), unit)
    if fields.text("act") == "raise":
        budget = await controls.raise_budget(frame.caller, scope, unit, by=amount)
    else:
        budget = await controls.set_budget(frame.caller, scope, unit, amount)
    limit = frame.words.money(budget.limit) if unit == "usd_micros" else frame.words.number(budget.limit)
    words = frame.words.rich("did.raised", scope=scope, limit=limit)
    (budgets,) = await ask(frame, Budgets())
    return frame.page("_budgets_after.html", data={"budgets": _budgets(frame, budgets)}, words=words, ways_of=WAYS_OF)


async def _data(frame: Frame, by: By, days: int) -> CostData:
    project, since = frame.caller.project, _since(frame, days)
    questions = (Spent(UsageQuery(("day",), project, since)), Spent(UsageQuery((by,), project, since)), Budgets())
    (by_day, found, budgets), unread, _ = await ask_current(frame, *questions)
    rows: list[UsageRow] = sorted(found, key=lambda row: (-row.usd_micros, -row.calls))
    return CostData(
        by,
        days,
        [CostShape.of(("day",), row) for row in by_day],
        [CostShape.of((by,), row) for row in rows[:ROWS_MAX]],
        sum(row.usd_micros for row in rows),
        sum(row.calls for row in rows),
        sum(row.usage.total_tokens for row in rows),
        sum(row.unpriced_calls for row in rows),
        _budgets(frame, budgets),
        unread,
    )


def _budgets(frame: Frame, found: Sequence[Budget]) -> list[BudgetShape]:
    """The fullest first. Those of single sessions are shown with the sessions."""
    named = [(own_scope(frame.caller.project, budget.scope), budget) for budget in found]
    mine = [replace(budget, scope=scope) for scope, budget in named if scope is not None]
    mine.sort(key=lambda b: (-_full(b), b.scope))
    return [BudgetShape.of(budget) for budget in mine[:BUDGETS_MAX]]


def _full(budget: Budget) -> float:
    return (budget.spent + budget.reserved) / budget.limit if budget.limit else 1.0


def _since(frame: Frame, days: int) -> int:
    return (frame.now // _DAY_US - days + 1) * _DAY_US


def amount_of(text: str, unit: Unit) -> int:
    """What was typed, in micro-USD or tokens. A comma is a point. Raises InvalidInput."""
    try:
        value = Decimal("".join(text.split()).replace(",", ".")) * (1_000_000 if unit == "usd_micros" else 1)
        if not value.is_finite() or not 0 <= value < 2**53:
            raise InvalidOperation
    except ArithmeticError:
        raise InvalidInput(f"{text[:40]!r} is not an amount. Nothing was changed.", param="amount").because(
            "bad_amount", amount=text[:40]
        ) from None
    return int(value)
