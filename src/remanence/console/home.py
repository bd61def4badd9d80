"""The first page: what waits for somebody, what runs, what failed, what was spent today."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import Any, Protocol

import msgspec
from fastapi import APIRouter, Request, Response

from remanence.commands import approvals
from remanence.commands.shapes import ApprovalShape, BudgetShape, CostShape, DoubtShape, SessionRowShape
from remanence.console.entry import Looking, by_link, looking
from remanence.console.failures import ConsoleRoute
from remanence.console.frame import Frame
from remanence.console.reading import ask_current, state_from
from remanence.console.ways import Ways, all_waiting, joined, listing, ways
from remanence.ports import SessionQuery, SessionRow, UsageQuery
from remanence.screens import Budgets, Minute, Overview, Sessions, Spent, Sums, Waiting

__all__ = ["HomeData", "home_router"]

home_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

SHOWN = 8
MINUTES = 60
_DAY_US = 86_400_000_000
_MINUTE_US = 60_000_000


class Counts(msgspec.Struct, frozen=True):
    """How many sessions stand where. `waiting` for a person: approvals, questions and effects in doubt."""

    waiting: int
    running: int
    failed: int
    in_doubt: int


class HomeData(msgspec.Struct, frozen=True):
    """What the first page says. `today` sums what was spent since midnight UTC, by agent; `minutes` are those of the
    last hour in which turns ended."""

    sums: Counts
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
    project = frame.caller.project

    def listed(**fields: Any) -> SessionQuery:
        return SessionQuery(project=project, limit=SHOWN, without_status="deleted", begins=True, **fields)

    answers, _, _ = await ask_current(
        frame,
        Sums(project, frame.now - MINUTES * _MINUTE_US),
        *(Waiting(listed(waiting_on=word)) for word in ("approval", "answer")),
        Waiting(listed(doubt=True)),
        *(Sessions(listed(status=status)) for status in ("in_progress", "failed", None)),
        Spent(UsageQuery(("agent",), project, frame.now // _DAY_US * _DAY_US)),
        Budgets(f"project:{project}"),
    )
    overview, approving, answering, doubting, running, failed, recent, spent, budgets = answers
    waiting = [await state_from(frame, row.session, loaded) for row, loaded in (*approving, *answering, *doubting)]
    asked = [ApprovalShape.of(one) for s in waiting for one in approvals.waiting_in(s)]
    doubts = [DoubtShape.of(s.id, doubt) for s in waiting[len(approving) + len(answering) :] for doubt in s.doubts]
    return HomeData(
        sums=_sums(overview),
        minutes=list(overview.minutes),
        approvals=asked[:SHOWN],
        doubts=doubts[:SHOWN],
        running=_rows(running),
        failed=_rows(failed),
        recent=_rows(recent),
        today=[CostShape.of(("agent",), row) for row in spent],
        budgets=[BudgetShape.of(budget) for budget in budgets],
    )


def _rows(rows: Sequence[SessionRow]) -> list[SessionRowShape]:
    return [SessionRowShape.of(row) for row in rows]


def _sums(overview: Overview) -> Counts:
    by_person = sum(count for (_, word), count in overview.counts.items() if word in ("approval", "answer"))
    running = sum(count for (status, _), count in overview.counts.items() if status == "in_progress")
    failed = sum(count for (status, _), count in overview.counts.items() if status == "failed")
    return Counts(by_person + overview.in_doubt, running, failed, overview.in_doubt)


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
