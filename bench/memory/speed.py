"""How fast the memory is: made conversations in many places, indexed in batches, asked at random.

    python -m bench.memory.speed --items 100000 --places 100
    python -m bench.memory.speed --items 1000000 --places 1000 --store postgres

Texts have the lengths and the word frequencies of talk (a Zipf distribution over 20,000 words, 8 to 40 words each), in
sessions of 20 messages. A question has four to eight words of one message of the place it is asked in. Each batch is
one session or more of one place, as an import brings them; with `--mixed`, of as many places as it has sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from remanence.core.memory.stopwords import FUNCTION
from remanence.ports import Database
from remanence.recollections import Keep, Memory, MemoryQuery, Place
from remanence.stores.postgres.database import open_postgres
from remanence.stores.sqlite.database import open_sqlite
from remanence.testing.postgres import postgres_database, postgres_server

PROJECT = "bench"
SESSION_ITEMS = 20
VOCABULARY = 20_000
NOW = 1_790_000_000_000_000
MINUTE_US = 60_000_000
SYLLABLES = [
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "ha",
    "je",
    "ki",
    "lo",
    "mu",
    "na",
    "pe",
    "ri",
    "so",
    "tu",
    "va",
    "we",
    "xi",
    "yo",
    "zu",
]


class Talk:
    """Texts as people write them, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        words = [
            "".join(parts)
            for n in (2, 3, 4)
            for parts in itertools.islice(itertools.product(SYLLABLES, repeat=n), 8_000)
        ]
        self._random.shuffle(words)
        self._words = words[: VOCABULARY - 120] + sorted(FUNCTION["en"])[:120]
        self._random.shuffle(self._words)
        # The most frequent words of a language are its function words.
        function = [word for word in self._words if word in FUNCTION["en"]]
        self._words = function + [word for word in self._words if word not in FUNCTION["en"]]
        self._weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(len(self._words))))

    def text(self) -> str:
        """One message."""
        count = self._random.randrange(8, 41)
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=count)) + "."

    def question(self, text: str) -> str:
        """What somebody may ask about a message."""
        words = text.rstrip(".").split()
        return " ".join(self._random.sample(words, min(len(words), self._random.randrange(4, 9)))) + "?"

    def place(self, count: int) -> int:
        """One of so many places."""
        return self._random.randrange(count)


def place_of(number: int) -> Place:
    """The place with a number."""
    return Place("default", f"user:{number}")


def sessions(talk: Talk, items: int, places: int, *, together: int = 1) -> Iterator[list[Keep]]:
    """Every session, whole, place by place in turn; so many sessions of a place together."""
    for number in range(items // SESSION_ITEMS):
        where = place_of(number // together % places)
        yield [
            Keep(
                Memory(
                    id=f"s{number}#{position}",
                    kind="episode",
                    project=PROJECT,
                    place=where,
                    text=talk.text(),
                    session=f"s{number}",
                    position=position,
                    author="user:ada",
                    speaker=("Ada", "Bob")[position % 2],
                    recorded_at=NOW - number * MINUTE_US + position,
                )
            )
            for position in range(1, SESSION_ITEMS + 1)
        ]


async def fill(database: Database, talk: Talk, arguments: argparse.Namespace) -> tuple[float, float, list[str]]:
    """Index everything; returns the seconds it took, those of them this process worked, and some of the texts.

    Making the texts is left out.
    """
    took, worked, texts = 0.0, 0.0, list[str]()
    at_once = max(1, arguments.batch // SESSION_ITEMS)
    made = sessions(talk, arguments.items, arguments.places, together=1 if arguments.mixed else at_once)
    while group := list(itertools.islice(made, at_once)):
        changes = [change for one in group for change in one]
        texts.append(changes[0].memory.text + "\0" + changes[0].memory.place.scope)
        started, busy = time.perf_counter(), time.process_time()
        await database.memories.apply(changes)
        took += time.perf_counter() - started
        worked += time.process_time() - busy
    return took, worked, texts


async def ask(database: Database, talk: Talk, texts: Sequence[str], queries: int) -> list[float]:
    """Ask about some of the texts, where they are; the milliseconds of each question."""
    took, found = list[float](), 0
    for number in range(queries):
        text, _, scope = texts[number % len(texts)].partition("\0")
        query = MemoryQuery(project=PROJECT, readable=(Place("default", scope),), text=talk.question(text), now=NOW)
        started = time.perf_counter()
        hits = await database.memories.search(query)
        took.append((time.perf_counter() - started) * 1e3)
        found += len(hits)
    assert found > queries, "hardly anything is found: the questions do not fit the texts"
    return took


async def single(database: Database, talk: Talk, turns: int) -> tuple[list[float], list[float]]:
    """Two items at a time, as a turn adds them; the milliseconds of each, and those this process worked."""
    took, worked = list[float](), list[float]()
    for number, session in enumerate(itertools.islice(sessions(talk, turns * SESSION_ITEMS, turns), turns)):
        renamed = [
            Keep(
                Memory(
                    **{**_fields(change.memory), "id": f"t{number}#{change.memory.position}", "session": f"t{number}"}
                )
            )
            for change in session[:2]
        ]
        started, busy = time.perf_counter(), time.process_time()
        await database.memories.apply(renamed)
        took.append((time.perf_counter() - started) * 1e3)
        worked.append((time.process_time() - busy) * 1e3)
    return took, worked


def _fields(memory: Memory) -> dict[str, Any]:
    return {name: getattr(memory, name) for name in memory.__struct_fields__}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th and 99th percentile; of a single value that value."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else list(values) * 99
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


@contextmanager
def storage(store: str) -> Iterator[Callable[[], Awaitable[Database]]]:
    """What opens a new database of this kind, which goes away with the block."""
    with ExitStack() as stack:
        if store == "postgres":
            server = stack.enter_context(postgres_server(durable=True))
            yield partial(open_postgres, stack.enter_context(postgres_database(server)))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="remanence-bench-"))
            yield partial(open_sqlite, str(Path(folder) / "memory.db"))


async def run(arguments: argparse.Namespace, opener: Callable[[], Awaitable[Database]]) -> dict[str, Any]:
    """One run on one store."""
    database = await opener()
    try:
        talk = Talk(1)
        took, worked, texts = await fill(database, talk, arguments)
        random.Random(2).shuffle(texts)
        await ask(database, talk, texts, 50)  # stems are remembered and pages read as in a running server
        asked = await ask(database, talk, texts, arguments.queries)
        turns, turns_worked = await single(database, talk, 200)
        stats = await database.views.stats()
    finally:
        await database.close()
    return {
        "store": arguments.store,
        "items": arguments.items,
        "places": arguments.places,
        "indexed_per_s": round(arguments.items / took),
        "indexed_per_cpu_s": round(arguments.items / worked),
        "query_ms": quantiles(asked),
        "turn_ms": quantiles(turns),
        "turn_cpu_ms": quantiles(turns_worked),
        "bytes_per_item": round(stats["bytes"] / arguments.items),
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--places", type=int, default=100)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--mixed", action="store_true", help="each session of a batch is of another place")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with storage(arguments.store) as opener:
        result = asyncio.run(run(arguments, opener))
    print(json.dumps(result))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
