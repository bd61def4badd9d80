"""Chat Completions with a session: what the model really received, what was forked, and what a turn may wait for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from chat_server import OTHER, Server
from msgspec.structs import replace
from test_chat import FIND, chatting, script, user

from remanence import Agent, tool
from remanence.api.chat.answer import Done, Words
from remanence.api.chat.session import Told, answer
from remanence.commands import sessions
from remanence.commands.metering import AGENT
from remanence.content import ToolResult, text_of
from remanence.core.builtins import ASK_HUMAN
from remanence.core.state import waiting_on
from remanence.events import ModelReplied, ToolStarted
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest, OnDelta
from remanence.runtime.live import Hub
from remanence.spec import AgentSpec
from remanence.testing.scripted import Script, call, calls, dialogue, says


async def ask(server: Server, messages: list[Any], session: str | None = None, **fields: Any) -> tuple[Any, str]:
    """One request; what came, and the session it came from."""
    headers = {} if session is None else {"x-session-id": session}
    headers |= fields.pop("headers", {})
    raw = await server.client(max_retries=0).chat.completions.with_raw_response.create(
        messages=messages, extra_headers=headers, **{"model": "test", **fields}
    )
    return raw.parse().choices[0], raw.headers["x-session-id"]


def seen(model: Scripted) -> list[str]:
    """The texts of the last window the model received."""
    return [f"{m.role}: {text_of(m.parts)}" for m in model.requests[-1].messages]


async def test_the_same_past_is_continued(database: str) -> None:
    model = script()
    async with chatting(database, model) as server:
        messages = [user("one")]
        first, session = await ask(server, messages, "new")
        assert first.message.content == "You said: one"
        messages += [first.message, user("and more")]
        second, again = await ask(server, messages, session)
        assert again == session
        assert second.message.content == "You said: and more"
        assert seen(model) == ["user: one", "assistant: You said: one", "user: and more"]
        state = await (await server.rt.get(session)).state()
        assert (state.turns, state.last_turn) == (2, "completed")
        calls_made = [r for r in await server.rt.database.store.read(session) if isinstance(r.event, ModelReplied)]
        assert len(calls_made) == 2


async def test_an_edited_past_is_a_fork_and_leaves_what_was(database: str) -> None:
    model = script()
    async with chatting(database, model) as server:
        messages = [user("one")]
        first, session = await ask(server, messages, "new")
        messages += [first.message, user("alpha")]
        second, session = await ask(server, messages, session)
        head = (await (await server.rt.get(session)).state()).head

        edited = [*messages[:2], user("beta")]
        third, forked = await ask(server, edited, session)
        assert forked != session
        assert third.message.content == "You said: beta"
        assert seen(model) == ["user: one", "assistant: You said: one", "user: beta"]
        assert (await (await server.rt.get(session)).state()).head == head

        rewritten = [user("one"), {"role": "assistant", "content": "I never said that."}, user("gamma")]
        _, other = await ask(server, rewritten, session)
        assert other not in (session, forked)
        assert seen(model) == ["user: one", "assistant: I never said that.", "user: gamma"]
        row = await server.rt.database.views.session(other)
        assert row.fork is not None
        assert row.fork.source == session

        messages += [second.message, user("delta")]
        _, same = await ask(server, messages, session)
        assert same == session


async def test_the_same_question_again_is_asked_again_in_a_fork(database: str) -> None:
    model = script()
    async with chatting(database, model) as server:
        _, session = await ask(server, [user("one")], "new")
        _, again = await ask(server, [user("one")], session)
        assert again != session
        assert seen(model) == ["user: one"]


async def test_a_past_brought_along(database: str) -> None:
    model = script()
    async with chatting(database, model) as server:
        past = [user("a"), {"role": "assistant", "content": "b"}, user("c"), user("d")]
        last, session = await ask(server, past, "new")
        assert seen(model) == ["user: a", "assistant: b", "user: c\nd"]
        _, same = await ask(server, [*past, last.message, user("e")], session)
        assert same == session
        assert len(model.requests[-1].messages) == 5


@pytest.mark.parametrize("stream", [False, True])
async def test_functions_in_a_session(stream: bool, database: str) -> None:
    model = script()
    async with chatting(database, model) as server:
        messages = [user("two")]
        first, session = await ask(server, messages, "new", tools=[FIND])
        assert first.finish_reason == "tool_calls"
        assert first.message.content == "both"
        asked = first.message.tool_calls
        assert [json.loads(c.function.arguments) for c in asked] == [{"order": "1"}, {"order": "2"}]
        messages.append(first.message)
        messages += [{"role": "tool", "tool_call_id": c.id, "content": f"result {c.id}"} for c in reversed(asked)]
        if stream:
            got = await server.client().chat.completions.create(
                model="test", messages=messages, tools=[FIND], stream=True, extra_headers={"x-session-id": session}
            )
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in got])
        else:
            second, same = await ask(server, messages, session, tools=[FIND])
            text = second.message.content
            assert same == session
        assert text == "Ok."
        results = [
            part
            for m in model.requests[-1].messages
            if m.role == "tool"
            for part in m.parts
            if isinstance(part, ToolResult)
        ]
        assert [(r.call, text_of(r.parts)) for r in results] == [(c.id, f"result {c.id}") for c in asked]


async def test_streamed_and_whole_are_the_same(database: str) -> None:
    async with chatting(database) as server:
        client = server.client()
        async with client.chat.completions.stream(
            model="test", messages=[user("two")], tools=[FIND], extra_headers={"x-session-id": "new"}
        ) as stream:
            streamed = (await stream.get_final_completion()).choices[0]
        whole, _ = await ask(server, [user("two")], "new", tools=[FIND])
        assert streamed.finish_reason == whole.finish_reason == "tool_calls"
        assert streamed.message.content == whole.message.content
        assert [c.function.arguments for c in streamed.message.tool_calls or ()] == [
            c.function.arguments for c in whole.message.tool_calls
        ]
        assert [c.id for c in streamed.message.tool_calls or ()] == [c.id for c in whole.message.tool_calls]


@tool(replay="safe")
def look(order: str) -> str:
    """Look an order up."""
    return f"order {order} is on its way"


@tool(replay="never", approval="cents > 10")
def refund(cents: int) -> str:
    """Refund money."""
    return "refunded"


def agent_script() -> Scripted:
    return Scripted(
        Script(
            dialogues=(
                dialogue("where", says("Let me look.", call("look", order="42")), says("$result.")),
                dialogue("money", calls(call("refund", cents=99)), says("done")),
                dialogue("", says("You said: $user")),
            )
        )
    )


async def test_an_agent_runs_its_own_tools(database: str) -> None:
    model = agent_script()
    support = Agent("support", model="test", instructions="Help.", tools=[look])
    async with chatting(database, model, agents=[support]) as server:
        messages = [user("where is it")]
        first, session = await ask(server, messages, model="support")
        assert first.message.content == "Let me look.\n\norder 42 is on its way."
        assert (first.message.tool_calls, first.finish_reason) == (None, "stop")
        assert model.requests[-1].instructions == "Help."
        messages += [first.message, user("thanks")]
        second, same = await ask(server, messages, session, model="support")
        assert same == session
        assert second.message.content == "You said: thanks"
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(server, messages, session, model="support", temperature=1)
        assert refused.value.param == "temperature"
        with pytest.raises(openai.BadRequestError):
            await ask(server, messages, session, model="test")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_that_waits_for_a_person_says_so(stream: bool, database: str) -> None:
    support = Agent("support", model="test", tools=[refund])
    async with chatting(database, agent_script(), agents=[support]) as server:
        with pytest.raises(openai.ConflictError, match="waits for an approval") as refused:
            await ask(server, [user("money")], model="support", stream=stream)
        session = refused.value.response.headers["x-session-id"]
        assert session in refused.value.message, "where it goes on is said to programs too"


async def test_other_projects_and_unknown_sessions_are_not_there(database: str) -> None:
    async with chatting(database) as server:
        _, session = await ask(server, [user("one")], "new")
        await server.client().chat.completions.create(model="test", messages=[user("one")])
        for key, name in ((None, "nothing"), (OTHER, session)):
            client = server.client(key) if key else server.client()
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(
                    model="test", messages=[user("x")], extra_headers={"x-session-id": name}
                )


class Held(Scripted):
    """Says nothing to the end that begins with `a b` before it is let."""

    let: asyncio.Event

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        made = await super().reply(request, on_delta)
        if text_of(made.parts).startswith("a b"):
            await self.let.wait()
        return made


def held(script: Any) -> Held:
    made = Held(script)
    made.let = asyncio.Event()
    return made


async def test_if_busy(database: str) -> None:
    model = held(Script(dialogues=(dialogue("slow", says("a b c d e f")), dialogue("", says("You said: $user")))))
    async with chatting(database, model) as server:
        first, session = await ask(server, [user("one")], "new")
        past = [user("one"), first.message]
        slow = asyncio.create_task(ask(server, [*past, user("slow")], session))
        async with asyncio.timeout(60):
            while len(model.requests) < 2:  # noqa: ASYNC110 - the model has no bell
                await asyncio.sleep(0.01)
        with pytest.raises(openai.ConflictError):
            await ask(server, [*past, user("no")], session, headers={"x-if-busy": "reject"})
        later = asyncio.create_task(ask(server, [*past, user("later")], session))
        handle = await server.rt.get(session)
        async with asyncio.timeout(60):
            while not (await handle.state()).queue:  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        model.let.set()
        queued, same = await later
        assert same == session
        assert (await slow)[0].message.content == "a b c d e f"
        assert queued.message.content == "You said: later"
        assert seen(model)[-3:] == ["user: slow", "assistant: a b c d e f", "user: later"]


async def test_a_retry_joins_the_answer_that_is_being_made(database: str) -> None:
    model = held([says("a b c d e f")])
    async with chatting(database, model) as server:
        session = (await server.rt.open(AgentSpec(AGENT, "test"))).id
        readers: Any = server.rt.caller.live._readers  # pyright: ignore[reportAttributeAccessIssue]
        first = asyncio.create_task(ask(server, [user("one")], session))
        async with asyncio.timeout(60):
            while not model.requests:  # noqa: ASYNC110 - the model has no bell
                await asyncio.sleep(0.01)
        joining = asyncio.create_task(ask(server, [user("one")], session))
        async with asyncio.timeout(60):
            while len(readers.get(session, ())) < 2:  # noqa: ASYNC110 - who comes to listen rings no bell
                await asyncio.sleep(0.01)
        model.let.set()
        second, same = await joining
        assert same == session
        assert (await first)[0].message.content == second.message.content == "a b c d e f"
        assert len(model.requests) == 1


async def test_a_question_of_the_agent_is_answered_by_the_next_message(database: str) -> None:
    model = Scripted(
        Script(
            dialogues=(dialogue("", calls(call("ask_human", question="Why?", options=["a", "b"])), says("$result!")),)
        )
    )
    curious = Agent("curious", model="test", tools=[ASK_HUMAN])
    async with chatting(database, model, agents=[curious]) as server:
        messages = [user("go")]
        first, session = await ask(server, messages, model="curious")
        assert (first.message.content, first.finish_reason) == ("Why?\n- a\n- b", "stop")
        messages += [first.message, user("because")]
        second, same = await ask(server, messages, session, model="curious")
        assert (second.message.content, same) == ("because!", session)
        third, same = await ask(server, [*messages, second.message, user("again")], session, model="curious")
        assert (third.message.content, same) == ("Why?\n- a\n- b", session)


async def test_a_question_that_is_asked_before_anybody_listens_is_heard(database: str) -> None:
    """The turn of an input may come to rest before its answer is read for the first time."""
    model = Scripted(Script(dialogues=(dialogue("", calls(call("ask_human", question="Why?"))),)))
    curious = Agent("curious", model="test", tools=[ASK_HUMAN])
    async with chatting(database, model, agents=[curious]) as server:
        caller, session = server.rt.caller, await server.rt.open("curious")
        reader, spec = (
            caller.live.subscribe(session.id),
            await caller.database.specs.get((await session.state()).version),
        )
        sent = await sessions.send(caller, session.id, "go")
        async with asyncio.timeout(60):
            while waiting_on(await session.state()) != "answer":  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        pieces = [piece async for piece in answer(caller, Told(session.id, spec, sent.head, None, reader))]
        assert pieces[0] == Words("Why?")
        assert isinstance(pieces[-1], Done)


async def test_a_question_that_is_in_the_journal_before_it_is_heard_is_no_conflict(database: str) -> None:
    """What a turn wrote is in the journal a moment before those who follow it are told: they have heard of the first
    call then, and not of the question."""
    asks = calls(call("look", order="42"), call("ask_human", question="Why?"))
    model = Scripted(Script(dialogues=(dialogue("", asks),)))
    curious = Agent("curious", model="test", tools=[look, ASK_HUMAN])
    async with chatting(database, model, agents=[curious]) as server:
        caller, session = server.rt.caller, await server.rt.open("curious")
        spec = await caller.database.specs.get((await session.state()).version)
        sent = await sessions.send(caller, session.id, "go")
        async with asyncio.timeout(60):
            while waiting_on(await session.state()) != "answer":  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        records = await caller.database.store.read(session.id, after=sent.head - 1)
        begun = next(n for n, record in enumerate(records, start=1) if isinstance(record.event, ToolStarted))
        slow = replace(caller, live=Hub(caller.clock))
        reader = slow.live.subscribe(session.id)
        slow.live.publish(session.id, *records[:begun])
        pieces = [piece async for piece in answer(slow, Told(session.id, spec, sent.head, None, reader))]
        assert pieces[0] == Words("Why?")
        assert isinstance(pieces[-1], Done)


async def test_what_is_said_while_a_person_is_waited_for_is_kept(database: str) -> None:
    support = Agent("support", model="test", tools=[refund])
    async with chatting(database, agent_script(), agents=[support]) as server:
        session = (await server.rt.open("support")).id
        for messages in ([user("money")], [user("money")]):
            with pytest.raises(openai.ConflictError, match="waits for an approval"):
                await ask(server, messages, session, model="support")
        handle = await server.rt.get(session)
        (waiting,) = (await handle.state()).turn.calls  # pyright: ignore[reportOptionalMemberAccess] - it waits
        await handle.approve(waiting.call, by="eve")
        async with asyncio.timeout(60):
            while (await handle.state()).turn is not None:  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.01)
        assert (await handle.state()).turns == 1
