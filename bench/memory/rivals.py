"""What recall is compared with: plain FTS5 with BM25, and the cosine of embeddings alone."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from operator import mul

from bench.memory.conversations import Conversation
from bench.memory.measures import RANKED

from remanence.ports import Embedder
from remanence.recollections import Memory

__all__ = ["Vectors", "dense", "embedded", "fts5"]

BATCH = 256


def fts5(conversation: Conversation, tokenizer: str) -> list[list[Memory]]:
    """The ranking of each question by SQLite's own full text: any of its words, by `bm25()`."""
    with closing(sqlite3.connect(":memory:")) as connection, connection:
        connection.execute(f"CREATE VIRTUAL TABLE said USING fts5(text, tokenize = '{tokenizer}')")
        rows = [(number, shown(memory)) for number, memory in enumerate(conversation.memories)]
        connection.executemany("INSERT INTO said (rowid, text) VALUES (?, ?)", rows)
        query = f"SELECT rowid FROM said WHERE said MATCH ? ORDER BY bm25(said) LIMIT {RANKED}"
        asked = [any_word(question.text) for question in conversation.questions]
        return [
            [conversation.memories[row] for (row,) in connection.execute(query, (words,))] if words else []
            for words in asked
        ]


def any_word(question: str) -> str:
    """A question as FTS5 wants it; empty for one without a word, which FTS5 refuses."""
    return " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))


def shown(memory: Memory) -> str:
    """What the rivals are given to read: the speaker is part of the text."""
    return f"{memory.speaker}: {memory.text}"


Vectors = list[list[float]]


async def embedded(conversation: Conversation, embedder: Embedder, *, alone: bool) -> tuple[Vectors, Vectors]:
    """The vectors of a conversation's memories and of its questions, each of length 1.

    `alone`: with the speaker in front of each text, without which cosines alone find far less. Beside words they find
    more without, as the product embeds them: the words know the names.
    """
    memories = [shown(memory) if alone else memory.text for memory in conversation.memories]
    questions = [question.text for question in conversation.questions]
    return await _embed(memories, embedder), await _embed(questions, embedder)


async def _embed(texts: Sequence[str], embedder: Embedder) -> Vectors:
    vectors: Vectors = []
    for start in range(0, len(texts), BATCH):
        vectors += map(unit, await embedder.embed(texts[start : start + BATCH]))
    return vectors


def unit(vector: Sequence[float]) -> list[float]:
    """The same direction, length 1."""
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]


def dense(conversation: Conversation, memories: Vectors, questions: Vectors) -> list[list[Memory]]:
    """Each question's ranking by nothing but the cosine of embeddings."""
    rankings: list[list[Memory]] = []
    for asked in questions:
        cosines = [sum(map(mul, asked, vector)) for vector in memories]
        ranked = sorted(zip(cosines, conversation.memories, strict=True), key=lambda pair: (-pair[0], pair[1].id))
        rankings.append([memory for _, memory in ranked[:RANKED]])
    return rankings
