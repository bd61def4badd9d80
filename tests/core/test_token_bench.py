"""The bench of token estimates reads what providers counted, and says how far off each model is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.tokens import LIMIT, sampled, used


def test_every_tokenizer_is_within_the_limit_on_the_sample() -> None:
    rows = list(sampled())
    assert {row.name for row in rows} == {"o200k", "cl100k", "claude", "tekken", "llama32k"}
    assert all(abs(row.whole) < LIMIT for row in rows)


def test_what_a_provider_counted_corrects_the_next_call_of_its_session(tmp_path: Path) -> None:
    words = "The parcel left the warehouse on Tuesday. " * 80
    said = [[{"role": "user", "content": words * n}] for n in (1, 2, 3, 4)]
    calls = [
        {"model": "openai:gpt", "session": "s", "messages": messages, "input_tokens": n * 1_200}
        for n, messages in enumerate(said, start=1)
    ]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(map(json.dumps, calls)))
    plain, corrected = used(path)
    assert (plain.texts, plain.counted) == (4, 12_000)
    assert abs(corrected.whole) < abs(plain.whole)
    assert corrected.mean == pytest.approx(plain.mean / 4, rel=0.2), "only the first call is off"
