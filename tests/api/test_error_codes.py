"""Codes of errors as the vendor's client reads them: what it may branch on is what the vendor says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from wire_server import WireServer

from remanence.models.scripted import Scripted
from remanence.testing.scripted import says

USER: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = WireServer(f"{tmp_path_factory.mktemp('codes')}/a.db", {"m": Scripted([says("hello")] * 9)})
    with server.client() as made:
        yield made
    server.stop()


def extra(**fields: Any) -> Any:
    return {"extra_body": fields}


def talk(client: Any) -> str:
    return client.conversations.create().id


CASES: dict[str, tuple[Callable[[Any], Any], tuple[int, str, str]]] = {
    "a model of a response": (
        lambda c: c.responses.create(model="nobody", input="hi"), (400, "model_not_found", "model")),
    "a model of a summary": (
        lambda c: c.responses.compact(model="nobody", input="hi"), (400, "model_not_found", "model")),
    "a model of a count": (
        lambda c: c.responses.input_tokens.count(model="nobody", input="hi"), (400, "model_not_found", "model")),
    "a model of a chat": (
        lambda c: c.chat.completions.create(model="nobody", messages=USER), (404, "model_not_found", "model")),
    "a model by its name": (lambda c: c.models.retrieve("nobody"), (404, "model_not_found", "model")),
    "no input": (lambda c: c.responses.create(model="m"), (400, "missing_required_parameter", "input")),
    "no model": (lambda c: c.responses.create(input="hi"), (400, "missing_required_parameter", "model")),
    "no messages": (lambda c: c.post("/chat/completions", cast_to=object, body={"model": "m"}),
                    (400, "missing_required_parameter", "messages")),
    "an unknown field of a response": (
        lambda c: c.responses.create(model="m", input="hi", **extra(colour="red")),
        (400, "unknown_parameter", "colour")),
    "an unknown field of a chat": (
        lambda c: c.chat.completions.create(model="m", messages=USER, **extra(colour="red")),
        (400, "unknown_parameter", "colour")),
    "an unknown field of a conversation": (
        lambda c: c.conversations.create(**extra(colour="red")), (400, "unknown_parameter", "colour")),
    "an unknown parameter of a list": (
        lambda c: c.models.list(extra_query={"colour": "red"}), (400, "unknown_parameter", "colour")),
    "a text for a number": (
        lambda c: c.responses.create(model="m", input="hi", temperature="warm"), (400, "invalid_type", "temperature")),
    "a number out of bounds": (
        lambda c: c.responses.create(model="m", input="hi", temperature=9), (400, "invalid_value", "temperature")),
    "another word": (
        lambda c: c.responses.create(model="m", input="hi", service_tier="gold"),
        (400, "invalid_value", "service_tier")),
    "an unknown response before": (
        lambda c: c.responses.create(model="m", input="hi", previous_response_id="resp_1"),
        (400, "previous_response_not_found", "previous_response_id")),
    "an output of no call": (
        lambda c: c.conversations.items.create(
            talk(c), items=[{"type": "function_call_output", "call_id": "c1", "output": "x"}]),
        (400, "invalid_input", "items")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_refusal_has_the_code_that_clients_know(client: Any, name: str) -> None:
    ask, expected = CASES[name]
    with pytest.raises(openai.APIStatusError) as refused:
        ask(client)
    error = refused.value
    assert (error.status_code, error.code, error.param) == expected
    assert error.type == "invalid_request_error"


def test_the_words_begin_as_the_vendors_do(client: Any) -> None:
    for ask, words in (
        (CASES["a model of a response"][0], "The requested model 'nobody' does not exist"),
        (CASES["a model of a chat"][0], "The model `nobody` does not exist or you do not have access to it"),
        (CASES["an output of no call"][0], "No tool call found for function call output with call_id c1."),
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            ask(client)
        said: Any = refused.value.body
        assert said["message"].startswith(words)


def test_over_a_web_socket(client: Any) -> None:
    with client.responses.connect() as socket:
        for body, code in (
            ({"model": "nobody", "input": "hi"}, "model_not_found"),
            ({"model": "m", "input": "hi", "colour": "red"}, "unknown_parameter"),
        ):
            socket.send({"type": "response.create", **body})
            event: Any = socket.recv()
            assert (event.type, event.error.code) == ("error", code)
