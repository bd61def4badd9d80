"""How good a ranking is: recall at ranks and within tokens, nDCG@10, MRR; by category and over all questions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.memory.conversations import Question

from remanence.recollections import Memory

__all__ = ["COLUMNS", "RANKED", "measured", "tokens_of"]

RANKS = (5, 10, 20)
TOKENS = (500, 1_000, 2_000, 4_000)
RANKED = 150
"""How many hits a ranking is asked for: enough to fill 4,000 tokens."""
CHARACTERS_PER_TOKEN = 4
AROUND_TOKENS = 8
"""What the speaker and the date in front of a memory take."""
COLUMNS = (*(f"recall@{k}" for k in RANKS), "nDCG@10", "MRR", *(f"recall<{k}t" for k in TOKENS))


def tokens_of(memory: Memory) -> int:
    """About how many tokens a memory takes in a prompt."""
    return AROUND_TOKENS + (len(memory.speaker) + len(memory.text)) // CHARACTERS_PER_TOKEN


def measured(rankings: Iterable[tuple[Question, Sequence[Memory]]]) -> dict[str, dict[str, float]]:
    """The mean of each measure by category and over all questions (`all`), and how many they are (`n`)."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for question, ranking in rankings:
        row = _row(question.evidence, ranking)
        rows["all"].append(row)
        rows[question.category].append(row)
    return {
        name: {"n": len(found), **{c: sum(row[i] for row in found) / len(found) for i, c in enumerate(COLUMNS)}}
        for name, found in sorted(rows.items(), key=lambda item: (item[0] != "all", item[0]))
    }


def _row(evidence: frozenset[str], ranking: Sequence[Memory]) -> list[float]:
    ids = [memory.id for memory in ranking]
    first = next((1 / rank for rank, id_ in enumerate(ids, 1) if id_ in evidence), 0.0)
    gain = sum(1 / math.log2(rank + 1) for rank, id_ in enumerate(ids[:10], 1) if id_ in evidence)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(10, len(evidence)) + 1))
    at_ranks = [len(evidence.intersection(ids[:k])) / len(evidence) for k in RANKS]
    within = [len(evidence.intersection(_within(ranking, tokens))) / len(evidence) for tokens in TOKENS]
    return [*at_ranks, gain / ideal, first, *within]


def _within(ranking: Sequence[Memory], tokens: int) -> list[str]:
    ids: list[str] = []
    for memory in ranking:
        tokens -= tokens_of(memory)
        if tokens < 0:
            break
        ids.append(memory.id)
    return ids
