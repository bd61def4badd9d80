"""What a request asks of a model, on the wire of the provider: the vendor's client on one side, a real server that
speaks the provider's format on the other. What that received is what the model was asked; what no model of that format
can do is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from asked_world import APIS, LIKELY, PIECES, SCHEMA, world

from remanence.content import Text, with_logprobs
from remanence.events import ModelReplied
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted
from remanence.ports import ModelReply
from remanence.testing.wire import Answer


async def test_a_response_asks_for_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="Yes.", service_tier="default")) as it:
        made = await it.client.responses.create(
            model="responses",
            input="hi",
            service_tier="flex",
            prompt_cache_key="shop",
            prompt_cache_retention="24h",
            reasoning={"effort": "low", "summary": "detailed"},
            text={"verbosity": "low", "format": {"type": "json_object"}},
        )
        assert {
            name: it.asked[name] for name in ("service_tier", "prompt_cache_key", "prompt_cache_retention", "text")
        } == {
            "service_tier": "flex",
            "prompt_cache_key": "shop",
            "prompt_cache_retention": "24h",
            "text": {"verbosity": "low", "format": {"type": "json_object"}},
        }
        assert (it.asked["reasoning"]["effort"], it.asked["reasoning"]["summary"]) == ("low", "detailed")
        assert made.service_tier == "default", "the tier that was used, not the one that was asked for"
        assert (made.prompt_cache_key, made.prompt_cache_retention) == ("shop", "24h")
        assert made.reasoning is not None
        assert (made.reasoning.effort, made.reasoning.summary) == ("low", "detailed")
        assert made.text is not None
        assert made.text.to_dict() == {"verbosity": "low", "format": {"type": "json_object"}}
        records = await (await it.server.rt.get(made.id.removeprefix("resp_").rpartition("_")[0])).history()
        assert [one.event.service_tier for one in records if isinstance(one.event, ModelReplied)] == ["default"]


async def test_chat_completions_behind_it_have_the_same_words(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="{}", service_tier="priority")) as it:
        made = await it.client.responses.create(
            model="chat",
            input="hi",
            service_tier="fast",
            prompt_cache_key="shop",
            text={"verbosity": "high", "format": {"type": "json_object"}},
        )
        assert (it.asked["service_tier"], it.asked["prompt_cache_key"], it.asked["verbosity"]) == (
            "fast",
            "shop",
            "high",
        )
        assert it.asked["response_format"] == {"type": "json_object"}
        assert made.service_tier == "priority"


@pytest.mark.parametrize("store", [True, False])
async def test_the_tier_is_told_when_it_is_known(tmp_path: Path, store: bool) -> None:
    async with world(tmp_path, Answer(text="Yes.", service_tier="priority")) as it:
        stream = await it.client.responses.create(
            model="responses", input="hi", service_tier="fast", store=store, stream=True
        )
        seen = [event.response.service_tier async for event in stream if hasattr(event, "response")]
        assert (seen[0], seen[-1]) == ("fast", "priority")


async def test_a_server_with_words_of_its_own_for_tiers(tmp_path: Path) -> None:
    """What the vendor's client does not know is not shown: the client would refuse the whole answer."""
    async with world(tmp_path, Answer(text="Yes.", service_tier="on_demand")) as it:
        assert (await it.client.responses.create(model="chat", input="hi")).service_tier == "default"


@pytest.mark.parametrize("strict", [True, False, None])
async def test_a_schema_is_as_strict_as_was_asked(tmp_path: Path, strict: bool | None) -> None:
    schema = {**SCHEMA, "required": ["a"], "additionalProperties": False} if strict else SCHEMA
    form: Any = {"type": "json_schema", "name": "sum", "schema": schema, "description": "A sum.", "strict": strict}
    async with world(tmp_path) as it:
        made = await it.client.responses.create(model="responses", input="hi", text={"format": form})
        sent = it.asked["text"]["format"]
        assert (sent["name"], sent["description"], sent["schema"]["properties"]) == (
            "sum",
            "A sum.",
            SCHEMA["properties"],
        )
        # A field that may be missing is nothing a provider can be held to; without a word of it, it is not asked to.
        assert bool(sent["strict"]) is bool(strict)
        assert ("required" in sent["schema"]) is bool(strict)
        assert made.text is not None
        assert made.text.to_dict()["format"]["name"] == "sum"
        await it.client.responses.create(model="anthropic", input="hi", text={"format": form})
        assert it.asked["output_config"]["format"]["schema"]["properties"] == SCHEMA["properties"]


async def test_a_summary_of_its_reasoning_is_shown(tmp_path: Path) -> None:
    async with world(tmp_path, Answer(text="Yes.", thinking="Let me see.")) as it:
        made = await it.client.responses.create(model="responses", input="hi", reasoning={"summary": "concise"})
        assert it.asked["reasoning"]["summary"] == "concise"
        thought = made.output[0]
        assert thought.type == "reasoning"
        assert [part.text for part in thought.summary] == ["Let me see."]


async def test_how_a_model_reasons_and_of_what(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        create = it.client.responses.create
        made = await create(model="sol", input="hi", reasoning={"mode": "pro", "context": "current_turn"})
        assert (it.asked["reasoning"]["mode"], it.asked["reasoning"]["context"]) == ("pro", "current_turn")
        assert (made.reasoning.mode, made.reasoning.context) == ("pro", "current_turn")
        await create(model="sol", input="hi", reasoning={"mode": "standard", "context": "all_turns"})
        assert it.asked["reasoning"]["context"] == "all_turns"
        assert "mode" not in it.asked["reasoning"]
        await create(model="anthropic", input="hi", reasoning={"mode": "standard", "context": "auto"})


async def test_the_older_name_of_a_summary(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        made = await it.client.responses.create(
            model="responses", input="hi", reasoning={"generate_summary": "detailed"}
        )
        assert it.asked["reasoning"]["summary"] == "detailed"
        assert made.reasoning is not None
        assert made.reasoning.summary == "detailed"


NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("anthropic", {"text": {"verbosity": "low"}}, "text.verbosity"),
    ("anthropic", {"text": {"format": {"type": "json_object"}}}, "text.format.type"),
    ("anthropic", {"service_tier": "flex"}, "service_tier"),
    ("anthropic", {"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
    ("anthropic", {"include": ["message.output_text.logprobs"]}, "include"),
    ("anthropic", {"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
    ("chat", {"reasoning": {"summary": "concise"}}, "reasoning.summary"),
    ("anthropic", {"reasoning": {"context": "current_turn"}}, "reasoning.context"),
    ("plain", {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ("responses", {"reasoning": {"effort": "high"}, "temperature": 0.5}, "temperature"),
    ("responses", {"top_logprobs": 2}, "top_logprobs"),
]


@pytest.mark.parametrize(("model", "fields", "param"), NOT_THERE)
async def test_what_a_model_cannot_do_is_refused(
    tmp_path: Path, model: str, fields: dict[str, Any], param: str
) -> None:
    """With a 400 that names the field: nothing was sent, nothing was written. Not stored, it is the same."""
    async with world(tmp_path) as it:
        for store in (True, False):
            with pytest.raises(openai.BadRequestError) as refused:
                await it.client.responses.create(model=model, input="hi", store=store, **fields)
            assert refused.value.param == param
            assert "Nothing was written" in refused.value.message
        assert it.provider.requests == []
        assert await it.sessions() == 0


async def test_what_asks_for_nothing_is_taken_by_every_model(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        for model in APIS:
            made = await it.client.responses.create(
                model=model,
                input="hi",
                service_tier="auto",
                prompt_cache_key="a hint",
                reasoning={"summary": "auto"},
                text={"verbosity": "medium"},
            )
            assert (made.status, made.prompt_cache_key) == ("completed", "a hint")


async def test_a_dearer_tier_has_no_price_of_its_own(tmp_path: Path) -> None:
    """A budget in money covers no call of which nobody knows what it costs; a tier that is cheaper is covered."""
    prices = Prices(1_000_000, 2_000_000)
    async with world(tmp_path, prices=prices) as it:
        await it.server.rt.set_budget("agent:responses", usd="50")
        responses = it.client.responses
        made = await responses.create(model="responses", input="hi", service_tier="flex", background=True)
        async with await responses.retrieve(made.id, stream=True) as stream:
            assert [event.type async for event in stream][-1] == "response.completed"
        dear = await responses.create(model="responses", input="hi", service_tier="priority")
        assert (dear.status, dear.to_dict()["waiting_on"]) == (
            "in_progress",
            {"session": dear.id.removeprefix("resp_").rpartition("_")[0], "kind": "budget", "call": None},
        )
        assert len(it.provider.requests) == 1


@pytest.mark.parametrize("store", [True, False])
async def test_a_window_is_cut_to_what_the_model_reads(tmp_path: Path, store: bool) -> None:
    """With `auto`; what it was told is in the session all the same, or with the client where nothing is stored."""
    async with world(tmp_path, *[Answer(text="Yes.", counts=False)] * 40, reads=4_000) as it:
        responses, previous = it.client.responses, None
        talk: list[Any] = []
        for number in range(8):
            words = f"{number}: " + "word " * 600
            talk.append({"role": "user", "content": words})
            made = await responses.create(
                model="chat",
                input=words if store else talk,
                truncation="auto",
                max_output_tokens=100,
                previous_response_id=previous.id if previous and store else None,
                store=store,
            )
            previous = made
            talk.append({"role": "assistant", "content": made.output_text})
        said = [m["content"] for m in it.asked["messages"] if m["role"] == "user" and "word word" in m["content"]]
        assert "7: " in said[-1]
        assert len(said) < 8
        assert sum(len(text) for text in said) < 4_000 * 5
        with pytest.raises(openai.BadRequestError) as refused:
            await responses.create(model="chat", input="word " * 5_000, truncation="disabled", store=store)
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


def tokens(part: Any) -> list[tuple[str, float, str]]:
    """The tokens, how likely they were, and what would have been second."""
    return [(one.token, one.logprob, one.top_logprobs[1].token) for one in part.logprobs]


@pytest.mark.parametrize("model", ["plain", "chat"])
@pytest.mark.parametrize("store", [True, False])
async def test_how_likely_the_tokens_were(tmp_path: Path, model: str, store: bool) -> None:
    async with world(tmp_path, LIKELY, LIKELY, Answer(text="Yes.")) as it:
        responses = it.client.responses
        asks: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "store": store}
        made = await responses.create(model=model, input="hi", **asks)
        assert it.asked["top_logprobs"] == 2
        assert it.asked.get("logprobs") or "message.output_text.logprobs" in it.asked["include"]
        assert tokens(made.output[0].content[0]) == [(piece, -0.25, "?") for piece in PIECES]
        assert made.top_logprobs == 2
        events = [event async for event in await responses.create(model=model, input="hi", stream=True, **asks)]
        done = next(event for event in events if event.type == "response.output_text.done")
        assert [(one.token, one.logprob) for one in done.logprobs] == [(piece, -0.25) for piece in PIECES]
        if store:
            kept = await responses.retrieve(made.id, include=["message.output_text.logprobs"])
            assert kept.output == made.output
            await responses.input_items.list(made.id, include=["message.output_text.logprobs"])
            await responses.create(model=model, input="and?", previous_response_id=made.id)
            assert "certainly" in str(it.asked)
            assert "bytes" not in str(it.asked), "what was likely is no part of the conversation"
            assert "logprobs" not in it.asked


async def test_what_was_likely_is_not_told_to_the_model_again(tmp_path: Path) -> None:
    token = {"token": "Yes.", "bytes": [89], "logprob": -0.5, "top_logprobs": []}
    reply = ModelReply((Text("Yes."), with_logprobs(0, [token])))
    model = Scripted(lambda _: reply)
    async with world(tmp_path, model=model) as it:
        asks: Any = {"model": "script", "include": ["message.output_text.logprobs"]}
        made = await it.client.responses.create(input="hi", **asks)
        assert [one.token for one in made.output[0].content[0].logprobs] == ["Yes."]
        assert model.requests[-1].settings.logprobs == 0
        await it.client.responses.create(input="and?", previous_response_id=made.id, **asks)
        assert [message.parts for message in model.requests[-1].messages] == [
            (Text("hi"),),
            (Text("Yes."),),
            (Text("and?"),),
        ]


async def test_who_does_not_ask_is_not_told(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        made = await it.client.responses.create(model="chat", input="hi", top_logprobs=0)
        assert "logprobs" not in it.asked
        assert made.output[0].content[0].logprobs == []
