"""MCP servers that a request names: a real server, the vendors' clients, and what was run how often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from mcp_world import Shop, shop_over_http
from openai import AsyncOpenAI
from wire_server import KEY, WireServer

from agents import Agent, HostedMCPTool, OpenAIResponsesModel, RunConfig, Runner
from remanence import Agent as Ours
from remanence.content import Text, ToolCall, ToolResult, text_of
from remanence.events import ToolStarted
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply, ModelRequest
from remanence.tools.mcp import McpServer, secret_in


def script(request: ModelRequest) -> ModelReply:
    """Calls the tools it is told to (`price tea, buy tea`), then says what came of them."""
    last = request.messages[-1]
    if last.role == "tool":
        results = [m for m in request.messages if m.role == "tool"]
        asked = next(len(m.parts) for m in reversed(request.messages) if m.role == "assistant")
        told = [text_of(p.parts) for m in results[-asked:] for p in m.parts if isinstance(p, ToolResult)]
        return ModelReply((Text("; ".join(told)),))
    calls: list[ToolCall] = []
    for order in text_of(last.parts).split(", "):
        name, _, thing = order.partition(" ")
        if name not in [tool.name for tool in request.tools]:
            return ModelReply((Text(f"I have {', '.join(sorted(tool.name for tool in request.tools))}"),))
        calls.append(ToolCall("x", name, msgspec.json.encode({"thing": thing}).decode()))
    return ModelReply(tuple(calls))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop_over_http(tmp_path_factory.mktemp("shop") / "book") as made:
        yield made


@contextmanager
def served(path: Path, *hosts: str) -> Iterator[WireServer]:
    server = WireServer(f"{path}/a.db", {"m": Scripted(script)}, mcp_hosts=hosts or ("127.0.0.1",))
    try:
        yield server
    finally:
        server.stop()


def tool(shop: Shop, approval: Any = "never", **more: Any) -> Any:
    return {"type": "mcp", "server_label": "shop", "server_url": shop.url, "require_approval": approval, **more}


def kinds(response: Any) -> list[str]:
    return [item.type for item in response.output]


def test_its_tools_are_run_here(tmp_path: Path, shop: Shop) -> None:
    before = len(shop.ran)
    with served(tmp_path) as server, server.client() as client:
        made = client.responses.create(model="m", input="price tea, buy tea", tools=[tool(shop)])
        assert kinds(made) == ["mcp_list_tools", "mcp_call", "mcp_call", "message"]
        listed, price, buy, said = made.output
        assert [one.name for one in listed.tools] == ["price", "reserve", "buy", "picture.of"]
        assert listed.tools[0].annotations["readOnlyHint"] is True
        assert (price.server_label, price.name, price.output) == ("shop", "price", "tea costs 3 euros")
        assert (buy.status, buy.error) == ("completed", None)
        assert sorted(said.content[0].text.split("; ")) == ["bought tea", "tea costs 3 euros"]  # they run side by side
        assert sorted(one.split()[0] for one in shop.ran[before:]) == ["buy", "price"]
        assert client.responses.retrieve(made.id).output == made.output
        again = client.responses.create(model="m", input="price gold", tools=[tool(shop)], previous_response_id=made.id)
        assert kinds(again) == ["mcp_call", "message"], "what the server offers was told before"
        with client.responses.create(model="m", input="price ink", tools=[tool(shop)], stream=True) as events:
            told = [event.type for event in events]
        assert told[:6] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.mcp_list_tools.in_progress",
            "response.mcp_list_tools.completed",
            "response.output_item.done",
        ]
        assert "response.mcp_call_arguments.done" in told
        assert "response.mcp_call.completed" in told


def test_a_call_asks_first_unless_the_request_says_otherwise(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        before = len(shop.ran)
        asked = client.responses.create(model="m", input="buy tea", tools=[tool(shop, None)])
        assert (asked.status, kinds(asked)) == ("completed", ["mcp_list_tools", "mcp_approval_request"])
        request = asked.output[-1]
        assert (request.server_label, request.name, request.arguments) == ("shop", "buy", '{"thing":"tea"}')
        assert len(shop.ran) == before
        answer: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        after = client.responses.create(
            model="m", input=[answer], tools=[tool(shop, None)], previous_response_id=asked.id
        )
        assert kinds(after) == ["mcp_call", "message"]
        assert after.output[0].approval_request_id == request.id
        assert after.output_text == "bought tea"
        assert len(shop.ran) == before + 1
        assert client.responses.retrieve(asked.id).output == asked.output
        assert [item.type for item in client.responses.input_items.list(after.id)] == ["mcp_approval_response"]
        again = client.responses.create(model="m", input="buy ink", tools=[tool(shop, None)])
        no: Any = {**answer, "approval_request_id": again.output[-1].id, "approve": False, "reason": "too dear"}
        denied = client.responses.create(model="m", input=[no], tools=[tool(shop)], previous_response_id=again.id)
        assert denied.output[0].status == "failed"
        assert "too dear" in denied.output_text
        assert len(shop.ran) == before + 1


@pytest.mark.parametrize("whole", [False, True])
def test_an_answer_beside_what_a_function_of_the_client_came_to(tmp_path: Path, shop: Shop, whole: bool) -> None:
    """One reply called both: the client answers both at once, with its whole conversation or after the response."""
    look: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    with served(tmp_path) as server, server.client() as client:
        before = len(shop.ran)
        tools = [tool(shop, "always"), look]
        asked = client.responses.create(model="m", input="look around, buy tea", tools=tools)
        assert kinds(asked) == ["mcp_list_tools", "function_call", "mcp_approval_request"]
        _, called, question = asked.output
        news: Any = [
            {"type": "function_call_output", "call_id": called.call_id, "output": "seen"},
            {"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True},
        ]
        past = [{"role": "user", "content": "look around, buy tea"}, *(i.model_dump() for i in asked.output)]
        told = client.responses.create(
            model="m", tools=tools, **({"input": [*past, *news]} if whole else {"input": news}),
            previous_response_id=None if whole else asked.id,
        )  # fmt: skip
        assert kinds(told) == ["mcp_call", "message"]
        assert sorted(told.output_text.split("; ")) == ["bought tea", "seen"]
        assert len(shop.ran) == before + 1
        past += [*news, *(item.model_dump() for item in told.output), {"role": "user", "content": "price ink"}]
        after = client.responses.create(model="m", tools=tools, input=past)
        assert kinds(after) == ["mcp_approval_request"], "the offer is in the conversation"
        assert len(shop.ran) == before + 1


@pytest.mark.parametrize("way", ["whole", "stream", "background", "conversation"])
def test_what_functions_came_to_before_anybody_says_who_may_run(tmp_path: Path, shop: Shop, way: str) -> None:
    """The response ends where the yes is still needed, and the answer is the next one. It was waited for in vain."""
    functions: Any = [
        {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
        for name in ("look", "smell")
    ]
    with served(tmp_path) as server, server.client(timeout=20.0) as client:
        before, tools = len(shop.ran), [tool(shop, "always"), *functions]
        talk = client.conversations.create().id if way == "conversation" else None
        asked = client.responses.create(
            model="m", input="look around, buy tea, smell it", tools=tools, conversation=talk
        )
        question = next(item for item in asked.output if item.type == "mcp_approval_request")
        calls = [item for item in asked.output if item.type == "function_call"]
        fine = "f" * 4_000
        seen: Any = [{"type": "function_call_output", "call_id": one.call_id, "output": fine} for one in calls]
        after: Any = {"conversation": talk} if talk else {"previous_response_id": asked.id}
        given: Any = {"model": "m", "tools": tools, "input": seen, **after}
        if way == "stream":
            with client.responses.create(**given, stream=True) as events:
                half = [*events][-1].response
        else:
            half = client.responses.create(**given, background=way == "background")
        for _ in range(2_000):
            if half.status == "completed":
                break
            half = client.responses.retrieve(half.id)
        assert (half.status, half.output) == ("completed", [])
        assert client.responses.retrieve(half.id).status == "completed"
        # It ends after all of its input, not where the first output had come.
        counted = client.responses.input_tokens.count(model="m", input="and?", previous_response_id=half.id)
        assert counted.input_tokens > 2 * len(fine) / 4
        if way == "whole":
            with pytest.raises(openai.BadRequestError, match="No tool output found"):  # nor is it passed over there
                client.responses.create(model="m", input="and?", previous_response_id=half.id, store=False)
        yes: Any = [{"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True}]
        told = client.responses.create(
            model="m", tools=tools, input=yes, **({"conversation": talk} if talk else {"previous_response_id": half.id})
        )
        assert kinds(told) == ["mcp_call", "message"]
        assert sorted(told.output_text.split("; ")) == ["bought tea", fine, fine]
        assert len(shop.ran) == before + 1


@pytest.mark.parametrize("asks", [False, True])
def test_other_outputs_for_a_reply_that_also_called_a_server(tmp_path: Path, shop: Shop, asks: bool) -> None:
    """They go on from that reply once more, beside what the server's call came to: it is not run again. One that still
    needed a yes was not run as far as this branch goes."""
    look: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
    with served(tmp_path) as server, server.client() as client:
        tools, before = [tool(shop, "always" if asks else "never"), look], len(shop.ran)
        asked = client.responses.create(model="m", input="look around, price tea", tools=tools)
        call = next(item for item in asked.output if item.type == "function_call")

        def output(words: str, **more: Any) -> Any:
            one = {"type": "function_call_output", "call_id": call.call_id, "output": words}
            return client.responses.create(model="m", input=[one], previous_response_id=asked.id, **more)

        first = output("seen", tools=tools)
        assert kinds(first) == ([] if asks else ["message"])
        ran = len(shop.ran)
        assert ran == before + (not asks)
        price = "This call was not run in this branch" if asks else "tea costs 3 euros"
        for words, more in (("other", {"tools": tools}), ("third", {}), ("fourth", {"store": False})):
            again = output(words, **more)
            assert (kinds(again), words in again.output_text, price in again.output_text) == (["message"], True, True)
        assert len(shop.ran) == ran
        if not asks:
            return
        question = asked.output[-1]
        yes: Any = [{"type": "mcp_approval_response", "approval_request_id": question.id, "approve": True}]
        told = client.responses.create(model="m", tools=tools, input=yes, previous_response_id=first.id)
        assert sorted(told.output_text.split("; ")) == ["seen", "tea costs 3 euros"]


def test_two_calls_ask_and_are_answered_one_by_one(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        only_reading = tool(shop, {"never": {"read_only": True}})
        asked = client.responses.create(model="m", input="price a, buy b, buy c", tools=[only_reading])
        assert kinds(asked) == ["mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_request"]
        previous, names = asked.id, [item.id for item in asked.output if item.type == "mcp_approval_request"]
        for name, expected in zip(names, (["mcp_call"], ["mcp_call", "message"]), strict=True):
            answer: Any = {"type": "mcp_approval_response", "approval_request_id": name, "approve": True}
            made = client.responses.create(
                model="m", input=[answer], tools=[only_reading], previous_response_id=previous
            )
            assert (made.status, kinds(made)) == ("completed", expected)
            previous = made.id
        assert made.output_text == "a costs 1 euros; bought b; bought c"


def test_how_many_calls_are_run(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        before = len(shop.ran)
        made = client.responses.create(
            model="m", input="price a, price b, price c", tools=[tool(shop)], max_tool_calls=2
        )
        assert made.max_tool_calls == 2
        calls = [item for item in made.output if item.type == "mcp_call"]
        assert [call.status for call in calls] == ["completed", "completed", "failed"]
        assert len(shop.ran) == before + 2


def test_what_cannot_be_honoured_is_refused(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        for wrong, param in (
            (tool(shop, headers={"authorization": "hush"}), "tools[0].headers"),
            (tool(shop, authorization="hush"), "tools[0].authorization"),
            (tool(shop, server_url=shop.url.replace("//", "//me:hush@")), "tools[0].server_url"),
            (tool(shop, server_url=f"{shop.url}?x=1&api_key=hush"), "tools[0].server_url"),
            (tool(shop, server_url=f"{shop.url}?Access-Token=hush"), "tools[0].server_url"),
            (tool(shop, server_url=f"{shop.url}?key=hush"), "tools[0].server_url"),
            (tool(shop, server_url="http://elsewhere.example/mcp"), "tools[0].server_url"),
            (tool(shop, server_url="file:///x"), "tools[0].server_url"),
            (tool(shop, allowed_tools=["steal"]), "tools[0].allowed_tools"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                client.responses.create(model="m", input="x", tools=[wrong])
            assert refused.value.param == param
            assert "hush" not in refused.value.message
            assert ("must hold no secret" in refused.value.message) == ("hush" in str(wrong))
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="m", input="x", tools=[tool(shop)], store=False)
        with pytest.raises(openai.APIStatusError) as away:
            client.responses.create(model="m", input="x", tools=[tool(shop, server_url="http://127.0.0.1:9/")])
        assert (away.value.status_code, away.value.code) == (424, "mcp_unreachable")
        some = client.responses.create(model="m", input="x", tools=[tool(shop, allowed_tools={"read_only": True})])
        assert some.output_text == "I have price"


def test_an_address_with_a_secret_stays_with_the_agent_that_was_declared_in_code(tmp_path: Path, shop: Shop) -> None:
    """The way out that a refusal names is one: no byte of it is in the database."""
    near = Ours("near", model="m", mcp=[McpServer("shop", url=f"{shop.url}?token=hush-hush&keyword=tea&page=2")])
    server = WireServer(f"{tmp_path}/a.db", {"m": Scripted(script)}, [near])
    try:
        with server.client() as client:
            made = client.responses.create(model="near", input="price tea")
            assert made.output_text == "tea costs 3 euros"
    finally:
        server.stop()
    assert not [one for one in tmp_path.iterdir() if b"hush-hush" in one.read_bytes()]


@pytest.mark.parametrize("name", ["keyword", "page", "tokens_max", "monkey", "x", "author", "design", "passage"])
def test_other_parameters_of_an_address_are_none_of_our_business(name: str) -> None:
    assert not secret_in(f"http://127.0.0.1/mcp?{name}=1")


@pytest.mark.parametrize("name", ["api_key", "apikey", "X-Api-Key", "token", "access_token", "client_secret", "sig"])
def test_secrets_are_known_by_their_usual_names(name: str) -> None:
    assert secret_in(f"http://127.0.0.1/mcp?a=b&{name}=1") == f"`{name}`"
    assert not secret_in(f"http://127.0.0.1/mcp?{name}=")


def test_a_client_does_not_choose_what_the_server_connects_to(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path, "elsewhere.example") as server, pytest.raises(openai.BadRequestError, match="mcp_hosts"):
        server.client().responses.create(model="m", input="x", tools=[tool(shop)])


def test_a_call_is_journaled_before_it_leaves(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        made = client.responses.create(model="m", input="buy soap", tools=[tool(shop)])
        session = made.id.removeprefix("resp_").rpartition("_")[0]
        records = server.do(lambda rt: rt.database.store.read(session))
        started = [record.event for record in records if isinstance(record.event, ToolStarted)]
        assert [(one.tool, one.replay) for one in started] == [("buy", "never")]
        assert shop.ran[-1] == f"buy soap {started[0].effect_key}"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_agents_sdk_and_its_hosted_tools(tmp_path: Path, shop: Shop, stream: bool) -> None:
    asked: list[str] = []

    def yes(request: Any) -> Any:
        asked.append(request.data.name)
        return {"approve": True}

    with served(tmp_path) as server:
        options: Any = {"max_retries": 0, "_strict_response_validation": True}
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, **options) as client:
            hosted = HostedMCPTool(tool_config=tool(shop, "always"), on_approval_request=yes)
            desk = Agent[None](name="desk", model=OpenAIResponsesModel("m", client), tools=[hosted])
            said: Any = {"run_config": RunConfig(tracing_disabled=True), "auto_previous_response_id": True}
            if stream:
                ran: Any = Runner.run_streamed(desk, "buy tea", **said)
                async for _ in ran.stream_events():
                    pass
            else:
                ran = await Runner.run(desk, "buy tea", **said)
            assert ran.final_output == "bought tea"
            assert asked == ["buy"]


def test_a_call_stays_what_it_was_when_a_later_request_names_no_server(tmp_path: Path, shop: Shop) -> None:
    with served(tmp_path) as server, server.client() as client:
        talk = client.conversations.create().id
        client.responses.create(model="m", input="price tea", tools=[tool(shop)], conversation=talk)
        before = client.conversations.items.list(talk, order="asc").data
        assert [item.type for item in before] == ["message", "mcp_call", "message"]
        client.responses.create(model="m", input="what else", conversation=talk)
        after = client.conversations.items.list(talk, order="asc").data
        assert after[: len(before)] == before
