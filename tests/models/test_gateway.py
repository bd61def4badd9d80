"""Which model, where, at what price."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from asking import Ask

from remanence.content import Text, Usage
from remanence.errors import InvalidConfig, ModelError, NotFound
from remanence.models.configuration import ModelConfig
from remanence.models.detect import try_model
from remanence.models.gateway import Gateway
from remanence.models.prices import Prices, listed_price, micros_per_million, priced
from remanence.models.providers import PROVIDERS
from remanence.models.scripted import Scripted
from remanence.models.target import Target
from remanence.testing.scripted import says
from remanence.testing.wire import Answer, WireServer

YES = Answer(text="Yes.", input_tokens=1_000, output_tokens=100)

# --- which, where -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt-oss:20b", "any/thing", "openai:gpt-6-luna", "anthropic:claude-sonnet-5-5", "x"])
async def test_an_upstream_serves_any_model_name_and_nobody_else_does(name: str, ask: Ask) -> None:
    env = {"REMANENCE_UPSTREAM_KEY": "up", "OPENAI_API_KEY": "sk-private", "ANTHROPIC_API_KEY": "sk-private"}
    async with WireServer([YES]) as server:
        gateway = Gateway(env={**env, "REMANENCE_UPSTREAM_URL": f"{server.url}/v1"})
        made = await gateway.reply(ask(model=name), None)
        await gateway.aclose()
    assert made.parts == (Text("Yes."),)
    assert [(request.path, request.body["model"]) for request in server.requests] == [("/v1/chat/completions", name)]
    assert server.requests[0].headers["authorization"] == "Bearer up"
    assert "sk-private" not in str(server.requests[0])


@pytest.mark.parametrize(("api", "path"), [("responses", "/v1/responses"), ("anthropic", "/v1/messages")])
async def test_an_upstream_of_another_wire_format(api: str, path: str, ask: Ask) -> None:
    async with WireServer([YES]) as server:
        env = {"REMANENCE_UPSTREAM_URL": f"{server.url}/v1", "REMANENCE_UPSTREAM_API": api}
        gateway = Gateway(env=env)
        await gateway.reply(ask(model="x"), None)
        await gateway.aclose()
    assert [request.path for request in server.requests] == [path]


@pytest.mark.parametrize(
    "env",
    [
        {"REMANENCE_UPSTREAM_URL": "http://127.0.0.1:9/v1", "REMANENCE_UPSTREAM_API": "smoke signals"},
        {"REMANENCE_UPSTREAM_URL": "127.0.0.1:9"},
    ],
)
async def test_an_upstream_that_makes_no_sense_is_named(env: dict[str, str], ask: Ask) -> None:
    gateway = Gateway(env=env)
    with pytest.raises(InvalidConfig, match="REMANENCE_UPSTREAM"):
        gateway.resolve("x")
    with pytest.raises(ModelError, match="REMANENCE_UPSTREAM"):
        await gateway.reply(ask(model="x"), None)


async def test_a_redirect_to_another_host_is_not_followed(ask: Ask) -> None:
    async with WireServer([YES]) as other, WireServer() as first:
        first.answer_with(Answer(status=307, headers={"location": f"{other.url}/v1/chat/completions"}))
        gateway = Gateway(env={"REMANENCE_UPSTREAM_URL": f"{first.url}/v1"})
        with pytest.raises(ModelError):
            await gateway.reply(ask(model="x"), None)
        await gateway.aclose()
    assert other.requests == []


def test_the_order_in_which_a_name_is_looked_up() -> None:
    mine, alias = Scripted(), ModelConfig("fast", model="qwen3:8b", base_url="http://127.0.0.1:9/v1")
    gateway = Gateway({"fast": alias, "mine": alias}, env={}, models={"mine": mine})
    assert gateway.resolve("mine") is mine
    assert isinstance(gateway.resolve("scripted"), Scripted)
    assert gateway.resolve("scripted") is gateway.resolve("scripted")
    assert gateway.resolve("fast") == Target("fast", "qwen3:8b", base_url="http://127.0.0.1:9/v1")
    assert gateway.resolve("openai:gpt-6-luna") == Target("openai:gpt-6-luna", "gpt-6-luna", "openai")
    assert gateway.names() == ["fast", "mine", "scripted"]


@pytest.mark.parametrize(
    ("name", "near"), [("fsat", "fast"), ("openay:gpt-6-luna", "openai:gpt-6-luna"), ("openai:", "openai"), ("", "")]
)
async def test_an_unknown_model_names_the_nearest_and_what_to_do(name: str, near: str, ask: Ask) -> None:
    gateway = Gateway({"fast": ModelConfig("fast", base_url="http://127.0.0.1:9/v1")}, env={})
    with pytest.raises(NotFound) as caught:
        gateway.resolve(name)
    assert near in caught.value.message
    assert "remanence models add" in caught.value.message
    with pytest.raises(ModelError) as failed:
        await gateway.reply(ask(model=name), None)
    assert failed.value.kind == "invalid_request"
    assert gateway.price(name, Usage(10, 10)) is None


async def test_a_script_in_a_file(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "hello.json").write_text('{"steps": [{"text": "Hello, $user"}]}')
    gateway = Gateway(env={}, root=tmp_path)
    made = await gateway.reply(ask(model="scripted:hello.json"), None)
    assert made.parts == (Text("Hello, Where is order 42?"),)
    assert made.cost_usd_micros == 0
    with pytest.raises(InvalidConfig, match=r"missing\.json"):
        gateway.resolve("scripted:missing.json")


def test_every_provider_of_the_table_is_one_of_the_library() -> None:
    from pydantic_ai.providers import infer_provider_class

    for name, provider in PROVIDERS.items():
        try:
            infer_provider_class(name)
        except ImportError:
            assert provider.extra or name == "xai", f"{name} needs an extra that the table does not name"


@pytest.mark.parametrize("name", [p.name for p in PROVIDERS.values() if p.keys and not p.extra and not p.needs])
async def test_every_provider_without_an_extra_is_ready_and_never_retries_by_itself(name: str) -> None:
    from remanence.models import clients

    http = clients.open_http(trust_env=False)
    target = Target(name, PROVIDERS[name].start or "some-model", name)
    model = clients.library_model(target, "a-key", http)
    assert not clients.retries_itself(model)
    async with model:
        await http.aclose()


async def test_a_provider_that_needs_more_than_a_key_says_what(ask: Ask) -> None:
    gateway = Gateway(env={"AZURE_OPENAI_API_KEY": "x"})
    with pytest.raises(ModelError, match="AZURE_OPENAI_ENDPOINT") as caught:
        await gateway.reply(ask(model="azure:gpt-6-luna"), None)
    assert caught.value.kind == "invalid_request"


async def test_a_provider_whose_package_is_missing_says_how_to_get_it(ask: Ask) -> None:
    gateway = Gateway(env={"GROQ_API_KEY": "x"})
    with pytest.raises(ModelError, match="groq") as caught:
        await gateway.reply(ask(model="groq:openai/gpt-oss-20b"), None)
    assert caught.value.kind == "invalid_request"
    assert "remanence[groq]" in caught.value.message


async def test_a_provider_without_its_key_names_the_variable(ask: Ask) -> None:
    gateway = Gateway(env={})
    with pytest.raises(ModelError, match="OPENAI_API_KEY") as caught:
        await gateway.reply(ask(model="openai:gpt-6-luna"), None)
    assert caught.value.kind == "authentication"


# --- at what price ----------------------------------------------------------------------------------------------------


def test_configured_prices_round_up_to_a_whole_micro_usd() -> None:
    prices = Prices(input=250_000, output=2_000_000, cached=30_000)
    assert priced(prices, Usage(1_000_000, 0)) == 250_000
    assert priced(prices, Usage(1_000_000, 0, cached_tokens=1_000_000)) == 30_000
    assert priced(prices, Usage(1, 0)) == 1
    assert priced(prices, Usage(0, 0)) == 0
    assert priced(prices, Usage(1_000, 100, cached_tokens=500)) == 125 + 15 + 200
    assert priced(Prices(4, 4, cache_write=5_000_000), Usage(10, 0, cache_write_tokens=10)) == 50


@pytest.mark.parametrize(("given", "micros"), [("0.25", 250_000), (3, 3_000_000), (0.1, 100_000), ("0.000001", 1)])
def test_prices_are_read_as_they_are_written(given: object, micros: int) -> None:
    assert micros_per_million(given, "p") == micros


@pytest.mark.parametrize("given", ["free", "-1", "0.0000001", True, "inf", None])
def test_what_is_no_price_is_refused(given: object) -> None:
    with pytest.raises(InvalidConfig, match="is not a price"):
        micros_per_million(given, "p")


def test_listed_prices_come_from_the_bundle_and_unknown_is_none() -> None:
    thousand = listed_price("openai", "gpt-6-luna", Usage(1_000, 100))
    assert thousand is not None
    assert thousand > 0
    cached = listed_price("openai", "gpt-6-luna", Usage(1_000, 100, cached_tokens=1_000))
    assert cached is not None
    assert cached < thousand
    assert listed_price("openai", "gpt-6-luna", Usage(1, 0)) == 1, "a fraction of a micro-USD is rounded up"


def test_a_service_tier_costs_what_the_list_says_of_it() -> None:
    """One that is not listed is covered by the usual price only when it is not dearer."""
    used = Usage(1_000_000, 100_000)
    plain = listed_price("openai", "gpt-6-luna", used)
    assert plain is not None
    assert listed_price("openai", "gpt-6-luna", used, "default") == plain
    cheap, dear = (listed_price("openai", "gpt-6-luna", used, tier) for tier in ("flex", "priority"))
    assert cheap is not None
    assert dear is not None
    assert cheap < plain < dear
    assert listed_price("openai", "gpt-6-luna", used, "ultrafast") is None
    assert listed_price("anthropic", "claude-sonnet-5-5", used, "priority") is None
    assert listed_price("anthropic", "claude-sonnet-5-5", used, "standard") == listed_price(
        "anthropic", "claude-sonnet-5-5", used
    )
    assert listed_price("openai", "no-such-model", Usage(1_000, 100)) is None
    assert listed_price("no-such-provider", "gpt-6-luna", Usage(1_000, 100)) is None


async def test_a_reply_carries_its_price(ask: Ask) -> None:
    prices = Prices(input=1_000_000, output=10_000_000)
    async with WireServer([YES, YES]) as server:
        url = f"{server.url}/v1"
        configs = {
            "dear": ModelConfig("dear", base_url=url, prices=prices),
            "proxied": ModelConfig("proxied", model="gpt-6-luna", provider="openai", base_url=url),
        }
        gateway = Gateway(configs, env={})
        dear = await gateway.reply(ask(model="dear"), None)
        proxied = await gateway.reply(ask(model="proxied"), None)
        await gateway.aclose()
    assert dear.cost_usd_micros == 1_000 + 1_000
    assert dear.cost_usd_micros == gateway.price("dear", Usage(1_000, 100))
    assert proxied.cost_usd_micros == listed_price("openai", "gpt-6-luna", Usage(1_000, 100))


def test_the_context_window_is_configured_or_listed() -> None:
    config = ModelConfig("fast", base_url="http://127.0.0.1:9/v1", context_window=32_768)
    gateway = Gateway({"fast": config}, env={})
    assert gateway.context_window("fast") == 32_768
    assert (gateway.context_window("anthropic:claude-sonnet-5-5") or 0) >= 200_000
    assert gateway.context_window("scripted") is None


# --- trying -----------------------------------------------------------------------------------------------------------


async def test_trying_a_model_says_what_it_cost() -> None:
    async with WireServer([YES, Answer(status=401, text="no")]) as server:
        config = ModelConfig("m", base_url=f"{server.url}/v1", prices=Prices(1_000_000, 1_000_000))
        gateway = Gateway({"m": config}, env={})
        good = await try_model(gateway, "m")
        bad = await try_model(gateway, "m")
        await gateway.aclose()
    assert (good.answered, good.said, good.cost_usd_micros, good.error) == (True, "Yes.", 1_100, "")
    assert good.seconds >= 0
    assert (bad.answered, bad.error, bad.cost_usd_micros) == (False, "authentication", None)
    with pytest.raises(NotFound):
        await try_model(gateway, "nobody")


async def test_a_ready_made_model_is_used_and_priced(ask: Ask) -> None:
    gateway = Gateway(env={}, models={"m": Scripted([says("Hi")], prices=Prices(0, 1_000_000))})
    made = await gateway.reply(ask(), None)
    assert made.cost_usd_micros == made.usage.output_tokens


# --- what it costs to start -------------------------------------------------------------------------------------------


def test_importing_the_gateway_loads_no_provider_library() -> None:
    heavy = ("pydantic_ai", "openai", "anthropic", "httpx2", "genai_prices", "pydantic")
    code = f"import sys, remanence.models.detect; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.strip() == "[]"
