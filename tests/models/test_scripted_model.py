"""The scripted model: a pure function of the request, with everything a model may do to a runtime."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asking import Ask

from remanence.content import Message, Text, Thinking, ToolCall, ToolResult, Usage
from remanence.errors import InvalidConfig, ModelError
from remanence.models.prices import Prices
from remanence.ports import ModelReply, ModelRequest, Signal
from remanence.testing.scripted import (
    Call,
    Script,
    Scripted,
    call,
    calls,
    dialogue,
    fails,
    load_script,
    says,
    stalls,
)


class HandClock:
    """Time that passes only when somebody sleeps; `slept` tells how long each time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> int:
        return int(sum(self.slept) * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    async def wait(self, signal: Signal, timeout_s: float | None) -> bool:
        await self.sleep(timeout_s or 0.0)
        return signal.is_set()


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def answered(*named: str) -> tuple[Message, Message]:
    """A reply with these calls, and their results."""
    made = [ToolCall(f"call_{i}", name, "{}") for i, name in enumerate(named)]
    results = [ToolResult(one.call, one.name, (Text(f"{one.name} says 7"),)) for one in made]
    return Message("assistant", tuple(made)), Message("tool", tuple(results))


# --- steps and dialogues ----------------------------------------------------------------------------------------------

SUPPORT = Script(
    dialogues=(
        dialogue(
            r"refund (?P<order>\w+)",
            calls(call("find_order", order="$order"), Call("find_mail", '{"who": "$order"}')),
            says("Found: $result"),
        ),
    ),
    steps=(says("You said $user for $$5."),),
)


async def test_the_dialogue_is_chosen_by_what_the_user_said_and_the_step_by_the_replies(ask: Ask) -> None:
    model = Scripted(SUPPORT)
    first = await model.reply(ask(user("Please refund A42 now")), None)
    assert [type(part) for part in first.parts] == [ToolCall, ToolCall]
    assert [part.arguments for part in first.parts if isinstance(part, ToolCall)] == [
        '{"order":"A42"}',
        '{"who": "A42"}',
    ]
    assert first.stop == "tool_calls"
    second = await model.reply(ask(user("Please refund A42 now"), *answered("find_order")), None)
    assert second.parts == (Text("Found: find_order says 7"),)
    assert second.stop == "stop"
    other = await model.reply(ask(user("refund A1"), *answered("find_order"), user("Hello")), None)
    assert other.parts == (Text("You said Hello for $5."),)


async def test_the_same_request_has_the_same_reply_in_another_process(tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "script.json"
    path.write_bytes(msgspec.json.encode(SUPPORT))
    request = ask(user("refund A42"))
    here = await Scripted(load_script(path)).reply(request, None)
    code = """
import asyncio, msgspec, pathlib, sys
from remanence.models.scripted import Scripted, load_script
from remanence.ports import ModelRequest
request = msgspec.json.decode(sys.stdin.buffer.read(), type=ModelRequest)
made = asyncio.run(Scripted(load_script(pathlib.Path(sys.argv[1]))).reply(request, None))
sys.stdout.buffer.write(msgspec.json.encode(made))
"""
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    there, _ = await asyncio.wait_for(other.communicate(msgspec.json.encode(request)), 30)
    assert msgspec.json.decode(there, type=ModelReply) == here


async def test_a_script_that_has_nothing_to_say_says_which_step_is_missing(ask: Ask) -> None:
    model = Scripted([says("one")])
    with pytest.raises(ModelError, match="has 1 steps") as caught:
        await model.reply(ask(user("hi"), *answered("find_order")), None)
    assert caught.value.kind == "invalid_request"
    with pytest.raises(ModelError, match="no dialogue"):
        await Scripted(Script((dialogue("^never$", says("x")),))).reply(ask(), None)


async def test_a_function_as_a_script(ask: Ask) -> None:
    def echo(request: ModelRequest) -> ModelReply | ModelError:
        if request.instructions == "fail":
            return ModelError("as asked", kind="overloaded", retry_after_s=3)
        if request.instructions == "break":
            raise ValueError("oh")
        return ModelReply((Text(request.instructions),), Usage(7, 8))

    model = Scripted(echo, prices=Prices(1_000_000, 1_000_000))
    made = await model.reply(ask(), None)
    assert (made.parts, made.usage) == ((Text("Be brief."),), Usage(7, 8))
    assert model.price("m", made.usage) == 15
    with pytest.raises(ModelError) as caught:
        await model.reply(ask(instructions="fail"), None)
    assert (caught.value.kind, caught.value.retry_after_s) == ("overloaded", 3)
    with pytest.raises(ModelError, match="ValueError: oh") as broken:
        await model.reply(ask(instructions="break"), None)
    assert broken.value.kind == "invalid_request"
    assert len(model.requests) == 3


# --- streaming, usage -------------------------------------------------------------------------------------------------


async def test_deltas_add_up_to_the_parts(ask: Ask) -> None:
    seen: list[tuple[int, str, str]] = []
    step = says(" It is  on\nits way. ", call("find_order", order="42"), thinking="Let me see.")
    made = await Scripted([step]).reply(ask(), lambda index, kind, text: seen.append((index, kind, text)))
    assert [type(part) for part in made.parts] == [Thinking, Text, ToolCall]
    joined = [
        "".join(text for index, kind, text in seen if (index, kind) == at) for at in ((0, "thinking"), (1, "text"))
    ]
    assert joined == ["Let me see.", " It is  on\nits way. "]
    assert len([1 for index, _, _ in seen if index == 1]) > 3
    assert seen[-2:] == [(2, "tool_name", "find_order"), (2, "tool_arguments", '{"order":"42"}')]


async def test_usage_follows_the_lengths_unless_it_is_given(ask: Ask) -> None:
    short = (await Scripted([says("a")]).reply(ask(), None)).usage
    long = (await Scripted([says("a" * 4_000)]).reply(ask(user("b" * 4_000)), None)).usage
    assert long.output_tokens - short.output_tokens == pytest.approx(1_000, abs=2)
    assert long.input_tokens - short.input_tokens == pytest.approx(1_000, abs=10)
    given = Usage(1, 2, cached_tokens=1)
    assert (await Scripted([says("a", usage=given)]).reply(ask(), None)).usage == given
    assert Scripted().price("m", given) == 0


async def test_a_growing_window_is_counted_as_a_fresh_one_would_be(ask: Ask) -> None:
    model, window = Scripted([says("a")]), [user("hello")]
    for turn in range(30):
        if turn == 20:
            window = window[15:]  # the window begins elsewhere
        window += [Message("assistant", (Text("a" * turn),)), user(f"turn {turn}")]
        grown = (await model.reply(ask(*window), None)).usage
        assert grown == (await Scripted([says("a")]).reply(ask(*window), None)).usage
    other = [user("another beginning" * 9), *window[1:]]
    grown = (await model.reply(ask(*other), None)).usage
    assert grown == (await Scripted([says("a")]).reply(ask(*other), None)).usage


async def test_pauses_are_measured_by_the_clock(ask: Ask) -> None:
    clock = HandClock()
    step = says("one two three", delay_s=5.0, piece_s=0.5, pieces=("one ", "two three"))
    await Scripted([step], clock=clock).reply(ask(), lambda *_: None)
    assert clock.slept == [5.0, 0.5, 0.5]


# --- failing ----------------------------------------------------------------------------------------------------------


async def test_a_step_fails_as_often_as_it_says_whatever_the_attempt_is_called(ask: Ask) -> None:
    model = Scripted([fails(says("at last"), "rate_limited", times=2, retry_after_s=1.5)])
    for attempt in (1, 2):
        with pytest.raises(ModelError) as caught:
            await model.reply(ask(effect_key=f"s:1:call_1_1_{attempt}"), None)
        assert (caught.value.kind, caught.value.retry_after_s) == ("rate_limited", 1.5)
    assert (await model.reply(ask(effect_key="s:1:call_1_1_3"), None)).parts == (Text("at last"),)
    with pytest.raises(ModelError):
        await model.reply(ask(effect_key="s:2:call_2_1_1"), None)


async def test_a_step_can_fail_for_ever(ask: Ask) -> None:
    model = Scripted([fails(says("never"), times=0)])
    for _ in range(5):
        with pytest.raises(ModelError):
            await model.reply(ask(), None)


async def test_a_stalling_step_ends_by_its_time_out_or_by_cancel(ask: Ask) -> None:
    clock = HandClock()
    with pytest.raises(ModelError, match="within 20 s") as caught:
        await Scripted([stalls()], clock=clock).reply(ask(), None)
    assert (caught.value.kind, clock.slept) == ("timeout", [20.0])
    with pytest.raises(ModelError, match="did not answer"):
        await Scripted([says("late", delay_s=60.0)], clock=clock).reply(ask(), None)
    stalled = asyncio.create_task(Scripted([stalls()]).reply(ask(), None))
    await asyncio.sleep(0)
    stalled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stalled


async def test_only_the_last_requests_are_kept(ask: Ask) -> None:
    model = Scripted([says("hi")])
    for number in range(260):
        await model.reply(ask(effect_key=str(number)), None)
    assert (len(model.requests), model.requests[0].effect_key) == (256, "4")


# --- no script --------------------------------------------------------------------------------------------------------


async def test_without_a_script_the_truth_is_told(ask: Ask) -> None:
    made = await Scripted().reply(ask(user("Do my taxes")), None)
    (said,) = made.parts
    assert isinstance(said, Text)
    for words in ("No language model is configured", "Do my taxes", "find_order, find_mail", "remanence models detect"):
        assert words in said.text


async def test_a_tool_called_by_name_is_called_and_its_result_reported(ask: Ask) -> None:
    asked = user('/tool find_order {"order": "42"}\n/tool find_mail')
    made = await Scripted().reply(ask(asked), None)
    assert made.parts == (
        ToolCall("scripted_0_0", "find_order", '{"order": "42"}'),
        ToolCall("scripted_0_1", "find_mail", "{}"),
    )
    failed = Message("tool", (ToolResult("a", "find_mail", (Text("no such box"),), error=True),))
    reported = await Scripted().reply(ask(asked, *answered("find_order"), failed), None)
    assert reported.parts == (Text("find_order returned: find_order says 7\nfind_mail failed: no such box"),)
    unknown = await Scripted().reply(ask(user("/tool fly {}")), None)
    assert "no tool called fly" in str(unknown.parts)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_script_in_toml(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text('[[steps]]\ntext = "Hello"\n[[steps.calls]]\ntool = "find_order"\narguments = { order = "42" }\n')
    assert load_script(path).steps[0].calls[0].arguments == {"order": "42"}


BAD: list[tuple[Any, str]] = [
    ("not json", "Expecting value"),
    ({"steps": [{"txt": "Hello"}]}, "txt"),
    ({"dialogues": [{"when": "(", "steps": []}]}, "unterminated"),
    ({"steps": [{"fail": {"kind": "tired"}}]}, "tired"),
]


@pytest.mark.parametrize(("content", "names"), BAD)
def test_a_script_that_cannot_be_followed_is_named(tmp_path: Path, content: Any, names: str) -> None:
    path = tmp_path / "script.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InvalidConfig, match=names) as caught:
        load_script(path)
    assert "script.json" in caught.value.message
