"""How closely a model is to look at a picture: as the client asked, on the wire of the provider and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from asked_world import world

PIXEL = "data:image/png;base64,iVBORw0KGgo="
PLACE = "https://example.org/a.png"


def pictured(*pictures: tuple[str, str | None]) -> Any:
    parts = [
        {"type": "input_image", "image_url": url, **({"detail": level} if level else {})} for url, level in pictures
    ]
    return [{"role": "user", "content": [{"type": "input_text", "text": "what?"}, *parts]}]


def levels(asked: Any) -> list[str | None]:
    """The `detail` of every picture of a request to a provider, in order."""
    if isinstance(asked, list):
        return [level for one in asked for level in levels(one)]
    if not isinstance(asked, dict):
        return []
    if asked.get("type") in ("input_image", "image_url"):
        return [(asked["image_url"] if isinstance(asked["image_url"], dict) else asked).get("detail")]
    return [level for one in asked.values() for level in levels(one)]


async def test_a_response_hands_it_on_and_a_later_one_too(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        create = it.client.responses.create
        given = pictured((PIXEL, "low"), (PLACE, "original"), (PLACE, "auto"), (PIXEL, None))
        first = await create(model="responses", input=given)
        assert [level or "auto" for level in levels(it.asked["input"])] == ["low", "original", "auto", "auto"]
        kept = await it.client.responses.input_items.list(first.id)
        shown = [part.detail for part in kept.data[0].content if part.type == "input_image"]
        assert shown == ["low", "original", "auto", "auto"]
        # The same session, answered in another format: what was said of the pictures is still known.
        await create(model="chat", input="and?", previous_response_id=first.id)
        assert [level or "auto" for level in levels(it.asked["messages"])] == ["low", "original", "auto", "auto"]
        # A provider that has no such thing is shown the pictures as they are.
        await create(model="anthropic", input="and?", previous_response_id=first.id)
        assert "detail" not in str(it.asked["messages"])
        assert str(it.asked["messages"]).count("'image'") == 4


async def test_outputs_of_calls_and_chats_hand_it_on(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        call = {"type": "function_call", "call_id": "c", "name": "draw", "arguments": "{}"}
        output = {"type": "function_call_output", "call_id": "c", "output": pictured((PIXEL, "high"))[0]["content"]}
        await it.client.responses.create(model="responses", input=[*pictured(), call, output])
        assert levels(it.asked["input"]) == ["high"]
        parts: Any = [{"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}]
        for headers in ({}, {"x-session-id": "new"}):
            await it.client.chat.completions.create(
                model="chat", messages=[{"role": "user", "content": parts}], extra_headers=headers
            )
            assert levels(it.asked["messages"]) == ["low"]


async def test_what_cannot_be_honoured_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        before = len(it.provider.requests)
        for model, level in (("anthropic", "low"), ("responses", "highest")):
            with pytest.raises(openai.BadRequestError) as caught:
                await it.client.responses.create(model=model, input=pictured((PIXEL, "auto"), (PIXEL, level)))
            assert caught.value.param == "input[0].content[2].detail"
        for model, level in (("anthropic", "low"), ("chat", "highest")):
            parts: Any = [{"type": "image_url", "image_url": {"url": PIXEL, "detail": level}}]
            with pytest.raises(openai.BadRequestError) as caught:
                await it.client.chat.completions.create(model=model, messages=[{"role": "user", "content": parts}])
            assert caught.value.param == "messages[0].content[0].image_url.detail"
        assert len(it.provider.requests) == before
