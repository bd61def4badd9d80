"""Models and tools are code of others: whatever they hand back or raise, the session says so and goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, call, runtime, script, until

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.content import Text, ToolCall, Usage
from remanence.core.state import Doubt, waiting_on
from remanence.errors import EffectInDoubt, ModelError, TurnFailed
from remanence.events import ToolResolved, ToolReturned, ToolStarted, TurnEnded
from remanence.models.scripted import Scripted, last_user_text
from remanence.ports import ModelReply, ModelRequest, OnDelta, ToolCallContext, ToolOutcome
from remanence.spec import Limits, Replay, ToolSpec

SAID = (Text("Hello."),)


class Panic(BaseException):
    """As libraries written in Rust raise it: no `Exception`."""


def raises(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


class Strange(Scripted):
    """Answers `go` with something odd, and everything else by the script."""

    def __init__(self, odd: Callable[[], Any]) -> None:
        super().__init__(script)
        self.odd = odd

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        return self.odd() if last_user_text(request) == "go" else await super().reply(request, on_delta)


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (lambda: None, "it is a NoneType"),
        (lambda: "Hello.", "it is a str"),
        (lambda: ModelReply(SAID, usage=None), "its usage is a NoneType"),  # pyright: ignore[reportArgumentType]
        (lambda: ModelReply(SAID, Usage(-5, 5)), "-5 was used"),
        (lambda: ModelReply(SAID, Usage(10**30, 5)), "was used"),
        (lambda: ModelReply(SAID, Usage(5, 5), cost_usd_micros=-1), "-1 was used"),
        (lambda: ModelReply(SAID, Usage(5, 5), cost_usd_micros=1.5), "1.5 was used"),  # pyright: ignore[reportArgumentType]
        (raises(RuntimeError("half \ud800 a character")), "half ? a character"),
        (raises(ModelError("half \ud800 a character", kind="content")), "half ? a character"),
        (raises(ModelError("later", kind="rate_limited", retry_after_s="soon")), "later"),  # pyright: ignore[reportArgumentType]
        (raises(ModelError("x" * 100_000, kind="content")), "[cut]"),
        (raises(BaseExceptionGroup("all at once", [asyncio.CancelledError()])), "all at once"),
        (raises(Panic("index out of bounds")), "Panic: index out of bounds"),
        (raises(GeneratorExit("closed")), "GeneratorExit: closed"),
        (lambda: ModelReply((ToolCall("", "look", "{}"),) * 1_001, Usage(5, 5)), "1,001 calls at once"),
        (raises(SystemExit(3)), "SystemExit: 3"),
    ],
)
async def test_a_model_that_answers_oddly(odd: Callable[[], Any], says: str, tmp_path: Path) -> None:
    async with runtime(tmp_path, Strange(odd)) as rt:
        session = await rt.open(Shop().agent(limits=Limits(model_attempts=2, session_tokens=100_000)))
        with pytest.raises(TurnFailed) as failed:
            await asyncio.wait_for(session.send("go"), 10)
        assert says in failed.value.message
        assert await session.send("hello") == "hello -> "
        (budget,) = await rt.database.controls.budgets(f"session:{session.id}")
        assert budget.reserved == 0
        assert budget.spent >= 120, "what nobody can count was not given back"


class Stubborn(Scripted):
    """Never answers `go`, and does not let itself be cancelled."""

    def __init__(self) -> None:
        super().__init__(script)
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        while last_user_text(request) == "go" and not self.let_go.is_set():
            self.asked.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self.let_go.wait()
        return await super().reply(request, on_delta)


async def test_a_model_that_does_not_stop_holds_nobody_up(tmp_path: Path) -> None:
    """Not a turn that is out of time, nor a cancel, nor the end of the process."""
    model, shop = Stubborn(), Shop()
    options = Options(model=model, times=replace(FAST, drain_s=0.05))
    began = asyncio.get_running_loop().time()
    async with Remanence(f"sqlite:///{tmp_path}/shop.db", options=options) as rt:
        late = await rt.open(shop.agent(limits=Limits(model_timeout_s=0.05, model_attempts=1)))
        cancelled = await rt.open(shop.agent())
        for session in (late, cancelled):
            await session.submit("go")
            await until(session, lambda s: s.turn and s.turn.model)
        await cancelled.cancel()
        for session, status, reason in (
            (late, "failed", "did not stop when it was told to"),
            (cancelled, "cancelled", ""),
        ):
            await until(session, lambda s: s.turn is None)
            ended = (await session.history())[-1].event
            assert isinstance(ended, TurnEnded)
            assert (ended.status, reason in ended.reason) == (status, True)
            assert await session.send("hello") == "hello -> "
        model.asked.clear()
        await cancelled.submit("go")
        await model.asked.wait()
    assert asyncio.get_running_loop().time() - began < 60
    model.let_go.set()


# --- tools ------------------------------------------------------------------------------------------------------------


class OddTool:
    """A tool of somebody's own making: its first run and its `reconcile` are what they are told to be."""

    def __init__(self, first: Callable[[], Any], known: Callable[[], Any], replay: Replay = "never") -> None:
        self.spec = ToolSpec("pay", "Pay.", {"type": "object"}, replay=replay, reconciles=True)
        self.runs = 0
        self._first, self._known = first, known

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        self.runs += 1
        return self._first() if self.runs == 1 else ToolOutcome((Text("paid"),))

    async def reconcile(self, effect_key: str) -> Any:
        return self._known()


async def doubt_of(session: Session, asked: int) -> Doubt:
    s = await until(session, lambda s: s.doubts and s.doubts[0].asked == asked)
    assert waiting_on(s) == "doubt"
    return s.doubts[0]


broken = raises(EffectInDoubt("the line broke"))


@pytest.mark.parametrize("known", [True, "happened", "not happened", 0, [], Text("paid")])
async def test_an_answer_of_reconcile_that_means_nothing_runs_nothing(known: object, tmp_path: Path) -> None:
    """Taken for a no, it would start the effect a second time."""
    odd = OddTool(broken, lambda: known)
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("x", model="scripted", tools=[odd]))
        await session.submit(call("pay"))
        doubt = await doubt_of(session, 1)
        assert "means nothing" in doubt.failure
        assert doubt.retry_at is not None
        assert odd.runs == 1


async def test_what_reconcile_found_and_nobody_can_keep_stays_in_doubt(tmp_path: Path) -> None:
    odd = OddTool(broken, lambda: ToolOutcome((Text("half \ud800 a character"),)))
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("x", model="scripted", tools=[odd]))
        await session.submit(call("pay"))
        assert "cannot be kept" in (await doubt_of(session, 1)).failure


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (lambda: None, "returned a NoneType"),
        (lambda: "paid", "returned a str"),
        (raises(Panic("index out of bounds")), "Panic: index out of bounds"),
        (raises(EffectInDoubt("half \ud800 a character")), "half ? a character"),
    ],
)
async def test_a_run_that_says_nothing_is_in_doubt(first: Callable[[], Any], says: str, tmp_path: Path) -> None:
    odd = OddTool(first, lambda: None)
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("x", model="scripted", tools=[odd]))
        await session.submit(call("pay"))
        doubt = await doubt_of(session, 0)
        assert says in doubt.reason
        await session.resolve(doubt.call, by="ada", outcome="happened", result="paid by hand")
        await until(session, lambda s: s.turn is None)


# --- starts that come to nothing --------------------------------------------------------------------------------------


def refuses() -> ToolOutcome:
    return ToolOutcome((Text("pay was not run: the till is closed"),), error=True, started=False)


class Closed(OddTool):
    """Never begins."""

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        return refuses()


async def test_a_call_that_was_refused_before_it_began_has_not_happened(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("x", model="scripted", tools=[OddTool(refuses, lambda: None)]))
        assert "the till is closed" in await session.send(call("pay"))
        events = [record.event for record in await session.history()]
        assert [e.started for e in events if isinstance(e, ToolReturned)] == [False]
        assert [e.happened for e in events if isinstance(e, TurnEnded)] == [()]


async def test_a_function_whose_arguments_changed_since_the_version_was_pinned(tmp_path: Path) -> None:
    """A person approves a call, the worker is replaced by one with another signature: it does not run, and says so."""

    @tool(replay="never", approval=True)
    async def pay(order: str) -> str:
        """Pay."""
        return f"paid {order}"

    async with runtime(tmp_path, None, Agent("x", model="scripted", tools=[pay])) as rt:
        session = await rt.open("x")
        await session.submit(call("pay", order="42"))
        s = await until(session, lambda s: waiting_on(s) == "approval")
        assert s.turn is not None
        call_id = s.turn.calls[0].call

    @tool(name="pay", replay="never", approval=True)
    async def pay_in(order: str, currency: str) -> str:
        """Pay."""
        return f"paid {order} in {currency}"

    async with runtime(tmp_path, None, Agent("x", model="scripted", tools=[pay_in])) as rt:
        session = await rt.get(session.id)
        await session.approve(call_id, by="ada")
        await until(session, lambda s: s.turn is None)
        events = [record.event for record in await session.history()]
        (returned,) = [e for e in events if isinstance(e, ToolReturned)]
        assert "it was not run" in str(returned.parts)
        assert not returned.started
        assert [e.happened for e in events if isinstance(e, TurnEnded)] == [()]


@pytest.mark.parametrize("gone", [True, False])
async def test_a_keyed_call_that_cannot_start_again_is_not_said_not_to_have_run(gone: bool, tmp_path: Path) -> None:
    """Its first start may have reached the world: that later ones did not begin says nothing about that one."""
    next_one = Agent("x", model="scripted", tools=[] if gone else [Closed(refuses, lambda: None, replay="keyed")])

    def breaks_and_is_replaced() -> ToolOutcome:
        rt.know(next_one)
        raise EffectInDoubt("the line broke")

    first = OddTool(breaks_and_is_replaced, lambda: None, replay="keyed")
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("x", model="scripted", tools=[first]))
        await session.submit(call("pay"))
        s = await until(session, lambda s: waiting_on(s) == "doubt" and s.turn and s.turn.calls[0].attempt > 1)
        events = [record.event for record in await session.history()]
        assert not [e for e in events if isinstance(e, ToolReturned)]
        assert len([e for e in events if isinstance(e, ToolStarted)]) > 1
        await session.resolve(s.doubts[0].call, by="ada", outcome="give_up")
        s = await until(session, lambda s: s.turn is None)
        ended = (await session.history())[-1].event
        assert isinstance(ended, TurnEnded)
        assert len(ended.in_doubt) == 1
        assert not [e for e in events if isinstance(e, ToolResolved)]


class Priced(Scripted):
    """Says what its calls cost, in its own way."""

    def __init__(self, says: Callable[[], Any]) -> None:
        super().__init__(script)
        self.says = says

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return self.says()


@pytest.mark.parametrize(
    "says",
    [lambda: 0.5, lambda: "3", lambda: -5, lambda: 10**30, lambda: float("nan"), raises(KeyError("no such model"))],
)
async def test_a_price_that_is_none_is_not_known_and_the_session_goes_on(
    tmp_path: Path, says: Callable[[], Any]
) -> None:
    for folder, given in (("handed", {"options": Options(model=Priced(says), times=FAST)}), ("named", {})):
        (tmp_path / folder).mkdir()
        kept = {"models": {"scripted": Priced(says)}, "options": Options(times=FAST), **given}
        async with Remanence(f"sqlite:///{tmp_path}/{folder}/shop.db", **kept) as rt:
            session = await rt.open(Shop().agent())
            assert "looked 1" in await session.send(call("look", n=1))
            await rt.set_budget(f"session:{session.id}", usd="5")
            await session.submit("hello")
            paused = await until(session, lambda s: s.pause)
            assert paused.pause is not None
            assert "no price is known" in paused.pause.reason
