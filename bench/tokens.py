"""How far the estimate of tokens is from what a tokenizer counts: no model, no network, no download.

    python -m bench.tokens
    python -m bench.tokens --usage calls.jsonl

The reference of the first form are the counts of five published tokenizers for a sample of eleven languages, JSON, code
and logs. They were made once with the tokenizers' own vocabularies, and stand beside the sample in
`tests/core/test_tokens.py`: vocabularies are large and come from the network, so none is part of this repository.

The second form takes what providers counted: a JSON Lines file with `model`, `text` (what was sent, or the `messages`
of the Chat Completions API) and `input_tokens`, one call a line, such as a log of your own calls. Calls of one session
follow each other under the same `session`, and are then estimated as a session does: what was counted for a call
corrects the next estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from tests.core.test_tokens import COUNTED, SAMPLE

from remanence.core.context.transcript import CALIBRATED_FROM, SCALE_MAX, SCALE_MIN
from remanence.core.tokens import MESSAGE_TOKENS, Family, family_of, text_tokens

LIMIT = 0.08


class Row(NamedTuple):
    """One tokenizer or model: how far off the whole is, a text on average, and the worst text."""

    name: str
    texts: int
    counted: int
    whole: float
    mean: float
    worst: float
    worst_of: str


def row_of(name: str, counted: Sequence[int], estimated: Sequence[float], labels: Sequence[str]) -> Row:
    """The errors of some estimates, as shares of what was counted."""
    errors = [each / n - 1 for each, n in zip(estimated, counted, strict=True)]
    worst = max(range(len(errors)), key=lambda index: abs(errors[index]))
    whole = sum(estimated) / sum(counted) - 1
    mean = statistics.fmean(map(abs, errors))
    return Row(name, len(counted), sum(counted), whole, mean, errors[worst], labels[worst])


def sampled() -> Iterator[Row]:
    """A row for each published tokenizer."""
    families: tuple[Family, ...] = get_args(Family)
    for family in families:
        estimated = [text_tokens(text, family) for text in SAMPLE.values()]
        yield row_of(family, COUNTED[family], estimated, list(SAMPLE))


def used(path: Path) -> Iterator[Row]:
    """A row for each model of a log of calls, as estimated at once and as corrected by the calls before."""
    calls: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        calls.setdefault(call["model"], []).append(call)
    for model, made in calls.items():
        counted = [int(call["input_tokens"]) for call in made]
        plain = [estimate(call, family_of(model)) for call in made]
        labels = [str(call.get("session", number)) for number, call in enumerate(made, start=1)]
        yield row_of(model, counted, plain, labels)
        if any("session" in call for call in made):
            yield row_of(f"{model}, corrected", counted, list(corrected(made, plain)), labels)


def estimate(call: dict[str, Any], family: Family) -> float:
    """The tokens of what one call was sent."""
    if "text" in call:
        return MESSAGE_TOKENS + text_tokens(str(call["text"]), family)
    texts = [message.get("content") or "" for message in call["messages"]]
    return sum(MESSAGE_TOKENS + text_tokens(t if isinstance(t, str) else json.dumps(t), family) for t in texts)


def corrected(calls: Sequence[dict[str, Any]], plain: Iterable[float]) -> Iterator[float]:
    """The estimates times what the last call of the same session was counted for, over its own."""
    scales: dict[str, float] = {}
    for call, tokens in zip(calls, plain, strict=True):
        session = str(call.get("session", ""))
        yield tokens * scales.get(session, 1.0)
        if session and tokens >= CALIBRATED_FROM:
            scales[session] = min(max(int(call["input_tokens"]) / tokens, SCALE_MIN), SCALE_MAX)


def main() -> int:
    """Measure and print; 1 when the whole of a sample is off by the limit or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--usage", type=Path, metavar="FILE", help="what providers counted, instead of the sample")
    given = parser.parse_args()
    rows = list(used(given.usage) if given.usage else sampled())
    print(f"{'tokenizer':<28} {'texts':>5} {'counted':>8} {'whole':>7} {'mean':>7} {'worst':>7}")
    for row in rows:
        print(
            f"{row.name:<28} {row.texts:>5} {row.counted:>8} {row.whole:>+7.1%} {row.mean:>7.1%} {row.worst:>+7.1%}  "
            f"({row.worst_of})"
        )
    return int(any(abs(row.whole) >= LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
