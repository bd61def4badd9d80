"""What is remembered of the parameters of requests changes nothing of what they come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.api.named import Named
from remanence.api.responses.input import Spoken
from remanence.api.responses.meaning import meaning_of
from remanence.api.responses.request import ResponseBody, echo_of
from remanence.api.responses.spec import spec_for
from remanence.errors import InvalidInput

SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"enum": [1, 2.5, None]}}, "required": ["b"]}
CLOSED = {**SCHEMA, "required": ["a", "b"], "additionalProperties": False}
PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just("m"),
    "input": st.sampled_from(["one", "two", [{"role": "user", "content": "three"}]]),
    "instructions": st.sampled_from([None, "", "Answer.", "Réponds."]),
    "tools": st.lists(
        st.builds(
            lambda name, strict: {"type": "function", "name": name, "parameters": CLOSED, "strict": strict},
            st.sampled_from(["look", "find"]),
            st.sampled_from([None, True, False]),
        ),
        unique_by=lambda tool: tool["name"],
    ),
    "tool_choice": st.sampled_from([None, "auto", "none"]),
    "text": st.sampled_from(
        [
            None,
            {"verbosity": "low"},
            {"format": {"type": "json_object"}},
            {"format": {"type": "json_schema", "name": "n", "schema": CLOSED, "strict": True}},
        ]
    ),
    "reasoning": st.sampled_from([None, {"effort": "low"}, {"summary": "auto"}]),
    "temperature": st.sampled_from([None, 0, 0.25, 2]),
    "top_logprobs": st.sampled_from([None, 0, 3]),
    "truncation": st.sampled_from([None, "auto", "disabled"]),
    "service_tier": st.sampled_from([None, "flex"]),
    "max_output_tokens": st.sampled_from([None, 1, 100]),
    "metadata": st.sampled_from([None, {}, {"a": "b"}]),
    "user": st.sampled_from([None, "ada"]),
    "safety_identifier": st.sampled_from([None, "s"]),
    "include": st.sampled_from([None, ["reasoning.encrypted_content"]]),
    "stream": st.booleans(),
}
BODIES = st.fixed_dictionaries({}, optional=PARAMETERS).map(ResponseBody.model_validate)
SPOKEN = st.lists(st.sampled_from([Spoken("system", "Be brief."), Spoken("developer", "x" * 20_000)]), max_size=2)


@given(BODIES, SPOKEN.map(tuple), st.sampled_from([None, 1_000, 200_000]))
def test_the_same_as_without_it(body: ResponseBody, spoken: tuple[Spoken, ...], window: int | None) -> None:
    for _ in range(2):
        spec, echo = meaning_of(body, "alias", "m", spoken, context_window=window)
        assert spec == spec_for(body, Named("m"), spoken, context_window=window)
        assert echo == echo_of(body, "alias")


def test_what_is_refused_is_refused_each_time() -> None:
    tool = {"type": "function", "name": "look", "parameters": {"type": "string"}}
    body = ResponseBody.model_validate({"model": "m", "input": "one", "tools": [tool]})
    for _ in range(2):
        with pytest.raises(InvalidInput, match="type") as refused:
            meaning_of(body, "m", "m", ())
        assert refused.value.param == "tools[0].parameters"
