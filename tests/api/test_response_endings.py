"""Responses that go on from what this process saw last: with few looks at the database, and never on its word alone."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import openai
import pytest
from chat_server import serving

from remanence import Remanence
from remanence.api.responses.endings import KEPT_BYTES_MAX, ONE_KEPT_BYTES_MAX, Endings
from remanence.api.responses.kept import Kept, make_fold
from remanence.api.responses.request import Echo
from remanence.api.responses.responses import responses_router
from remanence.app import Options, open_database
from remanence.commands import forks, sessions
from remanence.content import Text, ToolCall, Usage, text_of
from remanence.events import ModelReplied
from remanence.models.scripted import Scripted
from remanence.ports import Appended, Database, ModelReply, ModelRequest, OnDelta, Store, Write

BUSY_ALL_THE_TIME = {"store.claim", "store.wait", "store.renew", "store.behind", "store.load", "store.release"}
"""What a worker and the projections ask by themselves."""
FACES = [("/v1", responses_router)]
TOOL: Any = {"type": "function", "name": "look", "parameters": {}, "strict": None}


class Counted:
    """A part of a database that writes down what it is asked."""

    def __init__(self, part: object, name: str, asked: list[str]) -> None:
        self._part, self._name, self._asked = part, name, asked

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if self._name == "" and name in ("store", "registry", "controls"):
            return Counted(found, name, self._asked)
        if self._name == "" or not callable(found):
            return found

        def ask(*args: Any, **kwargs: Any) -> Any:
            self._asked.append(f"{self._name}.{name}")
            return found(*args, **kwargs)

        return ask


def script(request: ModelRequest) -> ModelReply:
    """Repeats what was said last; looks when it is told to."""
    last = request.messages[-1]
    if request.tools and text_of(last.parts) == "look":
        return ModelReply((ToolCall("p", "look", "{}"),), Usage(1, 1), stop="tool_calls")
    return ModelReply((Text(f"{len(request.messages)}: {text_of(last.parts)}"),), Usage(1, 1))


async def test_a_chain_takes_no_look_and_one_commit_before_the_model_is_called(database: str) -> None:
    asked: list[str] = []
    at_model: list[list[str]] = []

    def noting(request: ModelRequest) -> ModelReply:
        at_model.append([name for name in asked if name not in BUSY_ALL_THE_TIME])
        return script(request)

    inner = await open_database(database)
    counted = cast("Database", Counted(inner, "", asked))
    options = Options(database=counted)
    rt = Remanence(database, models={"m": Scripted(noting)}, options=options)
    async with rt, serving(rt, FACES) as server:
        responses = server.client().responses
        previous: str | None = None
        for number in range(8):
            asked.clear()
            async with responses.stream(model="m", input=f"{number}", previous_response_id=previous) as stream:
                previous = (await stream.get_final_response()).id
    await inner.close()
    # The input with the response's echo, and the worker's intent. (A projection may look at the journal in the midst of
    # one of them.)
    assert ["store.append", "store.append"] in at_model[1:]


class SlowDisk:
    """A database whose disk takes as long as it is told to write down what a model replied."""

    def __init__(self, part: object, written: asyncio.Event) -> None:
        self._part, self._written = part, written

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        return SlowDisk(found, self._written) if name == "store" else found

    async def append(self, write: Write) -> Appended:
        if any(isinstance(event, ModelReplied) for event in write.events):
            await self._written.wait()
        return await cast("Store", self._part).append(write)


class Listened:
    """A model that says everything at once, when its reader is there."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        await self.heard.wait()
        if on_delta is not None:
            on_delta(0, "text", "all of it")
        return ModelReply((Text("all of it"),), Usage(1, 1))

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        return 0


async def test_the_last_pieces_of_a_reply_do_not_wait_for_a_slow_disk(database: str) -> None:
    model, written = Listened(), asyncio.Event()
    inner = await open_database(database)
    options = Options(database=cast("Database", SlowDisk(inner, written)))
    rt = Remanence(database, models={"m": model}, options=options)
    heard: list[str] = []
    async with asyncio.timeout(60), rt, serving(rt, FACES) as server:
        async for event in await server.client().responses.create(model="m", input="one", stream=True):
            heard.append(event.type)
            if event.type == "response.in_progress":
                model.heard.set()
            elif event.type == "response.output_text.delta":
                written.set()
    await inner.close()
    assert heard[-1] == "response.completed"
    assert heard.count("response.output_text.delta") == 1


async def test_a_chain_does_not_go_on_under_a_freeze(database: str) -> None:
    model = Scripted(script)
    rt, other = Remanence(database, models={"m": model}), Remanence(database, worker=False)
    async with rt, other, serving(rt, FACES) as server:
        responses = server.client().responses
        one = await responses.create(model="m", input="one")
        session = one.id.removeprefix("resp_").rpartition("_")[0]
        before = await rt.database.store.read(session)
        await other.freeze("all")
        with pytest.raises(openai.APIStatusError, match=r"freeze stands over all|all is frozen") as refused:
            await responses.create(model="m", input="two", previous_response_id=one.id)
        assert refused.value.code == "frozen"
        assert await rt.database.store.read(session) == before
        await other.thaw("all")
        assert (await responses.create(model="m", input="three", previous_response_id=one.id)).output_text == "3: three"


async def test_what_another_process_said_meanwhile_is_not_built_on(database: str) -> None:
    model = Scripted(script)
    rt, other = Remanence(database, models={"m": model}), Remanence(database, worker=False)
    async with rt, other, serving(rt, FACES) as server:
        responses = server.client().responses
        one = await responses.create(model="m", input="one")
        session = one.id.removeprefix("resp_").rpartition("_")[0]
        await sessions.send(other.caller, session, "between")
        two = await responses.create(model="m", input="two", previous_response_id=one.id)
    heard = [[text_of(message.parts) for message in request.messages] for request in model.requests]
    assert ["one", "1: one", "two"] in heard
    assert two.output_text == "3: two"
    assert two.id.rpartition("_")[0] != one.id.rpartition("_")[0]


@pytest.mark.parametrize("stands_on_it", ["nothing", "a fork", "an open call"])
async def test_a_response_that_another_server_deleted_is_not_gone_on_from(database: str, stands_on_it: str) -> None:
    models = {"m": Scripted(script)}
    rt, other = Remanence(database, models=models), Remanence(database, models=models, worker=False)
    async with rt, other, serving(rt, FACES) as here, serving(other, FACES) as there:
        responses, elsewhere = here.client().responses, there.client().responses
        said = "look" if stands_on_it == "an open call" else "one"
        one = await responses.create(model="m", input=said, tools=[TOOL])
        session = one.id.removeprefix("resp_").rpartition("_")[0]
        if stands_on_it == "a fork":
            await forks.fork(other.caller, session)
        await elsewhere.delete(one.id)
        before = await rt.database.store.read(session)
        seen: Any = [{"type": "function_call_output", "call_id": getattr(one.output[0], "call_id", ""), "output": "-"}]
        then = seen if stands_on_it == "an open call" else "two"
        with pytest.raises(openai.BadRequestError, match="not found") as refused:
            await responses.create(model="m", input=then, tools=[TOOL], previous_response_id=one.id)
        assert refused.value.code == "previous_response_not_found"
        assert await rt.database.store.read(session) == before


def test_what_is_remembered_of_requests_has_a_limit() -> None:
    endings, kept = Endings(), [Kept(f"s{number}", 2, 1, "a", 0, Echo("m")) for number in range(300)]
    for one in kept:
        fold = make_fold(one)
        fold.end = 5
        endings.note(one, fold, ONE_KEPT_BYTES_MAX)
    known = [ending for one in kept if (ending := endings.of(one)) is not None]
    assert len(known) == KEPT_BYTES_MAX // ONE_KEPT_BYTES_MAX
    assert known[-1].kept is kept[-1]
    # A request that is too large is looked up; and nobody guesses that a chain goes on from an older one.
    large, later = Kept("t", 2, 1, "a", 0, Echo("m")), Kept("s299", 9, 1, "a", 0, Echo("m"), previous=kept[-1].id)
    for one, size in ((large, ONE_KEPT_BYTES_MAX + 1), (later, 100)):
        fold = make_fold(one)
        fold.end = 5
        endings.note(one, fold, size)
    assert [getattr(endings.of(one), "kept", "") for one in (large, kept[-1], later)] == [None, None, later]


async def test_calls_that_the_client_answered_elsewhere_are_not_answered_twice(database: str) -> None:
    model = Scripted(script)
    rt, other = Remanence(database, models={"m": model}), Remanence(database, models={"m": model}, worker=False)
    answers: list[str] = []
    async with rt, other, serving(rt, FACES) as here, serving(other, FACES) as there:
        asked = await here.client().responses.create(model="m", input="look", tools=[TOOL])
        call = next(item.call_id for item in asked.output if item.type == "function_call")
        for server, seen in ((there, "a cat"), (here, "a dog")):
            output: Any = [{"type": "function_call_output", "call_id": call, "output": seen}]
            told = await server.client().responses.create(
                model="m", input=output, tools=[TOOL], previous_response_id=asked.id
            )
            assert told.status == "completed"
            answers.append(told.id.rpartition("_")[0])
    assert len(set(answers)) == 2  # the second set of outputs belongs to another past
    windows = [[message.role for message in request.messages] for request in model.requests]
    assert windows == [["user"], ["user", "assistant", "tool"], ["user", "assistant", "tool"]]
