"""What servers say beside the words of a reply and may get wrong: what was used, and how long to wait."""

from __future__ import annotations

import pytest
from asking import Ask, OpenGateway

from remanence.content import Text
from remanence.errors import ModelError
from remanence.models.configuration import Api, ModelConfig
from remanence.models.gateway import Gateway
from remanence.models.prices import Prices
from remanence.testing.wire import Answer, WireServer


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
@pytest.mark.parametrize("counted", [-1, -100_000, 10**30])
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_counts_that_are_none_are_estimated(api: Api, counted: int, ask: Ask, gateway_to: OpenGateway) -> None:
    """Taken as they are, negative ones would give a budget money back, and huge ones fit in no database."""
    async with WireServer([Answer(text="Hello.", input_tokens=counted)]) as server:
        made = await gateway_to(server, api).reply(ask(), None)
    assert made.parts == (Text("Hello."),)
    assert 0 < made.usage.input_tokens < 1_000
    assert 0 < made.usage.output_tokens < 100


@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_a_price_follows_the_estimate(ask: Ask) -> None:
    async with WireServer([Answer(text="Hello.", input_tokens=-1_000_000)]) as server:
        config = ModelConfig(name="m", base_url=f"{server.url}/v1", model="x", prices=Prices(1_000_000, 1_000_000))
        gateway = Gateway({"m": config}, env={})
        made = await gateway.reply(ask(), None)
        await gateway.aclose()
    assert made.cost_usd_micros is not None
    assert made.cost_usd_micros > 0


@pytest.mark.parametrize(
    ("header", "asked_s"),
    [("7", 7.0), ("1.5", 1.5), ("0", 0.0), ("-5", None), ("soon", None), ("nan", None), ("inf", None), ("", None)],
)
async def test_how_long_to_wait(header: str, asked_s: float | None, ask: Ask, gateway_to: OpenGateway) -> None:
    async with WireServer([Answer(status=429, text="slow down", headers={"retry-after": header})]) as server:
        with pytest.raises(ModelError) as refused:
            await gateway_to(server, "chat").reply(ask(), None)
    assert (refused.value.kind, refused.value.retry_after_s) == ("rate_limited", asked_s)
