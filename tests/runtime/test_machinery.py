"""Retries, limits, timers, budgets, blobs, forks, upgrades: the loop over a real store."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.runtime.shop import FAST, Shop, call, kinds, runtime, script, until

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.commands import controls
from remanence.commands.sessions import Opening, open_session
from remanence.content import Text, Usage
from remanence.errors import InvalidInput, ModelError, NotFound, TurnFailed
from remanence.events import BudgetReached, ModelCalled, ModelFailed, ToolLost, ToolReturned, TurnEnded
from remanence.models.configuration import ModelConfig
from remanence.models.prices import listed_price
from remanence.models.scripted import Scripted, Step
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.spec import Limits
from remanence.testing.faults.fuse import FaultyDatabase, Fuse, Killed
from remanence.testing.wire import Answer, WireServer


class Flaky:
    """Fails so often, then follows the script."""

    def __init__(self, *errors: ModelError) -> None:
        self.errors = list(errors)

    def __call__(self, request: ModelRequest) -> ModelReply | ModelError:
        return self.errors.pop(0) if self.errors else script(request)


async def test_a_process_under_the_name_of_a_dead_one_is_another_worker(tmp_path: Path) -> None:
    """Were it the same, it would have the dead one's lease, and wait for an effect that nobody performs."""
    shop = Shop()
    options = Options(model=Scripted(script), times=replace(FAST, lease_s=2.0), worker_name="steady")
    url = f"sqlite:///{tmp_path}/shop.db"
    dead = Remanence(url, agents=[shop.agent()], options=options)
    await dead.start()
    session = await dead.open(shop.agent())
    await session.submit(call("hold", n=1))
    await shop.entered.wait()
    assert dead.worker is not None
    await dead.worker.abandon()
    async with Remanence(url, agents=[shop.agent()], options=options) as rt:
        assert rt.worker is not None
        assert rt.worker.services.worker.startswith("steady:")
        found = await rt.get(session.id)
        await found.submit("more")  # which makes the session due while the dead one's lease lasts
        state = await asyncio.wait_for(until(found, lambda s: s.doubts), 15)
        assert (shop.calls["hold"], len(state.doubts)) == (1, 1)
        assert (await rt.database.views.session(session.id)).epoch == 2
        assert [r.epoch for r in await found.history() if isinstance(r.event, ToolLost)] == [2]
    await dead.stop()


async def test_a_model_is_asked_again_after_what_the_provider_asked_for(tmp_path: Path) -> None:
    errors = ModelError("slow down", kind="rate_limited", retry_after_s=0.2), ModelError("oops", kind="server")
    async with runtime(tmp_path, Scripted(Flaky(*errors))) as rt:
        session = await rt.open(Shop().agent())
        assert await session.send("hello")
        records = await session.history()
        failed = [r for r in records if isinstance(r.event, ModelFailed)]
        called = [r for r in records if isinstance(r.event, ModelCalled)]
        assert [r.event.attempt for r in called if isinstance(r.event, ModelCalled)] == [1, 2, 3]
        assert called[1].at - failed[0].at >= 200_000, "Retry-After was respected"


@pytest.mark.parametrize("asked_s", [86_401, 1_795_372_393, 1e15, 1e300, float("inf")])
async def test_a_provider_that_asks_for_days_is_not_waited_for_in_silence(tmp_path: Path, asked_s: float) -> None:
    """Some say the moment, in seconds since 1970, where the header wants a duration."""
    slow = ModelError("slow down", kind="rate_limited", retry_after_s=asked_s)
    async with runtime(tmp_path, Scripted(Flaky(slow))) as rt:
        session = await rt.open(Shop().agent())
        with pytest.raises(TurnFailed):
            await session.send("hello")
        ended = (await session.history())[-1].event
        assert isinstance(ended, TurnEnded)
        assert "asked to wait" in ended.reason
        assert await session.send("hello again")


@pytest.mark.parametrize("asked_s", [-5.0, 0.0, float("nan")])
async def test_a_provider_that_asks_for_no_time_is_asked_again_soon(tmp_path: Path, asked_s: float) -> None:
    slow = ModelError("slow down", kind="rate_limited", retry_after_s=asked_s)
    async with runtime(tmp_path, Scripted(Flaky(slow))) as rt:
        session = await rt.open(Shop().agent())
        assert await session.send("hello")


class LoadedDice(random.Random):
    """Raises once: a fault of ours, in the middle of an effect."""

    thrown = 0

    def uniform(self, a: float, b: float) -> float:
        self.thrown += 1
        if self.thrown == 1:
            raise ZeroDivisionError("a fault of ours")
        return super().uniform(a, b)


async def test_an_effect_that_ends_without_an_outcome_is_lost_and_not_waited_for(tmp_path: Path) -> None:
    flaky = Scripted(Flaky(ModelError("oops", kind="server")))
    options = Options(model=flaky, times=replace(FAST, lease_s=0.5), dice=LoadedDice())
    async with Remanence(f"sqlite:///{tmp_path}/shop.db", options=options) as rt:
        session = await rt.open(Shop().agent())
        assert await session.send("hello")
        lost = [r.event for r in await session.history() if isinstance(r.event, ModelFailed)]
        assert [event.kind for event in lost] == ["lost"]


async def test_a_refusal_or_too_many_failures_end_the_turn_and_say_why(tmp_path: Path) -> None:
    always = [ModelError("down", kind="server") for _ in range(9)]
    flaky = Flaky(ModelError("no such key", kind="authentication"), *always)
    async with runtime(tmp_path, Scripted(flaky)) as rt:
        session = await rt.open(Shop().agent(limits=Limits(model_attempts=3)))
        with pytest.raises(TurnFailed):
            await session.send("hello")
        with pytest.raises(TurnFailed):
            await session.send("hello again")
        ends = [r.event for r in await session.history() if isinstance(r.event, TurnEnded)]
        assert [(e.status, e.reason) for e in ends] == [("failed", "model: no such key"), ("failed", "model: down")]
        assert len(flaky.errors) == 9 - 3
        assert (await rt.database.views.session(session.id)).summary.status == "failed"


async def test_a_call_that_may_be_billed_counts_whole(tmp_path: Path) -> None:
    """What ran out of time may have been answered and billed; what the provider refused was not."""
    errors = ModelError("too slow", kind="timeout"), ModelError("oops", kind="server")
    async with runtime(tmp_path, Scripted(Flaky(*errors))) as rt:
        session = await rt.open(Shop().agent(limits=Limits(session_tokens=100_000)))
        await session.send("hello")
        events = [record.event for record in await session.history()]
        reserved = [event.reserved_tokens for event in events if isinstance(event, ModelCalled)]
        assert [e.billed_tokens for e in events if isinstance(e, ModelFailed)] == [reserved[0], 0]
        (budget,) = await rt.database.controls.budgets(f"session:{session.id}")
        assert (budget.spent, budget.reserved) == (reserved[0] + 120, 0)


class Cut(Scripted):
    """No connection is made, then it breaks before and then after something streamed; then it follows the script."""

    calls = 0

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        self.calls += 1
        if self.calls > 3:
            return await super().reply(request, on_delta)
        if self.calls == 3 and on_delta is not None:
            on_delta(0, "text", "It is")
        raise ModelError("cut", kind="connection", sent=self.calls > 1)


async def test_a_connection_that_broke_counts_whole_unless_the_call_never_left(tmp_path: Path) -> None:
    async with runtime(tmp_path, Cut(script)) as rt:
        session = await rt.open(Shop().agent())
        await session.send("hello")
        events = [record.event for record in await session.history()]
        reserved = [event.reserved_tokens for event in events if isinstance(event, ModelCalled)]
        assert [e.billed_tokens for e in events if isinstance(e, ModelFailed)] == [0, reserved[1], reserved[2]]


async def test_a_stalled_model_is_given_up_in_time(tmp_path: Path) -> None:
    async with runtime(tmp_path, Scripted((Step(stall=True),))) as rt:
        session = await rt.open(Shop().agent(limits=Limits(model_timeout_s=0.05, model_attempts=2)))
        with pytest.raises(TurnFailed):
            await session.send("hello")
        records = await session.history()
        assert [r.event.kind for r in records if isinstance(r.event, ModelFailed)] == ["timeout", "timeout"]
        assert isinstance(records[-1].event, TurnEnded)


async def test_the_same_call_over_and_over_asks_and_model_calls_are_bounded(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent(limits=Limits(repeats_before_asking=3)))
        await session.submit("again " + call("look", n=1))
        state = await until(session, lambda s: s.turn and any(c.state == "asked" for c in s.turn.calls))
        assert state.turn is not None
        assert shop.calls["look"] == 3
        assert "loop" in state.turn.calls[0].reason
        await session.cancel()
        bounded = await rt.open(shop.agent(limits=Limits(model_calls_per_turn=2)))
        with pytest.raises(TurnFailed):
            await bounded.send("again " + call("look", n=2))
        end = (await bounded.history())[-1].event
        assert isinstance(end, TurnEnded)
        assert (end.status, "limit of 2 model calls" in end.reason) == ("failed", True)


async def test_a_timer_costs_nothing_and_outlives_the_process(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("sleep_until", seconds=0.6))
        await until(session, lambda s: s.turn and s.turn.calls and s.turn.calls[0].state == "sleeping")
    async with runtime(tmp_path, None, Shop().agent()) as rt:
        session = await rt.get(session.id)
        assert (await rt.database.views.session(session.id)).summary.waiting_on == "timer"
        await until(session, lambda s: s.turn is None)
        assert "TimerFired" in await kinds(session)


async def test_a_budget_pauses_and_is_never_overshot(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent(limits=Limits(session_tokens=6_500, output_tokens=1_000)))
        for _ in range(60):
            await session.submit("hello")
        state = await until(session, lambda s: s.pause)
        assert state.pause is not None
        scope = f"session:{session.id}"
        (budget,) = await rt.database.controls.budgets(scope)
        assert budget.spent + budget.reserved <= budget.limit
        assert budget.reserved == 0
        reached = [r.event for r in await session.history() if isinstance(r.event, BudgetReached)]
        assert reached[-1].used + reached[-1].needed > reached[-1].limit
        await rt.raise_budget(scope, tokens=1_000_000)
        state = await until(session, lambda s: s.turns == 60 and s.turn is None)
        (budget,) = await rt.database.controls.budgets(scope)
        assert budget.spent == state.ledger.usage.total_tokens


async def test_a_fork_an_upgrade_and_an_opening_made_again_have_the_limits_of_their_agent(tmp_path: Path) -> None:
    """They come with the session, in one write: an opening whose process died has them; a fork is a new session."""
    async with runtime(tmp_path) as rt:
        free = Shop().agent()
        bound = Shop().agent(limits=Limits(session_tokens=9_000, session_usd_micros=70))

        async def limits(session: str) -> list[tuple[str, int]]:
            return [(b.unit, b.limit) for b in await rt.database.controls.budgets(f"session:{session}")]

        both = [("tokens", 9_000), ("usd_micros", 70)]
        session = await rt.open(bound)
        assert await limits(session.id) == both
        assert await limits((await session.fork()).id) == both
        plain = await rt.open(free, opening=Opening(key="k"))
        assert await limits(plain.id) == []
        await plain.upgrade(bound)
        assert await limits(plain.id) == both
        dies = replace(rt.caller, database=FaultyDatabase(rt.database, Fuse(2, lambda: None)))
        with pytest.raises(Killed):
            await open_session(dies, bound.spec, Opening(session="chosen", key="again"))
        assert await limits("chosen") == both, "no session is ever there without its limits"
        opened = await rt.open(bound, opening=Opening(session="chosen", key="again"))
        assert await limits(opened.id) == both
        await rt.raise_budget(f"session:{opened.id}", tokens=1_000)
        assert (await rt.open(bound, opening=Opening(session="chosen", key="again"))).id == opened.id
        assert await limits(opened.id) == [("tokens", 10_000), ("usd_micros", 70)], "what was raised stays raised"


async def test_prices_of_the_list_are_what_a_budget_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTED_KEY", "sk-of-nobody")
    async with WireServer(lambda request: Answer(text="ok")) as server:
        config = ModelConfig(
            name="listed", provider="openai", base_url=f"{server.url}/v1", model="gpt-4o", key_env="LISTED_KEY"
        )
        async with Remanence(f"sqlite:///{tmp_path}/r.db", model_configs={"listed": config}) as rt:
            session = await rt.open(Agent("a", model="listed"), user="ada")
            await rt.set_budget("user:ada", usd="0.05")
            assert await session.send("hello") == "ok"
            cost = listed_price("openai", "gpt-4o", Usage(100, 20))
            assert cost
            (budget,) = await rt.database.controls.budgets("user:ada")
            assert (budget.spent, budget.reserved) == (cost, 0)
            called = [r.event for r in await session.history() if isinstance(r.event, ModelCalled)]
            worst = listed_price("openai", "gpt-4o", Usage(called[0].reserved_tokens - 4_096, 4_096))
            assert cost < called[0].reserved_usd_micros == worst
            await rt.set_budget("user:ada", usd="0.02")
            await session.submit("once more")
            state = await until(session, lambda s: s.pause)
            assert state.pause is not None
            assert (state.pause.unit, state.pause.limit) == ("usd_micros", 20_000)
    assert len(server.requests) == 1


async def test_a_tool_that_cannot_be_stopped_holds_nobody_up(tmp_path: Path) -> None:
    stop, entered = asyncio.Event(), asyncio.Event()

    @tool(replay="never", timeout_s=0.05)
    async def stubborn() -> str:
        """Catch everything, also what should end it."""
        while not stop.is_set():
            entered.set()
            try:
                await stop.wait()
            except BaseException:  # noqa: BLE001, S112 - that is the point
                continue
        return "at last"

    async def turn(rt: Remanence, session: Session) -> None:
        await session.submit("stubborn {}")
        await until(session, lambda s: s.doubts)

    began = asyncio.get_running_loop().time()
    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("s", model="scripted", tools=[stubborn]))
        await turn(rt, session)
        (doubt,) = (await session.state()).doubts
        assert "did not stop when it was told to" in doubt.reason
        await session.resolve(doubt.call, by="grace", outcome="give_up")
        await until(session, lambda s: s.turn is None)
        entered.clear()
        await session.submit("stubborn {}")
        await entered.wait()
    assert asyncio.get_running_loop().time() - began < 60, "a stop waits for what can be stopped"
    stop.set()


async def test_a_tool_that_runs_out_of_time(tmp_path: Path) -> None:
    """Who only reads is told; what may have happened is in doubt."""

    @tool(replay="safe", timeout_s=0.05)
    async def dawdle() -> str:
        """Never end."""
        await asyncio.Event().wait()
        return "never"

    @tool(replay="never", timeout_s=0.05)
    async def pay() -> str:
        """Never end, and perhaps pay."""
        await asyncio.Event().wait()
        return "never"

    async with runtime(tmp_path) as rt:
        session = await rt.open(Agent("late", model="scripted", tools=[dawdle, pay]))
        assert "The tool gave no result: no result within 0.05 s." in await session.send("dawdle {}")
        await session.submit("pay {}")
        state = await until(session, lambda s: s.doubts)
        assert [(doubt.tool, doubt.reason) for doubt in state.doubts] == [("pay", "no result within 0.05 s")]


async def test_a_model_nobody_has_a_price_for_does_not_spend_money_under_a_budget(tmp_path: Path) -> None:
    class Unpriced(Scripted):
        def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
            return None

    async with runtime(tmp_path, Unpriced(script)) as rt:
        session = await rt.open(Shop().agent(), user="ada")
        await controls.set_budget(rt.caller, "user:ada", "usd_micros", 1_000_000)
        await session.submit("hello")
        state = await until(session, lambda s: s.pause)
        assert state.pause is not None
        assert "no price is known" in state.pause.reason
        assert "ModelCalled" not in await kinds(session)


async def test_many_sessions_under_one_budget_do_not_overshoot_it_together(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        await controls.set_budget(rt.caller, "agent:shop", "tokens", 30_000)
        opened = [await rt.open(Shop().agent(limits=Limits(output_tokens=1_000))) for _ in range(10)]
        for session in opened:
            for _ in range(40):
                await session.submit("hello")
        for session in opened:
            await until(session, lambda s: s.pause or s.turns == 40)
        (budget,) = await rt.database.controls.budgets("agent:shop")
        assert 0 < budget.spent <= budget.limit
        assert any([(await session.state()).pause for session in opened])
        spent = sum([(await session.state()).ledger.usage.total_tokens for session in opened])
        assert spent == budget.spent
        await rt.raise_budget("agent:shop", tokens=10_000_000)
        for session in opened:
            await until(session, lambda s: s.turns == 40 and s.turn is None)


async def test_a_large_result_is_a_blob_and_shown_cut(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent(limits=Limits(tool_result_bytes=1_000)))
        await session.send(call("bulky", n=300_000))
        (returned,) = [r.event for r in await session.history() if isinstance(r.event, ToolReturned)]
        assert returned.blob is not None
        assert returned.size == 300_000
        assert await rt.database.blobs.get(returned.blob) == b"x" * 300_000
        assert len(str(returned.parts)) < 2_000


async def test_a_bad_call_is_an_error_the_model_can_read(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        for bad in ('look {"n": "many"}', 'look {"m": 1}', "look {not json", 'unknown_tool {"n": 1}'):
            await session.send(bad)
        returned = [r.event for r in await session.history() if isinstance(r.event, ToolReturned)]
        assert [e.error for e in returned] == [True] * 4
        assert shop.calls["look"] == 0


async def test_a_fork_shares_the_past_and_goes_its_own_way(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        for text in ("one", "two", "three"):
            await session.send(text)
        forked = await session.fork(turn=2)
        assert await forked.send("another three")
        state = await forked.state()
        assert state.turns == 3
        again = await forked.fork()
        await again.send("four")
        model = rt.options.model
        assert isinstance(model, Scripted)
        said = [text.text for m in model.requests[-1].messages for text in m.parts if isinstance(text, Text)]
        assert [text for text in said if "->" not in text] == ["one", "two", "another three", "four"]
        assert (await session.state()).turns == 3
        with pytest.raises(NotFound):
            await session.fork(turn=9)
        with pytest.raises(InvalidInput):
            await session.fork(position=10_000)


async def test_an_upgrade_is_asked_for_and_pinned_until_then(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        agent = Shop().agent()
        session = await rt.open(agent)
        changed = replace(agent.spec, instructions="Help more.")
        await rt.database.specs.put(changed, project="default", at=0)
        await session.send("one")
        model = rt.options.model
        assert isinstance(model, Scripted)
        assert model.requests[-1].instructions == "Help."
        await session.upgrade(changed)
        await session.send("two")
        assert model.requests[-1].instructions == "Help more."
        with pytest.raises(InvalidInput):
            await session.upgrade(replace(changed, name="somebody-else"))


async def test_two_workers_share_the_sessions_of_one_file(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path, None, shop.agent()) as one, runtime(tmp_path, None, shop.agent()) as two:
        opened = [await (one, two)[n % 2].open(shop.agent()) for n in range(20)]
        await asyncio.gather(*(session.send(call("refund", order=str(n), cents=1)) for n, session in enumerate(opened)))
        assert shop.calls["refund"] == 20
        assert len(set(shop.keys)) == 20
        here = await two.get(opened[0].id)
        assert await here.send("from the other process")


async def test_empty_and_oversize_inputs_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        head = (await session.state()).head
        with pytest.raises(InvalidInput):
            await session.submit("   ")
        with pytest.raises(InvalidInput, match="4,194,304"):
            await session.submit("x" * 5_000_000)
        assert (await session.state()).head == head
        first = await session.submit("once", key="k1")
        second = await session.submit("once", key="k1")
        assert second.replayed
        assert first.head == second.head
