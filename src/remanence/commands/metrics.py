"""Figures for Prometheus, in its text format (version 0.0.4), over everything this process and its database hold.

Money and tokens are summed by the same view that `cost` asks, so a scrape brings it up to date: what a scrape costs is
what happened since the last one. Turns and effects are counted as this process journals them, from its first scrape on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from remanence.commands.caller import Caller
from remanence.commands.usage import usage
from remanence.events import ModelCalled, ModelFailed, Recorded, ToolLost, ToolStarted, TurnEnded
from remanence.ports import UsageQuery

__all__ = ["Tally", "exposition"]

Sample = tuple[Mapping[str, str], int | float]


class Tally:
    """Counts what is journaled in this process. Hand `take` to `Hub.listen`."""

    def __init__(self) -> None:
        self.turns: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.records = 0

    def take(self, record: Recorded) -> None:
        """Count one record."""
        self.records += 1
        match record.event:
            case TurnEnded(status=status):
                self.turns[status] += 1
            case ModelCalled():
                self.effects["model_called"] += 1
            case ModelFailed():
                self.effects["model_failed"] += 1
            case ToolStarted():
                self.effects["tool_started"] += 1
            case ToolLost(asked=0):
                self.effects["tool_lost"] += 1
            case _:
                pass


async def exposition(caller: Caller, tally: Tally | None, *, held: int | None) -> str:
    """All figures as text. Without a tally those of the database alone: who asks once has counted nothing. `held` is
    how many sessions the worker of this process holds; None: there is no worker."""
    stats = await caller.database.views.stats()
    rows, unread = await usage(caller, UsageQuery(by=("model",)))
    models = [({"model": row.key[0]}, row) for row in rows]
    tokens = [
        ({**labels, "kind": kind}, getattr(row.usage, f"{kind}_tokens"))
        for labels, row in models
        for kind in ("input", "output", "cached", "cache_write", "reasoning")
    ]
    families = [
        _family("sessions", "gauge", "Sessions by status.", _by("status", stats["sessions"])),
        _family("records", "gauge", "Records in all journals.", [({}, stats["records"])]),
        _family("database_bytes", "gauge", "Size of the database.", [({}, stats["bytes"])]),
        _family("model_calls_total", "counter", "Model calls that were counted.", [(k, r.calls) for k, r in models]),
        _family("model_tokens_total", "counter", "Tokens of model calls; cached ones are input too.", tokens),
        _family("cost_usd_total", "counter", "What they cost.", [(k, r.usd_micros / 1_000_000) for k, r in models]),
        _family(
            "model_calls_unpriced_total",
            "counter",
            "Model calls no price is known for.",
            [(k, r.unpriced_calls) for k, r in models],
        ),
        _family("journals_unread", "gauge", "Journals whose usage could not be read.", [({}, len(unread))]),
    ]
    if tally is not None:
        families += _of_process(tally)
    if held is not None:
        families.append(_family("worker_sessions", "gauge", "Sessions this worker has claimed.", [({}, held)]))
    return "".join(families)


def _of_process(tally: Tally) -> list[str]:
    return [
        _family("process_turns_total", "counter", "Turns that ended in this process.", _by("status", tally.turns)),
        _family("process_effects_total", "counter", "Effects in this process.", _by("kind", tally.effects)),
        _family("process_records_total", "counter", "Records this process journaled.", [({}, tally.records)]),
    ]


def _by(label: str, counts: Mapping[str, int]) -> list[Sample]:
    return [({label: name}, count) for name, count in sorted(counts.items())]


def _family(name: str, kind: str, words: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP remanence_{name} {words}", f"# TYPE remanence_{name} {kind}"]
    lines += [f"remanence_{name}{_labels(labels)} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
