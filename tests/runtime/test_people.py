"""People and a running session: approvals, doubts, questions, cancels, freezes, what to do when it is busy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.runtime.shop import Shop, call, kinds, runtime, until

from remanence import Remanence
from remanence.app import Session
from remanence.commands import approvals
from remanence.content import Text
from remanence.core import state as core
from remanence.errors import Busy, Conflict, InvalidInput, NotFound, TooLarge
from remanence.events import ModelCalled, ModelReplied, Recorded, ToolReturned, ToolStarted, TurnEnded
from remanence.spec import AskRule, Limits


def asked(state: core.Session) -> core.Call | None:
    return next((c for c in state.turn.calls if c.state == "asked"), None) if state.turn else None


async def last_end(session: Session) -> TurnEnded:
    return [r.event for r in await session.history() if isinstance(r.event, TurnEnded)][-1]


async def test_an_approval_survives_a_restart_and_is_used_once(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent(), user="ada")
        await session.submit(call("refund", order="1", cents=9000))
        state = await until(session, asked)
        waiting = asked(state)
        assert waiting is not None
    async with Remanence(f"sqlite:///{tmp_path}/shop.db", worker=False) as rt:
        session = await rt.get(session.id)
        await session.approve(waiting.call, by="user:bob", note="fine")
    assert shop.calls["refund"] == 0
    async with runtime(tmp_path, None, shop.agent()) as rt:
        session = await rt.get(session.id)
        await until(session, lambda s: s.turn is None)
        assert shop.keys == [f"{session.id}:1:{waiting.call}"]
        started = [r.event for r in await session.history() if isinstance(r.event, ToolStarted)]
        assert [e.approved_by for e in started] == [("user:bob",)]
        await session.submit(call("refund", order="1", cents=9000))
        assert await until(session, asked), "the same call again asks again"
        assert len(shop.keys) == 1


async def test_a_denial_is_read_by_the_model_and_nothing_runs(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("refund", order="1", cents=9000))
        waiting = asked(await until(session, asked))
        assert waiting is not None
        await session.deny(waiting.call, by="user:bob", note="too much")
        await until(session, lambda s: s.turn is None)
        assert shop.calls["refund"] == 0
        replies = [r.event for r in await session.history() if isinstance(r.event, ModelReplied)]
        assert "denied by user:bob: too much" in str(replies[-1].parts)
        with pytest.raises(NotFound):
            await session.approve(waiting.call, by="user:bob")


async def test_an_approval_that_nobody_gives_expires_as_its_own_outcome(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        agent = shop.agent(rules=(AskRule("look", expires_s=0.1),))
        session = await rt.open(agent)
        assert "expired" in await session.send(call("look", n=1))
        assert "ApprovalExpired" in await kinds(session)
        assert shop.calls["look"] == 0


@pytest.mark.parametrize("expires_s", [0.0, -1.0, 1e15, float("inf"), float("nan")])
async def test_an_approval_that_no_clock_can_end_is_refused_and_the_call_waits_on(
    tmp_path: Path, expires_s: float
) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("refund", order="42", cents=9000))
        await until(session, asked)
        with pytest.raises(InvalidInput, match="at most for 100 years"):
            await session.approve("call_1_1_1", by="grace", expires_s=expires_s)
        await session.approve("call_1_1_1", by="grace")
        await until(session, lambda s: s.turn is None)


async def test_two_approvers_must_be_two_people_and_the_right_ones(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        agent = shop.agent(rules=(AskRule("look", approvers=("user:a", "user:b"), needed=2),))
        session = await rt.open(agent)
        await session.submit(call("look", n=1))
        waiting = asked(await until(session, asked))
        assert waiting is not None
        with pytest.raises(InvalidInput):
            await session.approve(waiting.call, by="user:mallory")
        await session.approve(waiting.call, by="user:a")
        with pytest.raises(Conflict):
            await session.approve(waiting.call, by="user:a")
        assert shop.calls["look"] == 0
        await session.approve(waiting.call, by="user:b")
        await until(session, lambda s: s.turn is None)
        assert shop.calls["look"] == 1


@pytest.mark.parametrize(
    ("outcome", "expected"), [("happened", "it rang"), ("give_up", "given up"), ("run_again", "shop.unsure")]
)
async def test_a_doubt_is_visible_and_settled_by_a_person(tmp_path: Path, outcome: str, expected: str) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("unsure", n=1))
        state = await until(session, lambda s: s.doubts)
        assert [d.tool for d in state.doubts] == ["unsure"]
        row = await rt.database.views.session(session.id)
        assert (row.summary.status, row.summary.waiting_on) == ("waiting", "doubt")
        doubt = state.doubts[0]
        result = "it rang" if outcome == "happened" else ""
        await session.resolve(doubt.call, by="user:bob", outcome=outcome, result=result)  # pyright: ignore[reportArgumentType]
        if outcome == "run_again":
            state = await until(session, lambda s: s.doubts)
            assert shop.calls["unsure"] == 2
            assert state.doubts[0].effect_key == doubt.effect_key
        else:
            await until(session, lambda s: s.turn is None)
            assert shop.calls["unsure"] == 1
            returned = [r.event for r in await session.history() if isinstance(r.event, ToolReturned)]
            assert expected in str(returned[-1].parts)


async def test_a_question_is_answered_by_the_next_message(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("ask_human", question="Which colour?"))
        state = await until(session, lambda s: s.turn and any(c.state == "question" for c in s.turn.calls))
        assert state.turn is not None
        question = state.turn.calls[0].call
        for text, error in (("x" * 5_000_000, TooLarge), (" ", InvalidInput)):
            with pytest.raises(error, match="Nothing was written"):
                await approvals.answer(rt.caller, session.id, question, (Text(text),))
        assert (await session.state()).head == state.head
        await approvals.answer(rt.caller, session.id, question, (Text("blue"),))
        await until(session, lambda s: s.turn is None)
        await session.submit(call("ask_human", question="And which size?"))
        await until(session, lambda s: s.turn and any(c.state == "question" for c in s.turn.calls))
        assert "large" in await session.send("large")
        assert (await session.state()).turns == 2


async def test_who_reads_late_hears_the_turn_that_took_the_input(tmp_path: Path) -> None:
    """The turn of before ends while this one waits, and all is over before its end is looked at."""
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        heard: list[Recorded] = []
        async for item in session.send("two"):
            if isinstance(item, Recorded):
                heard.append(item)
                shop.gate.set()
                await until(session, lambda s: s.turns == 2 and s.turn is None)
        assert [r.event.turn for r in heard if isinstance(r.event, TurnEnded)] == [1, 2]


async def test_who_answers_and_reads_late_hears_the_turn_that_asked(tmp_path: Path) -> None:
    """Another input was queued before the answer: its turn is over before the end of the asking one is looked at."""
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("ask_human", question="Which colour?"))
        await until(session, lambda s: s.turn and any(c.state == "question" for c in s.turn.calls))
        await rt.freeze("all")
        heard: list[Recorded] = []
        async for item in session.send("blue"):
            if isinstance(item, Recorded):
                heard.append(item)
                if len(heard) == 1:
                    await session.submit("and hello")
                    await rt.thaw("all")
                await until(session, lambda s: s.turns == 2 and s.turn is None)
        assert [r.event.turn for r in heard if isinstance(r.event, TurnEnded)] == [1]


async def test_a_client_runs_its_own_tool(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        await session.submit(call("show", n=1))
        state = await until(session, lambda s: s.turn and any(c.state == "running" for c in s.turn.calls))
        assert state.turn is not None
        assert (await rt.database.views.session(session.id)).summary.waiting_on == "client"
        shown = state.turn.calls[0].call
        await approvals.tool_result(rt.caller, session.id, shown, (Text("shown to ada"),))
        await until(session, lambda s: s.turn is None)
        with pytest.raises((NotFound, Conflict)):
            await approvals.tool_result(rt.caller, session.id, shown, (Text("again"),))


async def test_cancel_waits_for_what_cannot_be_stopped_and_says_what_happened(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit("\n".join((call("hold", n=1), call("dawdle", n=2), call("refund", order="9", cents=9000))))
        await shop.entered.wait()
        await session.cancel(reason="changed my mind")
        state = await session.state()
        assert state.turn is not None, "a tool that may not run twice is not torn down in flight"
        shop.gate.set()
        await until(session, lambda s: s.turn is None)
        end = await last_end(session)
        assert (end.status, end.happened) == ("cancelled", (f"{session.id}:1:call_1_1_1",))
        assert shop.calls["refund"] == 0
        with pytest.raises(Conflict):
            await session.cancel()


async def test_while_a_turn_runs_queue_steer_interrupt_and_reject(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        with pytest.raises(Busy):
            await session.submit("not now?", if_busy="reject")
        await session.submit("later", if_busy="queue")
        await session.submit("and mind this", if_busy="steer")
        shop.gate.set()
        state = await until(session, lambda s: s.turn is None and not s.queue)
        assert state.turns == 2
        taken = [r.event for r in await session.history() if type(r.event).__name__ in ("TurnStarted", "InputJoined")]
        assert [type(e).__name__ for e in taken] == ["TurnStarted", "InputJoined", "TurnStarted"]
        shop.gate.clear()
        shop.entered.clear()
        await session.submit(call("dawdle", n=1))
        await shop.entered.wait()
        assert "stop that" in await session.send("stop that", if_busy="interrupt")
        ends = [r.event.status for r in await session.history() if isinstance(r.event, TurnEnded)]
        assert ends == ["completed", "completed", "cancelled", "completed"]


async def test_a_frozen_session_starts_nothing_and_keeps_what_is_said(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent())
        await session.submit(call("hold", n=1))
        await shop.entered.wait()
        frozen = await session.freeze(reason="look into it")
        shop.gate.set()
        await until(session, lambda s: s.turn and s.turn.calls[0].state == "returned")
        await session.submit("are you there?")
        state = await session.state()
        assert state.last_effect == frozen.last_effect, "no effect started after the freeze was acknowledged"
        assert len(state.queue) == 1
        await session.thaw()
        await until(session, lambda s: s.turn is None and not s.queue)


async def test_a_misspelt_agent_does_not_look_frozen(tmp_path: Path) -> None:
    async with runtime(tmp_path) as rt:
        session = await rt.open(Shop().agent())
        with pytest.raises(NotFound, match="Nothing was frozen"):
            await rt.freeze("agent:shpo")
        assert (await rt.freeze("agent:shop")).scope == "agent:shop"
        await rt.thaw("agent:shop")
        assert await session.send("hello")


async def test_the_kill_switch_over_everything(tmp_path: Path) -> None:
    """Many sessions at work; once the freeze is acknowledged no intent is journaled anywhere, and the proof names the
    last one that was."""
    shop = Shop()
    async with runtime(tmp_path) as rt:
        limits = Limits(repeats_before_asking=1_000, model_calls_per_turn=30)
        opened = [await rt.open(shop.agent(limits=limits)) for _ in range(12)]
        for number, session in enumerate(opened):
            await session.submit("again " + call("look", n=number))
        await until(opened[0], lambda s: s.ledger.tool_calls >= 2)
        hold = await rt.freeze("all", reason="drill")

        async def intents() -> dict[str, int]:
            found: dict[str, int] = {}
            for session in opened:
                for record in await session.history():
                    if isinstance(record.event, (ModelCalled, ToolStarted)):
                        found[session.id] = record.position
            return found

        before = await intents()
        assert hold.last_effect is not None
        assert before[hold.last_effect[0]] == hold.last_effect[1]
        await opened[3].submit("accepted all the same")
        await asyncio.sleep(0.3)
        assert await intents() == before
        await rt.thaw("all")
        for session in opened:
            await until(session, lambda s: s.turn is None and not s.queue)
        assert (await opened[3].state()).turns == 2


MANY = 40


async def test_as_many_as_answer_at_once_are_all_heard(tmp_path: Path) -> None:
    shop = Shop()
    async with runtime(tmp_path) as rt:
        session = await rt.open(shop.agent(limits=Limits(tool_calls_per_reply=MANY)))
        await session.submit("\n".join(call("refund", order=str(n), cents=9000) for n in range(MANY)))
        waiting = await calls_that_are(session, "asked")
        await asyncio.gather(*(session.approve(one, by="user:bob") for one in waiting))
        await until(session, lambda s: s.turn is None)
        assert (shop.calls["refund"], len(set(shop.keys))) == (MANY, MANY)
        await session.submit("\n".join(call("unsure", n=n) for n in range(MANY)))
        doubts = await calls_that_are(session, "in_doubt")
        await asyncio.gather(*(session.resolve(one, by="user:bob", outcome="happened", result="x") for one in doubts))
        await session.submit("\n".join(call("show", n=n) for n in range(MANY)))
        with_client = await calls_that_are(session, "running")
        said = (Text("seen"),)
        await asyncio.gather(*(approvals.tool_result(rt.caller, session.id, one, said) for one in with_client))
        assert (await until(session, lambda s: s.turn is None)).last_turn == "completed"


async def calls_that_are(session: Session, state: str) -> list[str]:
    """The calls of the running turn, once all of them have come to this."""
    s = await until(session, lambda s: s.turn and sum(one.state == state for one in s.turn.calls) == MANY)
    return [one.call for one in s.turn.calls] if s.turn else []
