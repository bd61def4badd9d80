"""One session, end to end over a real SQLite file: the main job."""

from __future__ import annotations

from pathlib import Path

from remanence import Agent, Remanence, tool
from remanence.app import Options
from remanence.content import Text, ToolCall
from remanence.events import Recorded, TurnEnded, kind_of
from remanence.models.scripted import Scripted, last_result, step_of
from remanence.ports import Delta, ModelReply, ModelRequest


def refunding(request: ModelRequest) -> ModelReply:
    """Calls `refund` once, then says what came of it."""
    if step_of(request) == 0:
        return ModelReply((ToolCall("x", "refund", '{"order": "42", "cents": 900}'),))
    return ModelReply((Text(f"Done: {last_result(request)}"),))


async def test_a_turn_with_one_tool_call_is_four_writes_after_its_input(tmp_path: Path) -> None:
    ran: list[str] = []

    @tool(replay="never")
    async def refund(order: str, cents: int, *, effect_key: str) -> str:
        """Refund an order."""
        ran.append(effect_key)
        return f"refunded {cents} for {order}"

    agent = Agent("support", model="scripted", instructions="Help.", tools=[refund])
    options = Options(model=Scripted(refunding))
    async with Remanence(f"sqlite:///{tmp_path}/r.db", options=options) as rt:
        session = await rt.open(agent, user="ada")
        seen = [item async for item in session.send("Order 42 arrived broken")]
        kinds = [kind_of(item.event) for item in seen if isinstance(item, Recorded)]
        assert kinds == [
            "InputReceived",
            "TurnStarted",
            "ModelCalled",
            "ModelReplied",
            "CallJudged",
            "ToolStarted",
            "ToolReturned",
            "ModelCalled",
            "ModelReplied",
            "TurnEnded",
        ]
        assert any(isinstance(item, Delta) for item in seen)
        writes = {item.at for item in seen if isinstance(item, Recorded)}
        assert len(writes) <= 5
        assert ran == [f"{session.id}:1:call_1_1_1"]
        assert await session.send("and again") == "Done: refunded 900 for 42"
        state = await session.state()
        assert (state.turns, state.turn, state.ledger.tool_calls) == (2, None, 2)
    async with Remanence(f"sqlite:///{tmp_path}/r.db", agents=[agent], options=options) as rt:
        session = await rt.get(session.id)
        assert await session.send("a third time") == "Done: refunded 900 for 42"
        last = (await session.history())[-1].event
        assert isinstance(last, TurnEnded)
        assert last.happened == (f"{session.id}:3:call_3_1_1",)
