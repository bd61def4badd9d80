"""Our messages to the provider library's and back: nothing unpaired, ids stable, what a provider wants back is kept."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from asking import TOOLS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai import messages as lib
from test_bridge_wire import calls_and_results

from remanence.content import Image, Message, Opaque, Part, Text, Thinking, ToolCall, ToolResult
from remanence.errors import ModelError
from remanence.models.configuration import ModelConfig
from remanence.models.dialogue import Receiver, from_response, to_messages
from remanence.models.gateway import Gateway
from remanence.ports import ModelRequest
from remanence.spec import ModelSettings
from remanence.testing.wire import Answer, WireServer

ANYBODY = Receiver("acme", lambda thought: True)

words = st.text(max_size=12)
arguments = st.one_of(st.just('{"order":"42"}'), st.just(""), words)
asides = st.one_of(
    st.builds(Text, words),
    st.builds(Thinking, words, st.none() | words, st.sampled_from(["acme", "other"]), st.none() | words),
    st.builds(Opaque, st.sampled_from(["acme", "other"]), words),
)


def sent(messages: list[Message], receiver: Receiver = ANYBODY) -> list[lib.ModelMessage]:
    return to_messages(messages, instructions="Be brief.", receiver=receiver, blobs={})


def pairs(made: list[lib.ModelMessage]) -> tuple[list[str], list[str]]:
    calls = [part.tool_call_id for message in made for part in message.parts if isinstance(part, lib.ToolCallPart)]
    results = [part.tool_call_id for message in made for part in message.parts if isinstance(part, lib.ToolReturnPart)]
    return calls, results


# --- laws -------------------------------------------------------------------------------------------------------------


@st.composite
def conversations(draw: Any) -> list[Message]:
    """A window as the context builder makes one: every call answered, in any order, with steering in between."""
    window = [Message("user", (Text(draw(words) or "hi"),))]
    for step in range(draw(st.integers(0, 4))):
        names = draw(st.lists(st.sampled_from(["find_order", "find_mail"]), max_size=3))
        calls = [ToolCall(f"call_1_{step}_{i}", name, draw(arguments)) for i, name in enumerate(names)]
        parts: list[Part] = [*draw(st.lists(asides, max_size=3)), *calls]
        window.append(Message("assistant", tuple(draw(st.permutations(parts)))))
        answers = [Message("tool", (ToolResult(call.call, call.name, (Text("ok"),)),)) for call in calls]
        steering = [Message("user", (Text(draw(words)),)) for _ in range(draw(st.integers(0, 1)))]
        window += draw(st.permutations([*answers, *steering]))
    return [*window, Message("user", (Text("go on"),))]


@given(conversations())
def test_a_good_window_goes_out_paired_with_its_own_ids(window: list[Message]) -> None:
    made = sent(window)
    calls, results = pairs(made)
    assert calls == [part.call for message in window for part in message.parts if isinstance(part, ToolCall)]
    assert sorted(results) == sorted(calls)
    for before, after in itertools.pairwise(made):
        opened = [part.tool_call_id for part in before.parts if isinstance(part, lib.ToolCallPart)]
        if opened:
            first = after.parts[: len(opened)]
            answered = [part.tool_call_id for part in first if isinstance(part, lib.ToolReturnPart)]
            assert sorted(answered) == sorted(opened), "results come first, right after their reply"
    assert pairs(sent(window)) == (calls, results), "the same window is the same request"


@given(st.lists(st.sampled_from(["user", "call 1", "call 2", "result 1", "result 2", "text"]), max_size=8))
def test_any_window_goes_out_paired_or_not_at_all(script: list[str]) -> None:
    window: list[Message] = []
    for entry in script:
        kind, _, number = entry.partition(" ")
        match kind:
            case "user":
                window.append(Message("user", (Text("hello"),)))
            case "call":
                window.append(Message("assistant", (ToolCall(f"call_{number}", "find_order", "{}"),)))
            case "result":
                window.append(Message("tool", (ToolResult(f"call_{number}", "find_order", (Text("ok"),)),)))
            case _:
                window.append(Message("assistant", (Text("well"),)))
    made, kind = attempt(window)
    assert kind in ("", "invalid_request")
    calls, results = pairs(made)
    assert calls == results


def attempt(window: list[Message]) -> tuple[list[lib.ModelMessage], str]:
    try:
        return sent(window), ""
    except ModelError as error:
        return [], error.kind


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(conversations(), st.sampled_from(["chat", "responses", "anthropic"]))
def test_a_good_window_is_paired_on_the_wire(window: list[Message], api: Any) -> None:
    async def run() -> list[tuple[str, str]]:
        async with WireServer([Answer(text="Yes.")]) as server:
            gateway = Gateway({"m": ModelConfig("m", base_url=f"{server.url}/v1", api=api)}, env={})
            request = ModelRequest("m", "", tuple(window), TOOLS, ModelSettings(), 100, 20.0, "s:1:c")
            await gateway.reply(request, None)
            await gateway.aclose()
            return calls_and_results(server.requests[0])

    seen = asyncio.run(run())
    assert sorted(name for kind, name in seen if kind == "call") == sorted(
        part.call for message in window for part in message.parts if isinstance(part, ToolCall)
    )
    open_calls: list[str] = []
    for kind, name in seen:
        if kind == "call":
            open_calls.append(name)
        else:
            open_calls.remove(name)
    assert open_calls == []


# --- what is refused --------------------------------------------------------------------------------------------------

HELLO = Message("user", (Text("Hello"),))
CALL = Message("assistant", (ToolCall("call_1", "find_order", "{}"),))
RESULT = Message("tool", (ToolResult("call_1", "find_order", (Text("ok"),)),))


@pytest.mark.parametrize(
    ("window", "names"),
    [
        ([HELLO, CALL], "call_1"),
        ([HELLO, CALL, HELLO], "call_1"),
        ([HELLO, RESULT], "answers no call"),
        ([HELLO, CALL, RESULT, RESULT], "answers no call"),
        ([HELLO, Message("assistant", CALL.parts * 2), RESULT], "same id"),
        ([], "nothing was said"),
        ([Message("user", (ToolCall("c", "t", "{}"),))], "ToolCall"),
        ([Message("user", (Image("image/png", data="*not base64*"),))], "base64"),
        ([HELLO, Message("tool", (Text("ok"),))], "not a result"),
    ],
)
def test_a_window_no_provider_would_take_is_refused(window: list[Message], names: str) -> None:
    with pytest.raises(ModelError, match=names) as caught:
        sent(window)
    assert caught.value.kind == "invalid_request"
    assert "session is kept" in caught.value.message


# --- what a provider wants back ---------------------------------------------------------------------------------------


def reply_of(*parts: lib.ModelResponsePart) -> tuple[Part, ...]:
    return from_response(lib.ModelResponse(parts=list(parts), provider_name="acme"))


def test_what_is_attached_to_a_call_survives_a_new_call_id() -> None:
    signed = lib.ToolCallPart(
        "find_order",
        {"order": "42"},
        tool_call_id="theirs",
        provider_name="acme",
        provider_details={"thought_signature": "c2ln", "logprobs": [1]},
    )
    text, call, attached = reply_of(lib.TextPart("Let me look."), signed)
    assert (text, call) == (Text("Let me look."), ToolCall("theirs", "find_order", '{"order":"42"}'))
    assert isinstance(attached, Opaque)
    ours = ToolCall("call_1_1_0", "find_order", '{"order":"42"}')
    result = Message("tool", (ToolResult("call_1_1_0", "find_order", (Text("ok"),)),))
    back = sent([HELLO, Message("assistant", (text, ours, attached)), result])[1].parts[1]
    assert isinstance(back, lib.ToolCallPart)
    assert (back.tool_call_id, back.provider_details) == ("call_1_1_0", {"thought_signature": "c2ln"})
    foreign: Any = sent(
        [HELLO, Message("assistant", (text, ours, attached)), result], Receiver("other", lambda _: True)
    )
    assert foreign[1].parts[1].provider_details is None


def test_an_item_we_have_no_part_for_goes_back_as_it_came() -> None:
    searched = lib.NativeToolCallPart("web_search", {"query": "x"}, tool_call_id="ws_1", provider_name="acme")
    found = lib.NativeToolReturnPart("web_search", {"hits": [1, 2]}, tool_call_id="ws_1", provider_name="acme")
    parts = reply_of(searched, found, lib.TextPart("Found it."))
    assert [type(part) for part in parts] == [Opaque, Opaque, Text]
    back: Any = sent([HELLO, Message("assistant", parts), HELLO])[1].parts
    assert [part.part_kind for part in back] == ["builtin-tool-call", "builtin-tool-return", "text"]
    assert back[0].args == {"query": "x"}
    assert back[1].content == {"hits": [1, 2]}
    others = sent([HELLO, Message("assistant", parts), HELLO], Receiver("other", lambda _: True))[1].parts
    assert [part.part_kind for part in others] == ["text"]


def test_a_picture_the_model_drew_is_a_picture() -> None:
    drawn = lib.FilePart(lib.BinaryContent(b"png", media_type="image/png"))
    assert reply_of(drawn) == (Image("image/png", data="cG5n"),)


def test_an_opaque_of_a_release_to_come_is_left_out() -> None:
    window = [HELLO, Message("assistant", (Opaque("acme", '{"type":"riddle"}'), Text("Hi"))), HELLO]
    assert [part.part_kind for part in sent(window)[1].parts] == ["text"]


def test_empty_texts_are_not_sent_and_do_not_trail() -> None:
    assert reply_of(lib.TextPart("Hi"), lib.TextPart("")) == (Text("Hi"),)
    made = sent([HELLO, Message("assistant", (Text(""),)), Message("user", (Text("Still there?"),))])
    assert [type(message) for message in made] == [lib.ModelRequest]
