"""Sessions in which everything happens at once: the moves that Hypothesis shuffles, and how they are played.

A model and tools whose answers are drawn, people who speak, approve, resolve, cancel, freeze and change the policy at
any moment, workers that die, writes that are refused or that nobody hears of. `play` makes the moves as drawn,
`settle` then lets everybody do what they owe until the session rests.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from remanence.content import Message, Text, ToolCall, Usage
from remanence.core.builtins import ASK_HUMAN, OPEN_RESULT, SLEEP_UNTIL
from remanence.core.state import CLIENT_EPOCH, Call, Doubt, Session, said
from remanence.events import (
    ApprovalGiven,
    BudgetRaised,
    CancelAsked,
    ContextCompacted,
    Event,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    SessionFrozen,
    SessionThawed,
    SessionUpgraded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, IfBusy, Limits, ToolSpec, policy_digest, spec_digest
from remanence.testing.journals import Script, Simulation, heard

MICROS = 1_000_000

LOOK = ToolSpec("look", replay="safe")
POST = ToolSpec("post", replay="keyed")
PAY = ToolSpec("pay", replay="never")
WIRE = ToolSpec("wire", replay="never", reconciles=True)
PAGE = ToolSpec("page", kind="client", replay="never")
LIMITS = Limits(window_tokens=400, output_tokens=200, model_calls_per_turn=6, model_attempts=3, repeats_before_asking=2)
TOOLS = (LOOK, POST, PAY, WIRE, PAGE, ASK_HUMAN, SLEEP_UNTIL)
TRUSTING = AgentSpec("a", "scripted", tools=TOOLS, rules=(AllowRule("*"), AskRule("pay", "cents > 50")), limits=LIMITS)
CAREFUL = msgspec.structs.replace(
    TRUSTING,
    instructions="Be careful, " * 40,
    limits=msgspec.structs.replace(LIMITS, compaction="model"),
    rules=(AllowRule("*"), AskRule("p*", needed=2, expires_s=60), AskRule("wire", approvers=("grace", "boss"))),
)
CLOSED = msgspec.structs.replace(
    TRUSTING, tools=(LOOK, PAY, PAGE, OPEN_RESULT), rules=(AllowRule("*"), DenyRule("pay"))
)
VERSIONS = (TRUSTING, CAREFUL, CLOSED)

T = TypeVar("T")
Reply = tuple[ToolCall | Text, ...]


def _want(tool: str, arguments: str = "{}") -> ToolCall:
    return ToolCall("theirs", tool, arguments)


MENU: tuple[Reply | str, ...] = (
    (Text("done"),),
    (_want("look"),),
    (_want("pay", '{"cents":10}'),),
    (_want("pay", '{"cents":100}'),),
    (_want("post", '{"to":"x"}'),),
    (_want("wire", '{"to":"y"}'),),
    (Text("three at once"), _want("look"), _want("pay", '{"cents":100}'), _want("post")),
    (_want("ask_human", '{"question":"which?"}'),),
    (_want("sleep_until", '{"seconds":30}'),),
    (_want("page"),),
    (_want("pay", '{"cents": 10}'), _want("pay", '{"cents":10}'), _want("pay", '{"cents":10}')),
    (_want("pay", "{"), _want("nothing_like_it"), _want("ask_human", "{}")),
    (_want("ask_human", '{"question":"a"}'), _want("ask_human", '{"question":"b"}')),
    (Text("a long answer " * 60), _want("look", '{"n":1}')),
    "again",
    "never",
)
"""What the model may answer: a reply, a failure that is tried again, a failure that is not."""

OUTCOMES = ("done", "error", "lost", "long")

MOVES = (
    "round",
    "perform",
    "happen",
    "crash",
    "refused",
    "unheard",
    "queue",
    "steer",
    "interrupt",
    "cancel",
    "freeze",
    "thaw",
    "upgrade",
    "compact",
    "approve",
    "approve_briefly",
    "deny",
    "resolve",
    "answer",
    "page",
    "raise",
    "advance",
)
Move = tuple[str, int]


class World:
    """A simulation, and the hands of the people and machines around it."""

    def __init__(self, replies: list[int], outcomes: list[int], *, budget: int | None = None) -> None:
        self.replies = replies
        self.outcomes = outcomes
        self.inputs = 0
        self.told = 0
        script = Script(
            self._reply,
            tool=self._outcome,
            reconcile=self._reconcile,
            budgets={("session:s", "tokens"): budget} if budget is not None else {},
            versions=VERSIONS,
        )
        self.sim = Simulation(TRUSTING, script)

    # --- machines -----------------------------------------------------------------------------------------------------

    def _reply(self, called: ModelCalled, messages: tuple[Message, ...]) -> ModelReplied | ModelFailed:
        turn, step = (int(number) for number in called.call.split("_")[1:])
        choice = MENU[self.replies[(turn * 5 + step + called.attempt - 7) % len(self.replies)]]
        if isinstance(choice, str):
            retry_at = self.sim.now if choice == "again" and called.attempt < LIMITS.model_attempts else None
            return ModelFailed(called.call, "server", "the provider is down", retry_at)
        own = tuple(
            ToolCall(f"call_{turn}_{step}_{i}", part.name, part.arguments) if isinstance(part, ToolCall) else part
            for i, part in enumerate(choice, start=1)
        )
        size = sum(len(msgspec.json.encode(message)) for message in messages)
        usage = Usage(input_tokens=size // 3, output_tokens=min(LIMITS.output_tokens, 20))
        return ModelReplied(called.call, own, usage, usage.total_tokens)

    def _outcome(self, started: ToolStarted, arguments: str) -> Event:
        turn, step, number = (int(n) for n in started.call.split("_")[1:])
        choice = OUTCOMES[self.outcomes[(turn + step + number + started.attempt) % len(self.outcomes)]]
        if choice == "lost" and started.replay != "safe":
            return ToolLost(started.call, started.effect_key, started.tool, "no result in time")
        words = "x" * 700 if choice == "long" else f"{started.tool} says {choice}"
        return ToolReturned(started.call, said(words), error=choice == "error")

    def _reconcile(self, doubt: Doubt, happened: bool) -> ToolResolved | None:
        if doubt.tool != "wire":
            return None
        if happened:
            return ToolResolved(doubt.call, "happened", "reconcile", said("it went through"))
        return ToolResolved(doubt.call, "run_again", "reconcile")

    # --- people -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Session:
        return self.sim.folded()

    def say(self, if_busy: IfBusy) -> None:
        self.inputs += 1
        self.sim.tell(heard(f"say {self.inputs}", name=f"in_{self.inputs}", if_busy=if_busy))

    def cancel(self, number: int) -> None:
        s = self.state
        named = s.turn.number if s.turn else s.turns + 1
        self.sim.tell(CancelAsked("grace", "stop", named if number % 2 else None))

    def compact(self) -> None:
        """Summarise the turns that are over. The worker decides that between steps, never in a model call."""
        s = self.state
        closed = s.turns - (s.turn is not None)
        if closed > s.compacted_turn and not (s.turn and s.turn.model):
            self.sim.tell(ContextCompacted(closed, (Text(f"{closed} turns of it"),)))

    def approve(self, number: int, *, decision: str = "approve", expires_s: float | None = None) -> None:
        call = _pick([c for c in _calls(self.state) if c.state == "asked"], number)
        if call is None:
            return
        by = _pick([b for b in ("grace", "boss", "ada") if all(a.by != b for a in call.approvals)], number) or "grace"
        if call.approvers and by not in call.approvers:
            by = call.approvers[number % len(call.approvers)]
        expires_at = None if expires_s is None else self.sim.now + int(expires_s * MICROS)
        given = ApprovalGiven(call.call, "approve", by, call.digest, call.policy, expires_at=expires_at)
        self.sim.tell(given if decision == "approve" else msgspec.structs.replace(given, decision="deny"), actor=by)

    def resolve(self, number: int) -> None:
        s = self.state
        doubt = _pick(list(s.doubts), number)
        if doubt is None:
            return
        outcome = ("happened", "run_again", "give_up")[number % 3]
        if outcome == "run_again" and s.call(doubt.call) is None:
            outcome = "give_up"
        self.sim.tell(ToolResolved(doubt.call, outcome, "grace", said("as it was")), actor="grace")

    def answer(self, number: int) -> None:
        call = _pick([c for c in _calls(self.state) if c.state == "question"], number)
        if call is not None:
            self.inputs += 1
            self.sim.tell(heard("the red one", name=f"in_{self.inputs}", answers=call.call))

    def page(self, number: int) -> None:
        call = _pick([c for c in _calls(self.state) if c.state == "running" and c.epoch == CLIENT_EPOCH], number)
        if call is not None:
            self.sim.tell(ToolReturned(call.call, said("paged")))

    def raise_budget(self, amount: int) -> None:
        pause = self.state.pause
        if pause is not None:
            limit = max(pause.limit, pause.used + pause.needed) + amount
            self.sim.tell(BudgetRaised(pause.scope, pause.unit, limit, "grace"))

    # --- moves --------------------------------------------------------------------------------------------------------

    def move(self, move: str, number: int) -> None:
        """One move. Moves that make no sense now change nothing."""
        sim, flying = self.sim, list(self.sim.in_flight)
        match move:
            case "round":
                sim.round()
            case "perform" if flying:
                sim.perform(flying[number % len(flying)])
            case "happen" if flying:
                sim.happen(flying[number % len(flying)])
            case "crash":
                sim.crash()
            case "refused":
                sim.strike("refused")
            case "unheard":
                sim.strike("unheard")
            case "queue" | "steer" | "interrupt":
                self.say(move)
            case "cancel" if self.state.turn or self.state.queue:
                self.cancel(number)
            case "freeze" if self.state.frozen is None:
                sim.tell(SessionFrozen("grace"))
            case "thaw" if self.state.frozen is not None:
                sim.tell(SessionThawed("grace"))
            case "upgrade":
                spec = VERSIONS[number % len(VERSIONS)]
                sim.tell(SessionUpgraded(spec_digest(spec), policy_digest(spec), "grace"))
            case "compact":
                self.compact()
            case "approve":
                self.approve(number)
            case "approve_briefly":
                self.approve(number, expires_s=20)
            case "deny":
                self.approve(number, decision="deny")
            case "resolve":
                self.resolve(number)
            case "answer":
                self.answer(number)
            case "page":
                self.page(number)
            case "raise":
                self.raise_budget(number * 200)
            case "advance":
                sim.now += (number + 1) * 15 * MICROS
            case _:
                pass

    def settle(self) -> None:
        """Everybody does what they owe until the session rests for good."""
        sim = self.sim
        for _ in range(2_000):
            rest = sim.round()
            if rest.why == "struck" or sim.facts:
                continue
            if sim.in_flight:
                sim.perform(next(iter(sim.in_flight)))
            elif rest.wake_at is not None:
                sim.now = max(sim.now, rest.wake_at)
            elif not self._owed():
                return
        raise AssertionError(f"the session does not come to rest: {sim.folded()}")

    def _owed(self) -> bool:
        """One thing that a person owes; False when there is none."""
        s, before = self.state, len(self.sim.records)
        if s.frozen is not None:
            self.sim.tell(SessionThawed("grace"))
        elif s.pause is not None:
            self.raise_budget(5_000)
        elif s.doubts:
            self.resolve(0 if before % 2 else 2)
        else:
            self.approve(before, decision="approve" if before % 5 else "deny")
            self.answer(before)
            self.page(before)
        return len(self.sim.records) > before


def play(world: World, moves: list[Move]) -> World:
    for move, number in moves:
        world.move(move, number)
    return world


def _calls(s: Session) -> tuple[Call, ...]:
    return s.turn.calls if s.turn else ()


def _pick(among: list[T], number: int) -> T | None:
    return among[number % len(among)] if among else None
