"""The first page: what waits for somebody, what runs, what failed, what was spent today."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, Request, Response

from remanence.commands import approvals, usage
from remanence.commands.search import catch_up
from remanence.commands.shapes import ApprovalShape, BudgetShape, CostShape, DoubtShape, SessionRowShape
from remanence.console.entry import Looking, by_link, looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.ways import Ways, all_waiting, joined, listing, ways
from remanence.ports import SessionQuery, UsageQuery
from remanence.screens import Minute, Overview

__all__ = ["HomeData", "home_router"]

home_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

SHOWN = 8
MINUTES = 60
CATCH_UP_S = 0.05
_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000


class Sums(msgspec.Struct, frozen=True):
    """How many sessions stand where. `waiting` for a person: approvals, questions and effects in doubt."""

    waiting: int
    running: int
    failed: int
    in_doubt: int


class HomeData(msgspec.Struct, frozen=True):
    """What the first page says. `today` sums what was spent since midnight UTC, by agent; `minutes` are those of the
    last hour in which turns ended."""

    sums: Sums
    minutes: list[Minute]
    approvals: list[ApprovalShape]
    doubts: list[DoubtShape]
    running: list[SessionRowShape]
    failed: list[SessionRowShape]
    recent: list[SessionRowShape]
    today: list[CostShape]
    budgets: list[BudgetShape]


@home_router.get("/")
@home_router.get("/home.json")
async def home(request: Request) -> Response:
    """The page, or what follows the link that was printed."""
    entered = await by_link(request)
    if entered is not None:
        return entered
    frame = await looking(request)
    data = await _data(frame)
    return frame.show("home.html", "home", data, ways=_ways(frame), **_more(frame, data))


@home_router.get("/home/parts")
async def parts(frame: Looking) -> Response:
    """The same without the frame, for a page that is open."""
    data = await _data(frame)
    return frame.page("_home.html", data=data, **_more(frame, data))


def _more(frame: Frame, data: HomeData) -> dict[str, Any]:
    """What the template needs besides: the sum of the day, and the last hour minute by minute for the chart."""
    ended = {minute.at // _MINUTE_US: minute for minute in data.minutes}
    last = frame.now // _MINUTE_US
    hour = range(last - MINUTES + 1, last + 1)
    return {
        "spent": sum(row.usd_micros for row in data.today),
        "chart": [
            [at * 60 for at in hour],
            [ended[at].completed if at in ended else 0 for at in hour],
            [ended[at].failed + ended[at].cancelled if at in ended else 0 for at in hour],
        ],
    }


def _ways(frame: Frame) -> Ways:
    """What waits, runs and failed, and what was spent today."""
    since = frame.now // _DAY_US * _DAY_US
    spent = ways(
        frame,
        ["cost", "--by", "agent", "--since", "1d"],
        f"/admin/v1/usage?by=agent&since={since}",
        f"await usage(rt.caller, UsageQuery(('agent',), rt.caller.project, {since}))",
    )
    lists = [listing(frame, {"status": status}) for status in ("in_progress", "failed")]
    return joined(frame, *all_waiting(frame), *lists, spent)


async def _data(frame: Frame) -> HomeData:
    caller = frame.caller

    async def rows(**fields: Any) -> list[SessionRowShape]:
        query = SessionQuery(project=caller.project, limit=SHOWN, without_status="deleted", **fields)
        return [SessionRowShape.of(row) for row in await caller.database.views.sessions(query)]

    await catch_up(caller, within_s=CATCH_UP_S)
    overview = await caller.database.screens.overview(caller.project, since=frame.now - MINUTES * _MINUTE_US)
    spent, _ = await usage.usage(caller, UsageQuery(("agent",), caller.project, frame.now // _DAY_US * _DAY_US))
    project = await caller.database.controls.budgets(f"project:{caller.project}")
    return HomeData(
        sums=_sums(overview),
        minutes=list(overview.minutes),
        approvals=[ApprovalShape.of(one) for one in (await approvals.waiting(caller, limit=SHOWN))[:SHOWN]],
        doubts=[DoubtShape.of(s.id, doubt) for s, doubt in (await approvals.doubts(caller, limit=SHOWN))[:SHOWN]],
        running=await rows(status="in_progress"),
        failed=await rows(status="failed"),
        recent=await rows(),
        today=[CostShape.of(("agent",), row) for row in spent],
        budgets=[BudgetShape.of(budget) for budget in project],
    )


def _sums(overview: Overview) -> Sums:
    by_person = sum(count for (_, word), count in overview.counts.items() if word in ("approval", "answer"))
    running = sum(count for (status, _), count in overview.counts.items() if status == "in_progress")
    failed = sum(count for (status, _), count in overview.counts.items() if status == "failed")
    return Sums(by_person + overview.in_doubt, running, failed, overview.in_doubt)


# --- the health line --------------------------------------------------------------------------------------------------


class _Working(Protocol):
    @property
    def alive(self) -> bool: ...
    @property
    def sessions(self) -> int: ...


class HealthData(msgspec.Struct, frozen=True):
    """How this process does. `worker`: runs, stopped, or none here."""

    backend: str
    durability: str
    worker: str
    held: int
    model: str
    version: str
    draining: bool


@home_router.get("/health-line")
@home_router.get("/health-line.json")
async def health_line(request: Request, frame: Looking) -> Response:
    """The lines at the foot of every page."""
    state = request.app.state
    worker: _Working | None = state.runtime.worker
    sqlite = frame.caller.database.url.startswith("sqlite")
    data = HealthData(
        backend="SQLite" if sqlite else "PostgreSQL",
        durability="synchronous=FULL" if sqlite else "synchronous_commit=on",
        worker="none" if worker is None else "runs" if worker.alive else "stopped",
        held=worker.sessions if worker is not None else 0,
        model=state.doors.model,
        version=version_of("remanence"),
        draining=state.serving.draining,
    )
    return frame.show("_health.html", "", data)
