"""What recall is compared with: plain FTS5 with BM25, a dense embedder, and our ranking fused with it.

The embedder is any OpenAI-compatible `/v1/embeddings` endpoint (`--embedder URL MODEL`); without one, the dense rows
are left out.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import urllib.request
from collections.abc import Callable, Sequence

from bench.memory.conversations import Conversation
from bench.memory.measures import RANKED

from remanence.recollections import Memory, MemoryHit

__all__ = ["Embed", "dense", "embedder", "fts5", "fused"]

Embed = Callable[[Sequence[str]], list[list[float]]]
"""Texts to vectors of length 1."""

BATCH = 256
DENSE_WEIGHT = 0.3


def fts5(conversation: Conversation, tokenizer: str) -> list[list[Memory]]:
    """The ranking of each question by SQLite's own full text: any of its words, by `bm25()`."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"CREATE VIRTUAL TABLE said USING fts5(text, tokenize = '{tokenizer}')")
        rows = [(number, shown(memory)) for number, memory in enumerate(conversation.memories)]
        connection.executemany("INSERT INTO said (rowid, text) VALUES (?, ?)", rows)
        query = f"SELECT rowid FROM said WHERE said MATCH ? ORDER BY bm25(said) LIMIT {RANKED}"
        return [
            [conversation.memories[row] for (row,) in connection.execute(query, (any_word(question.text),))]
            for question in conversation.questions
        ]


def any_word(question: str) -> str:
    """A question as FTS5 wants it."""
    return " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))


def shown(memory: Memory) -> str:
    """What the rivals are given to read: the speaker is part of the text."""
    return f"{memory.speaker}: {memory.text}"


def embedder(url: str, model: str) -> Embed:
    """An OpenAI-compatible endpoint, such as `http://127.0.0.1:11434/v1`."""

    def embed(texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            body = json.dumps({"model": model, "input": list(texts[start : start + BATCH])}).encode()
            request = urllib.request.Request(f"{url}/embeddings", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=600) as answer:
                rows = json.load(answer)["data"]
            vectors += [unit(row["embedding"]) for row in sorted(rows, key=lambda row: row["index"])]
        return vectors

    return embed


def unit(vector: Sequence[float]) -> list[float]:
    """The same direction, length 1."""
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]


def dense(conversation: Conversation, embed: Embed) -> list[list[tuple[float, Memory]]]:
    """Each question's ranking by the cosine of embeddings, with the cosines."""
    memories = embed([shown(memory) for memory in conversation.memories])
    questions = embed([question.text for question in conversation.questions])
    rankings: list[list[tuple[float, Memory]]] = []
    for asked in questions:
        cosines = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in memories]
        ranked = sorted(zip(cosines, conversation.memories, strict=True), key=lambda pair: (-pair[0], pair[1].id))
        rankings.append(ranked)
    return rankings


def fused(hits: Sequence[MemoryHit], cosines: Sequence[tuple[float, Memory]]) -> list[Memory]:
    """A convex sum of both scores, each brought to 0 to 1 over the question."""
    best = max((hit.score for hit in hits), default=1.0) or 1.0
    words = {hit.memory.id: hit.score / best for hit in hits}
    high, low = cosines[0][0], cosines[-1][0]
    near = {memory.id: (cosine - low) / ((high - low) or 1.0) for cosine, memory in cosines}
    by_id = {memory.id: memory for _, memory in cosines}
    scores = {id_: (1 - DENSE_WEIGHT) * words.get(id_, 0.0) + DENSE_WEIGHT * near[id_] for id_ in by_id}
    return [by_id[id_] for id_ in sorted(scores, key=lambda id_: (-scores[id_], id_))[:RANKED]]
