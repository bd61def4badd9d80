"""What stands of a reply that calls more, or less, than it was told to, and what is shown of it while it comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.content import Part, Text, Thinking, ToolCall, text_of
from remanence.models.obedience import disobeyed, heard, held
from remanence.ports import DeltaKind, ModelReply
from remanence.spec import ModelSettings

ONE, TWO = ToolCall("a", "one", '{"x": 1}'), ToolCall("b", "two", "{}")
SAID = Text("Well.")
MANY = (SAID, ONE, TWO)

STANDS: list[tuple[dict[str, Any], tuple[Part, ...], tuple[Part, ...]]] = [
    ({}, MANY, MANY),
    ({"parallel_tool_calls": True}, MANY, MANY),
    ({"parallel_tool_calls": False}, MANY, (SAID, ONE)),
    ({"parallel_tool_calls": False}, (TWO, SAID), (TWO, SAID)),
    ({"tool_choice": "none"}, MANY, (SAID,)),
    ({"tool_choice": "auto", "parallel_tool_calls": False}, (ONE, ONE), (ONE,)),
    ({"tool_choice": "required"}, MANY, MANY),
    ({"tool_choice": "required", "tool_choice_among": ("two", "three")}, MANY, (SAID, TWO)),
    ({"tool_choice": "two"}, MANY, (SAID, TWO)),
    ({"tool_choice": "two", "parallel_tool_calls": False}, (ONE, TWO, TWO), (TWO,)),
]


@pytest.mark.parametrize(("asked", "said", "stands"), STANDS)
def test_what_stands_of_a_reply(asked: dict[str, Any], said: tuple[Part, ...], stands: tuple[Part, ...]) -> None:
    settings, reply = ModelSettings(**asked), ModelReply(said, stop="tool_calls")
    kept = held(settings, reply)
    assert kept.parts == stands
    assert kept.stop == ("tool_calls" if any(isinstance(part, ToolCall) for part in stands) else "stop")
    assert disobeyed(settings, reply, kept) == ""


FAILS: list[tuple[dict[str, Any], tuple[Part, ...], str]] = [
    ({"tool_choice": "none"}, (ONE,), "told to call none"),
    ({"tool_choice": "none"}, (Thinking("Hm."), Text(" "), ONE), "told to call none"),
    ({"tool_choice": "required"}, (SAID,), "told to call a tool"),
    ({"tool_choice": "two"}, (SAID, ONE), "told to call two"),
    ({"tool_choice": "required", "tool_choice_among": ("two", "three")}, (), "told to call three or two"),
]


@pytest.mark.parametrize(("asked", "said", "why"), FAILS)
def test_a_reply_of_which_nothing_is_left(asked: dict[str, Any], said: tuple[Part, ...], why: str) -> None:
    settings, reply = ModelSettings(**asked), ModelReply(said)
    assert why in disobeyed(settings, reply, held(settings, reply))


def test_what_was_cut_short_could_not_call() -> None:
    for stop in ("length", "content_filter"):
        reply = ModelReply((SAID,), stop=stop)
        assert disobeyed(ModelSettings(tool_choice="required"), reply, reply) == ""


def test_who_was_told_to_call_none_may_say_nothing() -> None:
    reply = ModelReply(())
    assert disobeyed(ModelSettings(tool_choice="none"), reply, reply) == ""


# --- while it comes ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["one", "two", "on", "onetwo"])
PARTS = st.one_of(
    st.builds(Text, st.sampled_from(["", "a", "b c"])),
    st.builds(Thinking, st.sampled_from(["", "hm"])),
    st.builds(ToolCall, st.just("x"), NAMES, st.sampled_from(["", "{}", '{"x": 1}'])),
)
SETTINGS = st.builds(
    ModelSettings,
    parallel_tool_calls=st.sampled_from([None, True, False]),
    tool_choice=st.sampled_from([None, "auto", "none", "required", "one", "two"]),
    tool_choice_among=st.sampled_from([(), ("one",), ("two", "onetwo")]),
)


@given(st.lists(PARTS, max_size=6), SETTINGS, st.integers(1, 3))
def test_what_is_shown_stands(parts: list[Part], settings: ModelSettings, size: int) -> None:
    """Whatever is shown of a call is one that stands, and in the order of the reply; a call with arguments is shown."""
    shown: dict[int, str] = {}

    def on_delta(index: int, kind: DeltaKind, text: str) -> None:
        shown[index] = shown.get(index, "") + text

    hear = heard(settings, on_delta)
    assert hear is not None
    for index, part in enumerate(parts):
        match part:
            case ToolCall(name=name, arguments=arguments):
                for at in range(0, len(name), size):
                    hear(index, "tool_name", name[at : at + size])
                for at in range(0, len(arguments), size):
                    hear(index, "tool_arguments", arguments[at : at + size])
            case Text(text=text):
                hear(index, "text", text)
            case Thinking(text=text):
                hear(index, "thinking", text)
            case _:
                raise AssertionError(part)
    standing = list(held(settings, ModelReply(tuple(parts))).parts)
    for index, part in enumerate(parts):
        stands = bool(standing) and standing[0] is part
        if stands:
            standing.pop(0)
        if isinstance(part, ToolCall):
            assert shown.get(index, "") in ("", part.name + part.arguments)
            assert bool(shown.get(index)) <= stands
            assert not (stands and part.arguments) or shown[index]
        else:
            assert stands
            assert shown.get(index, "") == text_of((part,)) or isinstance(part, Thinking)
    assert not standing
