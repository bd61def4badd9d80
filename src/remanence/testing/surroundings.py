"""What surrounds a simulated session: a model, tools and people that follow a script, budgets and a price.

Everything here is a function of what it is asked: the same script gives the same journal however often a worker dies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from remanence.content import Message, Part, Text, ToolCall, Usage
from remanence.core.state import Doubt, Session, said
from remanence.errors import BudgetExceeded, ModelError
from remanence.events import (
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    Event,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.ports import Charge, ModelReply, ModelRequest, OnDelta
from remanence.spec import AgentSpec

__all__ = ["Book", "ModelScript", "Prices", "Script", "Unit", "dialogue"]

Unit = Literal["usd_micros", "tokens"]

ModelScript = Callable[[ModelCalled, tuple[Message, ...]], ModelReplied | ModelFailed]


def dialogue(*turns: Sequence[Sequence[Part | str]]) -> ModelScript:
    """A model that says `turns[t][n]` in its n-th call of turn t, and `done` after that; a token costs 1 micro-USD."""

    def reply(called: ModelCalled, messages: tuple[Message, ...]) -> ModelReplied:
        turn, step = (int(number) for number in called.call.split("_")[1:])
        lines = turns[turn - 1] if turn <= len(turns) else ()
        spoken = lines[step - 1] if step <= len(lines) else ("done",)
        parts = tuple(Text(part) if isinstance(part, str) else part for part in spoken)
        size = sum(len(msgspec.json.encode(message)) for message in messages)
        usage = Usage(input_tokens=1 + size // 4, output_tokens=1 + len(msgspec.json.encode(parts)) // 4)
        return ModelReplied(called.call, _with_ids(called, parts), usage, usage.total_tokens)

    return reply


def _with_ids(called: ModelCalled, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    step, ids = called.call.removeprefix("model_"), iter(range(1, len(parts) + 1))
    return tuple(replace(p, call=f"call_{step}_{next(ids)}") if isinstance(p, ToolCall) else p for p in parts)


def _answers(started: ToolStarted, arguments: str) -> Event:
    return ToolReturned(started.call, said(f"{started.tool} did {arguments}"))


def _summary(begun: CompactionBegun, messages: tuple[Message, ...]) -> ContextCompacted | CompactionFailed:
    """A summary that holds what it must."""
    words = said(f"{len(messages) - 1} messages about {', '.join(begun.keep)}")
    usage = Usage(sum(len(msgspec.json.encode(message)) for message in messages) // 4, 20)
    return ContextCompacted(begun.through_turn, words, begun.call, begun.skipped, usage, usage.total_tokens)


def _unknown(doubt: Doubt, happened: bool) -> ToolResolved | None:
    return None


def _nobody(s: Session) -> Sequence[Event]:
    return ()


class Script(msgspec.Struct, frozen=True):
    """What the surroundings of a session do.

    `inputs` are told one by one, each when the session has come to rest. `reconcile` is asked about a doubt and is told
    whether the effect happened. `person` is asked when the session waits for somebody; no answer ends the run.
    `versions` are those that a `SessionUpgraded` may name, besides the one the session is opened with.
    `summary` answers a compaction.
    """

    model: ModelScript
    inputs: tuple[Event, ...] = ()
    tool: Callable[[ToolStarted, str], Event] = _answers
    reconcile: Callable[[Doubt, bool], ToolLost | ToolResolved | None] = _unknown
    person: Callable[[Session], Sequence[Event]] = _nobody
    budgets: Mapping[tuple[str, Unit], int] = {}
    versions: tuple[AgentSpec, ...] = ()
    summary: Callable[[CompactionBegun, tuple[Message, ...]], ContextCompacted | CompactionFailed] = _summary


class Book:
    """Budgets, as a store keeps them: reserved and settled with a write, or refused with it."""

    def __init__(self, limits: Mapping[tuple[str, Unit], int]) -> None:
        self.limits = dict(limits)
        self.spent = dict.fromkeys(limits, 0)
        self.reserved: dict[tuple[str, Unit], dict[str, int]] = {name: {} for name in limits}

    def move(self, charges: Sequence[Charge]) -> None:
        """Apply all of `charges` or none. Raises BudgetExceeded."""
        spent, reserved = dict(self.spent), {name: dict(held) for name, held in self.reserved.items()}
        for charge in charges:
            for name, limit in self.limits.items():
                if name[0] not in charge.scopes:
                    continue
                amount = charge.tokens if name[1] == "tokens" else charge.usd_micros
                held = reserved[name].pop(charge.key, 0)
                if charge.kind == "settle":
                    spent[name] += amount
                    continue
                used = spent[name] + sum(reserved[name].values())
                if used + amount > limit:
                    words = f"{name} has {limit - used} left, and {amount} are needed"
                    raise BudgetExceeded(words, scope=name[0], unit=name[1], limit=limit, used=used, needed=amount)
                reserved[name][charge.key] = max(amount, held)
        self.spent, self.reserved = spent, reserved


class Prices:
    """One micro-USD a token. Replies come from the script, not from here."""

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return usage.total_tokens

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        raise ModelError("a simulation reaches no model", kind="invalid_request")
