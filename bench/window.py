"""What a window policy costs and what it loses, on tool dialogues: no model, no database.

    python -m bench.window [--seeds 6] [--window-tokens 32000] [--out result.json]
    python -m bench.window --recorded dialogues.json [--together 20]

For every model call of a dialogue two things are counted. *Cacheable*: the share of its prompt that the call before was
sent as well, from the beginning on, whole messages: what a provider's prompt cache can serve. *In view*: of the values
that the model then uses in the arguments of its calls, and that were said before, the share that stands in the prompt.
*Cost* is what the prompts cost with cached tokens at a tenth of the price, beside the cheapest policy.

Policies: *sliding* keeps the newest whole turns and steps that fit; *cut to half* cuts once, to half, when the budget
is reached; *with names* also leaves a summary drawn by rule; *with clearing* first makes old bulky results a line.

Dialogues are generated from a seed, in three kinds: many short turns of support work, one long turn of an agent at
work, research with bulky results. Which value a call uses is drawn mostly from the newest results; one in fifty is
drawn from the whole past. The golden journals of the tests run too, each under a window of two fifths of its own size.

With `--recorded` the dialogues of a file are played instead (see `bench/recorded.py` for the form), so many after one
another in a session: a single one mostly fits into any window.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.recorded import read_dialogues, together
from msgspec.structs import replace

from remanence.content import Message, Text, ToolCall, ToolResult
from remanence.core.builtins import OPEN_RESULT
from remanence.core.context import Prompt, Transcript, cut_summary, fit, prompt_of
from remanence.core.context.fitting import cut, limit_of, size_now
from remanence.core.context.stubs import identifiers
from remanence.core.session import evolve
from remanence.core.state import Session, Window
from remanence.core.tokens import message_tokens
from remanence.events import (
    Event,
    InputReceived,
    ModelCalled,
    ModelReplied,
    Recorded,
    ToolReturned,
    TurnEnded,
    TurnStarted,
)
from remanence.spec import AgentSpec, Limits, ToolSpec
from remanence.testing.golden import records_in

JOURNALS = Path(__file__).parent.parent / "tests" / "journals"
CACHED_PRICE = 0.1
TOOLS = tuple(
    ToolSpec(
        name, f"{name.replace('_', ' ')}: " + "what it does, when to use it. " * 8, {"type": "object"}, replay="safe"
    )
    for name in ("find_order", "find_customer", "list_items", "read_page", "search", "refund", "send_mail", "note")
)
SPEC = AgentSpec("bench", "openai:gpt", instructions="You work through requests with tools. " * 40, tools=TOOLS)


# --- dialogues --------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """A kind of dialogue: turns, steps of a turn, characters of a result, the age of what a call uses, in results."""

    turns: tuple[int, int]
    steps: tuple[int, int]
    chars: tuple[int, int]
    age: float


SHAPES = {
    "support": Shape((90, 130), (1, 4), (300, 2_400), 4.0),
    "agent": Shape((2, 4), (90, 140), (200, 2_600), 5.0),
    "research": Shape((25, 40), (3, 8), (1_200, 7_000), 4.0),
}
FAR = 0.02
"""How often a value comes from anywhere in the past."""


def generated(shape: Shape, seed: int) -> Iterator[Event]:
    """The events of a dialogue: inputs, turns, replies, results. Calls of the model are put in by the policy."""
    dice = random.Random(seed)
    known: list[str] = []
    for turn in range(1, dice.randint(*shape.turns) + 1):
        subject = _entity(dice)
        known.append(subject)
        yield InputReceived(f"in_{turn}", (Text(f"Please look at {subject}. {_prose(dice, 120)}"),))
        yield TurnStarted(turn, (0,))
        steps = dice.randint(*shape.steps)
        for step in range(1, steps + 1):
            value = _used(dice, known, shape.age)
            call = f"call_{turn}_{step}_1"
            arguments = json.dumps({"id": value, "reason": _prose(dice, 40)})
            yield ModelReplied(f"model_{turn}_{step}", (ToolCall(call, dice.choice(TOOLS).name, arguments),))
            found = [_entity(dice) for _ in range(dice.randint(1, 3))]
            known += found
            yield ToolReturned(call, (Text(_result(dice, value, found, dice.randint(*shape.chars))),))
        yield ModelReplied(f"model_{turn}_{steps + 1}", (Text(_prose(dice, 300)),))
        yield TurnEnded(turn, "completed")


def _entity(dice: random.Random) -> str:
    kind = dice.choice(("A-", "cus_", "INV-", "pg_", "item-"))
    return f"{kind}{dice.getrandbits(28):x}{dice.randint(10, 99)}"


def _used(dice: random.Random, known: Sequence[str], age: float) -> str:
    if dice.random() < FAR:
        return dice.choice(known)
    return known[-min(len(known), 1 + int(dice.expovariate(1 / (2 * age))))]


_WORDS = (
    *("order", "parcel", "late", "customer", "paid", "page", "section", "result"),
    *("value", "total", "open", "note", "address", "change", "again", "before"),
)


def _prose(dice: random.Random, chars: int) -> str:
    return " ".join(dice.choices(_WORDS, k=max(1, chars // 6)))


def _result(dice: random.Random, about: str, found: Sequence[str], chars: int) -> str:
    rows = [{"id": name, "status": dice.choice(("open", "paid", "late")), "text": ""} for name in found]
    for row in rows:
        row["text"] = _prose(dice, chars // len(rows))
    return json.dumps({"about": about, "rows": rows})


def golden() -> Iterator[tuple[str, list[Event]]]:
    """The dialogues of the golden journals, as far as they are ones."""
    kept = (InputReceived, TurnStarted, ModelReplied, ToolReturned, TurnEnded)
    for path in sorted(JOURNALS.glob("*.jsonl")):
        events: list[Event] = [r.event for r in records_in(path.read_bytes()) if isinstance(r.event, kept)]
        if sum(isinstance(event, ModelReplied) for event in events) >= 6:
            yield path.stem, events


# --- policies ---------------------------------------------------------------------------------------------------------


class Run:
    """One dialogue under one policy: the transcript, and what was counted."""

    def __init__(self, spec: AgentSpec, policy: str) -> None:
        self.spec = spec
        self.policy = policy
        self.state = Session("s")
        self.text = Transcript()
        self.sent: tuple[Message, ...] = ()
        self.said: set[str] = set()
        self.prompt_tokens = self.cacheable_tokens = self.needed = self.in_view = self.calls = self.over = 0

    def put(self, event: Event) -> None:
        record = Recorded("s", self.state.head + 1, 0, 1, "bench", event)
        self.state = evolve(self.state, record)
        self.text.add(record)

    def play(self, events: Sequence[Event]) -> Run:
        for event in events:
            if isinstance(event, ModelReplied):
                self._call(event)
            elif isinstance(event, TurnStarted):
                event = TurnStarted(self.state.turns + 1, (self.state.head,))
            self.put(event)
            self._hear(event)
        return self

    def _call(self, reply: ModelReplied) -> None:
        prompt = self._prompt()
        fixed = self.text.fixed_tokens(self.spec)
        weights = [message_tokens(message) for message in prompt.messages]
        shared = 0
        for message, before, weight in zip(prompt.messages, self.sent, weights, strict=False):
            if message is not before and message != before:
                break
            shared += weight
        self.calls += 1
        self.prompt_tokens += fixed + sum(weights)
        self.cacheable_tokens += fixed + shared if self.sent else 0
        self.over += fixed + sum(weights) > self.spec.limits.window_tokens
        self.sent = prompt.messages
        shown = "\n".join(_texts(prompt.messages))
        for part in reply.parts:
            if isinstance(part, ToolCall):
                values = [name for name in identifiers(part.arguments.replace('"', " ")) if name in self.said]
                self.needed += len(values)
                self.in_view += sum(value in shown for value in values)
        window = prompt.window
        called = ModelCalled(reply.call, self.state.turns, "m", window.first_turn, window.from_position, prompt.sent)
        self.put(replace(called, skipped=window.skipped, cleared=window.cleared))

    def _prompt(self) -> Prompt:
        if self.policy == "sliding":
            everything = Window(self.text.turns[0].number, self.text.turns[0].from_position)
            window = everything
            if size_now(self.text, self.spec, everything) > limit_of(self.spec):
                window = cut(self.text, self.spec, everything, limit_of(self.spec))
            return prompt_of(self.text, replace(self.state, window=everything), self.spec, window)
        window = fit(self.text, self.state, self.spec)
        if self.policy != "cut to half":
            leaving = cut_summary(self.text, self.state, self.spec, window)
            if leaving is not None:
                self.put(leaving)
                window = fit(self.text, self.state, self.spec)
        return prompt_of(self.text, self.state, self.spec, window)

    def _hear(self, event: Event) -> None:
        for text in _texts((Message("user", getattr(event, "parts", ())),)):
            self.said |= set(identifiers(text))


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text
            elif isinstance(part, ToolCall):
                yield part.arguments
            elif isinstance(part, ToolResult):
                yield from _texts((Message("tool", part.parts),))


POLICIES: dict[str, Callable[[AgentSpec], AgentSpec]] = {
    "sliding": lambda spec: shut(spec),
    "cut to half": lambda spec: shut(spec),
    "with names": lambda spec: shut(spec),
    "with clearing": lambda spec: replace(spec, tools=(*spec.tools, OPEN_RESULT)),
}


def limited(spec: AgentSpec, tokens: int) -> AgentSpec:
    return replace(spec, limits=Limits(window_tokens=tokens))


def shut(spec: AgentSpec) -> AgentSpec:
    """The same agent, which may open nothing again: nothing of it is cleared."""
    return replace(spec, limits=replace(spec.limits, reopening="off"))


def dialogues(seeds: int, tokens: int) -> Iterator[tuple[str, AgentSpec, list[Event]]]:
    """Every dialogue with the agent that leads it."""
    for name, shape in SHAPES.items():
        for seed in range(seeds):
            yield name, limited(SPEC, tokens), list(generated(shape, seed))
    for _, events in golden():
        whole = sum(message_tokens(Message("user", getattr(event, "parts", ()))) for event in events)
        yield "golden", limited(replace(SPEC, instructions="Help.", tools=()), max(200, whole * 2 // 5)), events


def recorded(path: Path, count: int, tokens: int) -> Iterator[tuple[str, AgentSpec, list[Event]]]:
    """The dialogues of a file, so many in a session, with the instructions and the tools they were recorded with."""
    for one in together(read_dialogues(path), count):
        tools = tuple(ToolSpec(name, TOOLS[0].description, {"type": "object"}, replay="safe") for name in one.tools)
        yield path.stem, limited(replace(SPEC, instructions=one.instructions, tools=tools), tokens), one.events


def measured(played: Iterable[tuple[str, AgentSpec, list[Event]]]) -> list[dict[str, Any]]:
    """A row for each kind of dialogue and each policy."""
    sums: dict[tuple[str, str], list[Run]] = {}
    for kind, spec, events in played:
        for policy, change in POLICIES.items():
            sums.setdefault((kind, policy), []).append(Run(change(spec), policy).play(events))
    for policy in POLICIES if any(kind in SHAPES for kind, _ in sums) else ():
        sums["all generated", policy] = [
            r for (kind, of), runs in sums.items() if of == policy and kind in SHAPES for r in runs
        ]
    rows: list[dict[str, Any]] = []
    for (kind, policy), runs in sums.items():
        prompt, cacheable = sum(r.prompt_tokens for r in runs), sum(r.cacheable_tokens for r in runs)
        needed = sum(r.needed for r in runs)
        rows.append(
            {
                "dialogues": kind,
                "policy": policy,
                "calls": sum(r.calls for r in runs),
                "prompt_tokens": prompt,
                "cacheable": round(cacheable / prompt, 4),
                "needed": needed,
                "in_view": round(sum(r.in_view for r in runs) / needed, 4) if needed else None,
                "over_budget": sum(r.over for r in runs),
                "cost": round(prompt - cacheable * (1 - CACHED_PRICE)),
            }
        )
    for row in rows:
        cheapest = min(other["cost"] for other in rows if other["dialogues"] == row["dialogues"])
        row["times_the_cheapest"] = round(row["cost"] / cheapest, 2)
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--window-tokens", type=int, default=32_000)
    parser.add_argument("--recorded", type=Path, metavar="FILE", help="play the dialogues of this file instead")
    parser.add_argument("--together", type=int, default=20, help="so many recorded dialogues in one session (20)")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    generating = dialogues(given.seeds, given.window_tokens)
    rows = measured(recorded(given.recorded, given.together, given.window_tokens) if given.recorded else generating)
    print(f"{'dialogues':<14} {'policy':<14} {'calls':>6} {'cacheable':>10} {'in view':>8} {'needed':>7} {'cost':>6}")
    for row in rows:
        seen = "-" if row["in_view"] is None else f"{row['in_view']:.2%}"
        print(
            f"{row['dialogues']:<14} {row['policy']:<14} {row['calls']:>6} {row['cacheable']:>10.2%} {seen:>8} "
            f"{row['needed']:>7} {row['times_the_cheapest']:>5.2f}x"
        )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
