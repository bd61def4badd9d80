"""How fast the console answers when there is much: every page at many sessions, one session of many events.

    python -m bench.console [--sessions 100000] [--events 10000] [--store sqlite|postgres] [--rounds 30]
                            [--folder bench/results] [--out result.json]

The *floor* is a bare page: the same server, frame, cookie and stylesheet, and nothing asked of the database (the page
of an error). Every figure is the time from the request to the last byte of the page, over one connection to the app in
this process, so that it holds the work of the server alone. Each page is asked for `--rounds` times, the pages taking
turns; the data of a run stays in `--folder` and is used again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2

from remanence import Agent, Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.app import Options
from remanence.commands import search
from remanence.commands.usage import bring_up_to_date
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.content import Text, Usage
from remanence.core.session import fold
from remanence.core.snapshots import encode_snapshot
from remanence.core.state import Session
from remanence.events import (
    Event,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    SessionOpened,
    ToolLost,
    TurnEnded,
    TurnStarted,
)
from remanence.ports import Database, Summary, Write
from remanence.testing.postgres import postgres_database, postgres_server

DAYS = 30
"""The data of a run covers so many days and ends when it was made."""
DAY_US = 86_400_000_000
AGENTS = ("support", "research", "sales", "billing", "triage")
WORDS = [
    "order",
    "refund",
    "invoice",
    "parcel",
    "broken",
    "late",
    "address",
    "change",
    "account",
    "password",
    "reset",
    "delivery",
    "street",
    "number",
    "thanks",
    "please",
    "question",
    "answer",
    "status",
    "cancel",
    "return",
    "damaged",
    "package",
    "email",
    "phone",
    "customer",
    "price",
    "discount",
    "coupon",
    "warranty",
    "size",
    "colour",
    "stock",
    "payment",
    "card",
    "transfer",
    "bank",
    "receipt",
    "total",
    "tax",
    "report",
    "summary",
    "meeting",
    "plan",
    "travel",
    "hotel",
    "flight",
    "train",
]
LONG = "sess_long"
P95 = 0.95


def text_of(dice: random.Random, words: int) -> str:
    """What somebody said: common words, now and then a rare one."""
    said = dice.choices(WORDS, k=words)
    said.append(f"A{dice.randrange(10**6):06}")
    return " ".join(said)


def turn(dice: random.Random, number: int, position: int) -> tuple[Event, ...]:
    """One turn without a tool, from its input to its end."""
    call = f"call_{number}_1"
    usage = Usage(dice.randrange(200, 4_000), dice.randrange(20, 400))
    return (
        InputReceived(f"in_{number}", (Text(text_of(dice, 12)),)),
        TurnStarted(number, (position,)),
        ModelCalled(call, number, "scripted:bench", 1, 1, "0" * 64),
        ModelReplied(call, (Text(text_of(dice, 25)),), usage, usage.output_tokens * 15),
        TurnEnded(number, "completed" if dice.random() > 0.03 else "failed"),
    )


def opened(dice: random.Random, number: int, version: str, at: int) -> Write:
    """A session of one to three turns, in one write."""
    agent = AGENTS[dice.randrange(len(AGENTS))]
    user = f"user{dice.randrange(2_000)}"
    turns = dice.choice((1, 1, 1, 2, 3))
    events: list[Event] = [
        SessionOpened(agent, version, "p", user=user, title=text_of(dice, 3), metadata={"tier": dice.choice("abc")})
    ]
    for each in range(1, turns + 1):
        events += turn(dice, each, len(events) + 1)
    status = "failed" if isinstance(events[-1], TurnEnded) and events[-1].status == "failed" else "idle"
    waits = ""
    if number % 1_000 == 0:
        events.append(ToolLost(f"call_{turns}_9", "key", "refund", "the worker died"))
        waits = "doubt"
    cost = sum(event.cost_usd_micros or 0 for event in events if isinstance(event, ModelReplied))
    summary = Summary(agent, version, "default", user, status, waits, events[0].title, turns, cost, 1_000 * turns)  # pyright: ignore[reportAttributeAccessIssue]
    return Write(f"sess_{number:08}", tuple(events), at, "bench", summary=summary)


async def fill(database: Database, sessions: int, events: int, version: str) -> None:
    """The data of a run."""
    dice = random.Random(4)
    start, step = time.time_ns() // 1_000 - DAYS * DAY_US, DAYS * DAY_US // max(1, sessions)
    for first in range(0, sessions, 500):
        numbers = range(first, min(first + 500, sessions))
        writes = [opened(dice, number, version, start + number * step) for number in numbers]
        await asyncio.gather(*(database.store.append(write) for write in writes))
    opening = SessionOpened("support", version, "p", user="ada", title="A long session")
    summary = Summary("support", version, "default", "ada", "idle", "", "A long session", events // 5, 1, 1)
    s, position = Session(LONG), 1
    made: tuple[Event, ...] = (opening,)
    for number in range(1, events // 5 + 1):
        at = start + number * DAYS * DAY_US * 5 // events
        records = [Recorded(LONG, position + place, at, 0, "bench", event) for place, event in enumerate(made)]
        s = fold(s, records)
        snapshot = encode_snapshot(s) if s.turn is None else None
        await database.store.append(Write(LONG, made, at, "bench", summary=summary, snapshot=snapshot))
        position += len(made)
        made = turn(dice, number, position)


@contextmanager
def database_of(arguments: argparse.Namespace) -> Generator[str]:
    """The URL of the database of a run: a file that stays, or a server of its own that does not."""
    if arguments.store == "postgres":
        with postgres_server() as server, postgres_database(server) as url:
            yield url
        return
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    yield f"sqlite:///{folder / f'console-{arguments.sessions}-{arguments.events}.db'}"


@asynccontextmanager
async def prepared(arguments: argparse.Namespace, url: str) -> AsyncGenerator[Remanence]:
    """A runtime over the data, made when it is not there."""
    async with Remanence(url, worker=False, options=Options(actor="bench")) as rt:
        if not (await rt.database.views.stats())["sessions"]:
            began = time.perf_counter()
            spec = Agent("support", model="scripted:bench").spec
            version = await rt.database.specs.put(spec, project="default", at=1)
            await fill(rt.database, arguments.sessions, arguments.events, version.version)
            print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        began = time.perf_counter()
        left = await search.catch_up(rt.caller, within_s=3_600)
        await bring_up_to_date(rt.caller)
        print(f"projections brought up to date in {time.perf_counter() - began:.0f} s, {left} left", file=sys.stderr)
        yield rt


# --- asking -----------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Every page that is measured, by name."""
    return {
        "floor: a bare page": "/no/such/page",
        "home": "/",
        "sessions": "/sessions",
        "sessions of an agent": "/sessions?agent=billing",
        "sessions of a user": "/sessions?user=user7",
        "sessions of a user there is not": "/sessions?user=nobody",
        "sessions with a tag": "/sessions?tag=tier%3Da",
        "sessions that failed": "/sessions?status=failed",
        "sessions in doubt": "/sessions?doubt=yes",
        "sessions by cost": "/sessions?sort=cost",
        "search: a common word": "/sessions?q=refund",
        "search: two words": "/sessions?q=refund%20warranty%20",
        "search: a rare word": "/sessions?q=A123456%20",
        "search: a beginning": "/sessions?q=re",
        "search: a common word of a user": "/sessions?q=refund&user=user7",
        "a session of many events": f"/sessions/{LONG}",
        "its middle": f"/sessions/{LONG}?at=5000",
        "its conversation": f"/sessions/{LONG}?view=conversation",
        "inbox": "/inbox",
        "agents": "/agents",
        "one agent": "/agents/support",
        "cost of 30 days": "/cost",
        "keys": "/keys",
        "playground": "/playground",
    }


@asynccontextmanager
async def browsing(rt: Remanence) -> AsyncGenerator[httpx2.AsyncClient]:
    """Somebody who is signed in."""
    principal = development_principal("default")
    app = build_app(rt, faces=ROOMS, access=Access(rt.caller, own={"rmn_bench": principal}))
    open_console(app, Doors({"link": principal}, "bench", "scripted"))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7410") as client:
        await client.get("/?token=link")
        yield client


async def measure(client: httpx2.AsyncClient, paths: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each page, on the clock and of the processor, which no neighbour lengthens."""
    took: dict[str, list[float]] = {name: [] for name in paths}
    worked: dict[str, list[float]] = {name: [] for name in paths}
    size: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, path in paths.items():
            began, busy = time.perf_counter(), time.process_time()
            answer = await client.get(path, headers={"accept": "text/html"})
            if number:  # the first one fills caches
                took[name].append((time.perf_counter() - began) * 1_000)
                worked[name].append((time.process_time() - busy) * 1_000)
            size[name] = len(answer.content)
            expected = 404 if name.startswith("floor") else 200
            if answer.status_code != expected:
                raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:300]}")
    return [_figures(name, took[name], worked[name], size[name]) for name in paths]


def _figures(name: str, took: Sequence[float], worked: Sequence[float], size: int) -> dict[str, Any]:
    return {
        "page": name,
        "median_ms": round(statistics.median(took), 1),
        "p95_ms": round(_p95(took), 1),
        "max_ms": round(max(took), 1),
        "cpu_median_ms": round(statistics.median(worked), 1),
        "cpu_p95_ms": round(_p95(worked), 1),
        "bytes": size,
    }


def _p95(times: Sequence[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * P95))]


async def run(arguments: argparse.Namespace, url: str) -> dict[str, Any]:
    """One run, whole."""
    async with prepared(arguments, url) as rt, browsing(rt) as client:
        figures = await measure(client, pages(), arguments.rounds)
        return {
            "sessions": arguments.sessions,
            "events": arguments.events,
            "store": arguments.store,
            "rounds": arguments.rounds,
            "pages": figures,
        }


def main() -> int:
    """Run, print a table, keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.console")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", default="bench/results")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    with database_of(arguments) as url:
        result = asyncio.run(run(arguments, url))
    for page in result["pages"]:
        times = " ".join(f"{page[name]:8.1f}" for name in ("median_ms", "p95_ms", "cpu_median_ms", "cpu_p95_ms"))
        print(f"{page['page']:36} {times} ms", file=sys.stderr)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
