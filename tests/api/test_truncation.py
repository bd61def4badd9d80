"""What is longer than the model reads: `truncation: auto` leaves whole items out, and what no window leaves out is
refused before anything is written or sent."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import openai
import pytest
from asked_world import World, world

from remanence.testing.wire import Answer, WireCall

LONG = "word " * 5_000
TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": None}


async def refused(it: World, **asked: Any) -> str:
    """The words it was refused in; nothing was sent to the model, and nothing was written."""
    sent, kept = len(it.provider.requests), await it.sessions()
    with pytest.raises(openai.BadRequestError) as error:
        await it.client.responses.create(model="chat", truncation="auto", **asked)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")
    assert (len(it.provider.requests), await it.sessions()) == (sent, kept)
    return str(error.value)


@pytest.mark.parametrize("store", [True, False])
async def test_a_single_input_that_cannot_fit(tmp_path: Path, store: bool) -> None:
    async with world(tmp_path, reads=4_000) as it:
        assert "shortens none" in await refused(it, input=LONG, store=store)
        await refused(it, input="hi", instructions=LONG, store=store)
        await refused(it, input="hi", tools=[{**TOOL, "description": LONG}], store=store)
        before: Any = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Yes."}]
        await refused(it, input=[*before, {"role": "user", "content": LONG}], store=store)
        # what comes before is left out, whole
        made = await it.client.responses.create(
            model="chat", input=[*before, {"role": "user", "content": "short"}], truncation="auto", store=store
        )
        assert made.status == "completed"
        assert it.asked["messages"][-1]["content"] == "short"
        assert LONG not in str(it.asked["messages"])


async def test_a_long_output_of_a_call(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(calls=(WireCall("c1", "look"),)), reads=4_000) as it:
        made = await it.client.responses.create(model="chat", input="hi", tools=[TOOL], truncation="auto")
        call = next(one for one in made.output if one.type == "function_call")
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": LONG}
        await refused(it, input=[output], tools=[TOOL], previous_response_id=made.id)
        again = await it.client.responses.create(
            model="chat",
            input=[{**output, "output": "short"}],
            tools=[TOOL],
            previous_response_id=made.id,
            truncation="auto",
        )
        assert again.status == "completed"


@pytest.mark.parametrize("truncation", ["auto", "disabled"])
async def test_files_are_not_taken_for_text(tmp_path: Path, truncation: Any) -> None:
    """How long a document is for its reader, its bytes do not say; a picture is as long in a result as in a message."""
    data = base64.b64encode(b"%PDF" + bytes(40_000)).decode()
    file: Any = {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{data}"}
    image: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}
    called: Any = [
        {"role": "user", "content": "look"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [image]},
    ]
    async with world(tmp_path, reads=4_000) as it:
        create = it.client.responses.create
        made = await create(model="responses", input=[{"role": "user", "content": [file]}], truncation=truncation)
        assert made.status == "completed"
        made = await create(model="responses", input=called, tools=[TOOL], truncation=truncation)
        assert made.status == "completed"
