"""A client that keeps the conversation itself: it sends back every item it was given, questions and answers included.

What became of each question decides how it is read; an answer that is new goes to the very call that asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from sdk_runs import ran
from wire_server import KEY, OTHER, WireServer

import agents as sdk
from remanence import Agent, tool
from remanence.content import Part, Text, ToolCall, ToolResult, Usage, text_of
from remanence.errors import ToolError
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest

ASKS: Any = [{"type": "mcp", "server_label": "shop", "require_approval": "always"}]
refunds: list[int] = []


@tool(replay="never", approval="cents > 0")
async def refund(cents: int) -> str:
    """Refund."""
    if cents == 13:
        raise ToolError("thirteen is unlucky")
    refunds.append(cents)
    return f"paid {cents}"


def script(request: ModelRequest) -> ModelReply:
    """Refunds what it is told to (`refund 1 2`), all at once, without a word when it is told so (`refund 1 2 quietly`);
    else says what it was sent last."""
    last = request.messages[-1]
    said = text_of(last.parts)
    if last.role == "user" and said.startswith("refund"):
        orders = said.removesuffix(" quietly").split()[1:]
        calls = [ToolCall(f"c{cents}", "refund", f'{{"cents": {cents}}}') for cents in orders]
        words = () if said.endswith("quietly") else (Text("I will."),)
        return ModelReply((*words, *calls), Usage(1, 1), stop="tool_calls")
    results = [text_of(part.parts) for part in last.parts if isinstance(part, ToolResult)]
    return ModelReply((Text(f"said: {'; '.join(results) or said}"),), Usage(1, 1))


@pytest.fixture
def model() -> Scripted:
    return Scripted(script)


@pytest.fixture
def server(tmp_path: Path, model: Scripted) -> Iterator[WireServer]:
    refunds.clear()
    made = WireServer(str(tmp_path / "a.db"), {"m": model}, [Agent("shop", model="m", tools=[refund])])
    yield made
    made.stop()


@pytest.fixture
def client(server: WireServer) -> Iterator[Any]:
    with server.client(timeout=60) as made:
        yield made


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def answer(name: str, approve: bool = True, **more: Any) -> Any:
    return {"type": "mcp_approval_response", "approval_request_id": name, "approve": approve, **more}


def given_out(response: Any) -> list[Any]:
    """The items of a response as the SDK puts them into its next input."""
    return [item.model_dump(exclude_unset=True) for item in response.output]


def questions(response: Any) -> list[str]:
    return [item.id for item in response.output if item.type == "mcp_approval_request"]


def kinds(response: Any) -> list[tuple[str, str | None]]:
    return [(item.type, getattr(item, "status", None)) for item in response.output]


def sent(model: Scripted) -> list[tuple[str, list[str]]]:
    return [(one.role, [_word(part) for part in one.parts]) for one in model.requests[-1].messages]


def _word(part: Part) -> str:
    match part:
        case ToolCall(arguments=arguments):
            return arguments
        case ToolResult(parts=parts):
            return text_of(parts)
        case Text(text=text):
            return text
        case _:
            return ""


def session_of(response: Any) -> str:
    return response.id.removeprefix("resp_").rpartition("_")[0]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_goes_to_the_call_that_asked(client: Any, model: Scripted, stream: bool) -> None:
    def made(given: Any) -> Any:
        answer = client.responses.create(model="shop", tools=ASKS, input=given, stream=stream)
        return list(answer)[-1].response if stream else answer

    past = [user("refund 1 2")]
    asked = made(past)
    first, second = questions(asked)
    past += [*given_out(asked), answer(first), answer(second, False, reason="no")]
    told = made(past)
    assert kinds(told) == [("mcp_call", "completed"), ("mcp_call", "failed"), ("message", "completed")]
    assert (refunds, session_of(told), told.previous_response_id) == ([1], session_of(asked), None)
    past += [*given_out(told), user("and now?")]
    after = made(past)
    assert after.output_text == "said: and now?"
    assert refunds == [1], "what is told again does not happen again"
    roles = [role for role, _ in sent(model)]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"]
    said = [word for _, words in sent(model) for word in words]
    assert said.count("paid 1") == said.count('{"cents": 2}') == 1


@pytest.mark.parametrize("approve", [True, False])
def test_a_reply_that_is_nothing_but_a_question(client: Any, approve: bool) -> None:
    """Most are: the model calls without a word. The answer was refused, as if what was asked about were news."""
    past: list[Any] = []
    for order, more in (("refund 1 quietly", []), ("refund 2 3 quietly", [user("quick")])):
        past.append(user(order))
        asked = client.responses.create(model="shop", tools=ASKS, input=past)
        past += given_out(asked)
        past += [*(answer(name, approve) for name in questions(asked)), *more]
        told = client.responses.create(model="shop", tools=ASKS, input=past)
        assert session_of(told) == session_of(asked)
        past += given_out(told)
    assert sorted(refunds) == ([1, 2, 3] if approve else []), "two run side by side"


def test_one_answer_after_the_other(client: Any) -> None:
    past = [user("refund 1 2")]
    for approve in (True, False):
        asked = client.responses.create(model="shop", tools=ASKS, input=past)
        past += given_out(asked)
        known = [item["approval_request_id"] for item in past if item.get("type") == "mcp_approval_response"]
        names = [item["id"] for item in past if item.get("type") == "mcp_approval_request"]
        past.append(answer(next(name for name in names if name not in known), approve))
    told = client.responses.create(model="shop", tools=ASKS, input=past)
    assert [kind for kind, _ in kinds(told)] == ["mcp_call", "message"]
    assert refunds == [1]


def test_an_answer_beside_the_question_it_answers_needs_no_more_than_the_response(client: Any) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    items = [one for one in given_out(asked) if one["type"] == "mcp_approval_request"]
    told = client.responses.create(
        model="shop", tools=ASKS, input=[*items, answer(questions(asked)[0])], previous_response_id=asked.id
    )
    assert (told.output_text, refunds) == ("said: paid 1", [1])


def test_a_question_that_nobody_answered_is_a_call_that_never_ran(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    past = [user("refund 1"), *given_out(asked)]
    left = client.responses.create(model="shop", tools=ASKS, input=[*past, user("never mind")])
    assert left.output_text == "said: never mind"
    assert [role for role, _ in sent(model)] == ["user", "assistant", "tool", "user"]
    assert "not run" in sent(model)[2][1][0]
    no = answer(questions(asked)[0], False, reason="too dear")
    denied = client.responses.create(
        model="shop", tools=ASKS, input=[*past, no, {"role": "assistant", "content": "Then not."}, user("right")]
    )
    assert denied.output_text == "said: right"
    assert "too dear" in sent(model)[2][1][0]
    assert refunds == []


def test_a_past_that_is_not_the_one_that_asked_is_refused(client: Any) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    yes = answer(questions(asked)[0])
    for past in ([user("refund 100")], [user("refund 1"), user("really")], []):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model="shop", tools=ASKS, input=[*past, *given_out(asked), yes])
        assert refused.value.param == "input"
        assert asked.id.rpartition("_")[0].removeprefix("resp_") in refused.value.message
        assert "previous_response_id" in refused.value.message
    assert refunds == []
    told = client.responses.create(model="shop", tools=ASKS, input=[user("refund 1"), *given_out(asked), yes])
    assert (told.output_text, refunds) == ("said: paid 1", [1])
    with pytest.raises(openai.APIStatusError) as again:
        client.responses.create(model="shop", tools=ASKS, input=[user("refund 1"), *given_out(asked), yes])
    assert again.value.status_code in (400, 409)
    assert refunds == [1]


def test_a_retry_under_its_key_is_the_same_response(client: Any) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    given = [user("refund 1"), *given_out(asked), answer(questions(asked)[0])]
    headers = {"Idempotency-Key": "one"}
    made = [client.responses.create(model="shop", tools=ASKS, input=given, extra_headers=headers) for _ in range(2)]
    assert made[0].id == made[1].id
    assert refunds == [1]


def test_what_cannot_be_honoured_names_the_item(client: Any, server: WireServer) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    past = [user("refund 1"), *given_out(asked)]
    (name,) = questions(asked)
    lost = [*past, answer(name), {"role": "assistant", "content": "Done."}, user("thanks")]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="shop", tools=ASKS, input=lost)
    assert refused.value.param == f"input[{len(past)}]"
    foreign = {"type": "mcp_approval_request", "id": "mcpr_68", "name": "x", "arguments": "{}", "server_label": "shop"}
    for one, key in ((server.client(), "mcpr_68"), (server.client(key=OTHER), name)):
        given = [user("refund 1"), {**foreign, "id": key}, answer(key)]
        with one as asking, pytest.raises(openai.BadRequestError) as unknown:
            asking.responses.create(model="m" if key == name else "shop", input=given)
        assert unknown.value.param == "input[2].approval_request_id"
    with pytest.raises(openai.BadRequestError) as other:
        client.responses.create(model="m", input=[*past, answer(name)])
    assert other.value.param == "model"
    wrong = {**foreign, "arguments": None}
    with pytest.raises(openai.BadRequestError) as bad:
        client.responses.create(model="shop", input=[user("x"), wrong, answer("mcpr_68")])
    assert bad.value.param == "input[1].arguments"
    assert refunds == []


def test_words_beside_an_answer_are_heard(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    told = client.responses.create(
        model="shop",
        tools=ASKS,
        input=[answer(questions(asked)[0]), user("and be quick")],
        previous_response_id=asked.id,
    )
    assert refunds == [1]
    assert [word for _, words in sent(model) for word in words][-2:] == ["paid 1", "and be quick"]
    assert told.output_text == "said: and be quick"
    kept = client.responses.input_items.list(told.id, order="asc").data
    assert [item.type for item in kept] == ["message", "mcp_approval_response"]


def test_what_failed_is_told_again_in_the_words_it_failed_with(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 13")
    past = [user("refund 13"), *given_out(asked), answer(questions(asked)[0])]
    failed = client.responses.create(model="shop", tools=ASKS, input=past)
    assert failed.output[0].status == "failed"
    client.responses.create(model="shop", tools=ASKS, input=[*past, *given_out(failed), user("why?")])
    assert "thirteen is unlucky" in sent(model)[2][1][0]


def in_talk(client: Any, talk: str) -> list[Any]:
    """The items of a conversation as the SDK puts them into its next input."""
    up = list(client.conversations.items.list(talk, order="asc", limit=2))
    assert list(client.conversations.items.list(talk, order="desc", limit=2))[::-1] == up
    assert [client.conversations.items.retrieve(item.id, conversation_id=talk) for item in up] == up
    return [item.model_dump(exclude_unset=True) for item in up]


def test_a_conversation_keeps_questions_and_their_answers(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1 2")
    first, second = questions(asked)
    talk = client.conversations.create(items=[user("refund 1 2"), *given_out(asked)]).id
    past = in_talk(client, talk)
    assert [item["type"] for item in past] == ["message", "message", "mcp_approval_request", "mcp_approval_request"]
    assert [item["id"] for item in past[2:]] == [first, second]
    answers = [answer(first), answer(second, False, reason="no")]
    added = client.conversations.items.create(talk, items=answers).data
    assert [(item.approval_request_id, item.approve) for item in added] == [(first, True), (second, False)]
    told = client.responses.create(model="shop", tools=ASKS, input=[*past, *answers])
    assert refunds == [1]
    client.conversations.items.create(talk, items=given_out(told))
    whole = in_talk(client, talk)
    assert [item["type"] for item in whole[4:]] == ["mcp_approval_response"] * 2 + ["mcp_call"] * 2 + ["message"]
    ran, denied = whole[6:8]
    assert (ran["approval_request_id"], ran["output"], ran["status"]) == (first, "paid 1", "completed")
    assert (ran["name"], ran["server_label"], ran["arguments"]) == ("refund", "shop", '{"cents": 1}')
    assert (denied["approval_request_id"], denied["status"]) == (second, "failed")
    after = client.responses.create(model="shop", tools=ASKS, input=[*whole, user("and now?")])
    assert (after.output_text, refunds) == ("said: and now?", [1])
    here = client.responses.create(model="m", input="and here?", conversation=talk)
    assert here.output_text == "said: and here?"
    assert [role for role, _ in sent(model)].count("tool") == 2
    assert "mcpr_" not in str(sent(model))
    client.conversations.items.delete(second, conversation_id=talk)
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(second, conversation_id=talk)
    assert [item["type"] for item in in_talk(client, talk)].count("mcp_approval_request") == 1


def test_an_answer_that_a_conversation_cannot_pair_is_refused(client: Any, server: WireServer) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    (name,) = questions(asked)
    with pytest.raises(openai.BadRequestError) as unknown:
        client.conversations.create(items=[user("refund 1"), answer(name)])
    assert (unknown.value.param, name in unknown.value.message) == ("items[1].approval_request_id", True)
    talk = client.conversations.create(items=given_out(asked)).id
    with pytest.raises(openai.BadRequestError, match=f"Duplicate item found with id {name}"):
        client.conversations.items.create(talk, items=given_out(asked))
    client.conversations.items.create(talk, items=[answer(name)])
    for one in (answer(name), answer("mcpr_68")):
        with pytest.raises(openai.BadRequestError):
            client.conversations.items.create(talk, items=[one])
    assert len(in_talk(client, talk)) == 3
    with server.client(key=OTHER) as other:
        theirs = other.conversations.create().id
        with pytest.raises(openai.BadRequestError):
            other.conversations.items.create(theirs, items=[answer(name)])
    assert refunds == []


def test_a_denial_that_is_told_at_once_reaches_the_model(client: Any, model: Scripted) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    no = answer(questions(asked)[0], False, reason="too dear")
    talk = client.conversations.create(
        items=[user("refund 1"), *given_out(asked), no, {"role": "assistant", "content": "Then not."}]
    ).id
    kept = [item["type"] for item in in_talk(client, talk)]
    assert kept == ["message", "message", "mcp_approval_request", "mcp_approval_response", "message"]
    client.responses.create(model="m", input="and?", conversation=talk)
    assert "too dear" in str(sent(model))


def test_what_a_server_offers_is_kept_as_it_was(client: Any) -> None:
    offer = {"name": "refund", "input_schema": {"type": "object"}, "description": None, "annotations": None}
    listed = {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "shop", "tools": [offer]}
    talk = client.conversations.create(items=[listed]).id
    (item,) = in_talk(client, talk)
    assert (item["type"], item["server_label"], item["tools"]) == ("mcp_list_tools", "shop", [offer])
    with pytest.raises(openai.BadRequestError) as refused:
        client.conversations.items.create(talk, items=[{**listed, "tools": None}])
    assert refused.value.param == "items[0].tools"


def test_what_is_kept_goes_along_to_another_agent(client: Any, server: WireServer) -> None:
    asked = client.responses.create(model="shop", tools=ASKS, input="refund 1")
    waits: Any = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    ran = {"type": "mcp_call", "id": "mcp_1", "server_label": "far", "name": "g", "arguments": "{}", "output": "done"}
    talk = client.conversations.create(items=[user("refund 1"), waits]).id
    client.conversations.items.create(talk, items=given_out(asked))
    client.conversations.items.create(talk, items=[ran])
    came: Any = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    client.responses.create(model="shop", input=[came, user("never mind")], conversation=talk)
    whole = in_talk(client, talk)
    kinds = ["message", "function_call", "message", "mcp_approval_request", "mcp_call", "function_call_output"]
    assert [item["type"] for item in whole] == [*kinds, "message", "message"]
    assert (whole[4]["name"], whole[4]["output"], whole[4]["status"]) == ("g", "done", "completed")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_session_of_the_agents_sdk_waits_for_an_approval(server: WireServer, streamed: bool) -> None:
    """Stopped, approved, gone on: the conversation holds every item, and each of its items can be sent again."""
    asks = sdk.HostedMCPTool(tool_config=ASKS[0])
    options: Any = {"max_retries": 0, "_strict_response_validation": True}

    async def run(given: Any) -> Any:
        return await ran(desk, given, streamed=streamed, session=session)

    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, **options) as client:
        session: Any = sdk.OpenAIConversationsSession(openai_client=client)
        desk = sdk.Agent[None]("desk", model=sdk.OpenAIResponsesModel("shop", client), tools=[asks])
        stopped = await run("refund 1 2")
        assert len(stopped.interruptions) == 2
        state = stopped.to_state()
        for number, waits in enumerate(stopped.interruptions):
            state.approve(waits) if number == 0 else state.reject(waits)
        ended = await run(state)
        assert refunds == [1]
        assert ended.final_output.startswith("said: ")
        assert (await run("thanks")).final_output == "said: thanks"
        kinds = [item["type"] for item in await session.get_items()]
        assert kinds == [
            "message", "message", "mcp_approval_request", "mcp_approval_request", "mcp_approval_response",
            "mcp_approval_response", "mcp_call", "mcp_call", "message", "message", "message",
        ]  # fmt: skip
        assert refunds == [1]
        popped = await session.pop_item()
        assert popped["content"][0]["text"] == "said: thanks"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_agents_sdk_that_keeps_the_conversation_itself(server: WireServer, streamed: bool) -> None:
    asks = sdk.HostedMCPTool(tool_config=ASKS[0])

    async def run(given: Any) -> Any:
        return await ran(desk, given, streamed=streamed)

    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        desk = sdk.Agent[None]("desk", model=sdk.OpenAIResponsesModel("shop", client), tools=[asks])
        stopped = await run("refund 1 2")
        state = stopped.to_state()
        for number, waits in enumerate(stopped.interruptions):
            state.approve(waits) if number == 0 else state.reject(waits)
        ended = await run(state)
        assert refunds == [1]
        assert ended.final_output.startswith("said: ")
        more = await run([*ended.to_input_list(), user("thanks")])
        assert more.final_output == "said: thanks"
        assert refunds == [1]
