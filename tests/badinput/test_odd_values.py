"""Values of the wrong type, from a program of ours or of others: refused before they are kept, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remanence import Agent, Remanence, tool
from remanence.app import Options, Session
from remanence.commands.sessions import Opening
from remanence.content import Part, Text, ToolCall
from remanence.core.state import status_of
from remanence.errors import EffectInDoubt, InvalidInput, TurnFailed
from remanence.events import Recorded, ToolLost, ToolReturned, TurnEnded
from remanence.models.scripted import Scripted, last_user_text, step_of
from remanence.ports import ModelReply, ModelRequest, Tool, ToolCallContext, ToolOutcome
from remanence.spec import ToolSpec

ODD: list[Any] = [3, None, 2**70, object(), ["x"], "half \ud800 a character"]
ODD_NAMES = ["number", "none", "beyond", "object", "list", "surrogate"]  # the same in each process that runs tests
ANY: Any = "nonsense"
REFUSED = (InvalidInput, TypeError, ValueError, AttributeError)
"""Ours, or Python's own for what is no text at all: what counts is that nothing of it was written."""


@tool(replay="never")
async def unsure() -> str:
    """Cannot know whether it happened."""
    raise EffectInDoubt("the line went dead")


class Stranger:
    """A tool of somebody who did not read what a tool may give back."""

    spec = ToolSpec("strange", parameters={"type": "object"}, replay="safe")

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        """Whatever it was made with."""
        return ToolOutcome(self._parts)

    async def reconcile(self, effect_key: str) -> None:
        """It does not know."""


def script(request: ModelRequest) -> ModelReply:
    """Calls the tool that the user names, then says that all is well."""
    if step_of(request) == 0 and last_user_text(request) in ("unsure", "strange"):
        return ModelReply((ToolCall("", last_user_text(request), "{}"),))
    return ModelReply((Text("all is well"),))


async def goes_on(session: Session) -> None:
    assert await session.send("are you there?") == "all is well"


async def test_what_nobody_could_read_back_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/odd.db", options=Options(model=Scripted(script))) as rt:
        session = await rt.open(Agent("odd", model="scripted", tools=[unsure]))
        async for item in session.send("unsure"):
            if isinstance(item, Recorded) and isinstance(item.event, ToolLost):
                with pytest.raises(InvalidInput, match="Nothing was written"):
                    await session.resolve("call_1_1_1", by="ada", outcome=ANY)
                for odd in ODD:
                    with pytest.raises(REFUSED):
                        await session.resolve("call_1_1_1", by="ada", outcome="happened", result=odd)
                    with pytest.raises(REFUSED):
                        await session.cancel(reason=odd)
                    with pytest.raises(REFUSED):
                        await session.freeze(reason=odd)
                await session.resolve("call_1_1_1", by="ada", outcome="give_up")
        for odd in ODD:
            for opening in (Opening(user=odd), Opening(title=odd), Opening(metadata={"a": odd})):
                with pytest.raises(InvalidInput, match="Nothing was written"):
                    await rt.open("odd", opening=opening)
            with pytest.raises(REFUSED):
                await session.send((Text(odd),))
            with pytest.raises(REFUSED):
                await session.send("hello", if_busy=odd or ANY)
        await goes_on(session)


@pytest.mark.parametrize("odd", ODD, ids=ODD_NAMES)
async def test_a_reply_of_a_model_that_cannot_be_kept_fails_the_turn_and_says_why(odd: Any, tmp_path: Path) -> None:
    def broken(request: ModelRequest) -> ModelReply:
        return ModelReply((Text(odd),)) if last_user_text(request) == "speak" else script(request)

    async with Remanence(f"sqlite:///{tmp_path}/odd.db", options=Options(model=Scripted(broken))) as rt:
        session = await rt.open(Agent("odd", model="scripted"))
        with pytest.raises(TurnFailed):
            await session.send("speak")
        ended = (await session.history())[-1].event
        assert isinstance(ended, TurnEnded)
        assert ended.status == "failed"
        assert ended.reason.startswith("model: ")
        await goes_on(session)


@pytest.mark.parametrize("odd", ODD, ids=ODD_NAMES)
async def test_a_result_of_a_tool_that_cannot_be_kept_is_an_error_that_says_it_ran(odd: Any, tmp_path: Path) -> None:
    strange: Tool = Stranger((Text(odd),))
    async with Remanence(f"sqlite:///{tmp_path}/odd.db", options=Options(model=Scripted(script))) as rt:
        session = await rt.open(Agent("odd", model="scripted", tools=[strange]))
        assert await session.send("strange") == "all is well"
        (returned,) = [r.event for r in await session.history() if isinstance(r.event, ToolReturned)]
        assert returned.error
        assert "its effects stand" in str(returned.parts)
        await goes_on(session)
        assert status_of(await session.state()) == "idle"


@pytest.mark.parametrize("limit", [-1, 2**53, 2**63, 10**30, 1.5, True, "12"])
async def test_a_limit_that_no_database_counts_is_refused(limit: Any, tmp_path: Path) -> None:
    async with Remanence(f"sqlite:///{tmp_path}/odd.db", worker=False) as rt:
        with pytest.raises(InvalidInput, match="Nothing was changed"):
            await rt.set_budget("user:ada", tokens=limit)
        assert await rt.database.controls.budgets("user:ada") == []
        await rt.set_budget("user:ada", tokens=2**53 - 1)
        with pytest.raises(InvalidInput, match="Nothing was changed"):
            await rt.raise_budget("user:ada", tokens=1)
