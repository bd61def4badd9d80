"""What the tests of models share: a request, and a gateway to a server on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asking import TOOLS, Ask, OpenGateway

from remanence.content import Message, Text
from remanence.models.configuration import Api, ModelConfig
from remanence.models.gateway import Gateway
from remanence.ports import ModelRequest
from remanence.spec import ModelSettings
from remanence.testing.wire import WireServer


@pytest.fixture
def ask() -> Ask:
    """A request to the model `m`: by default one user message and two tools."""

    def make(*messages: Message, **changes: Any) -> ModelRequest:
        fields: dict[str, Any] = {
            "model": "m",
            "instructions": "Be brief.",
            "messages": messages or (Message("user", (Text("Where is order 42?"),)),),
            "tools": TOOLS,
            "settings": ModelSettings(),
            "output_tokens": 1_000,
            "timeout_s": 20.0,
            "effect_key": "session:1:call_1_1",
        }
        return ModelRequest(**{**fields, **changes})

    return make


@pytest.fixture
async def gateway_to() -> AsyncIterator[OpenGateway]:
    """Opens gateways whose model `m` is served by a given server; closes them afterwards."""
    opened: list[Gateway] = []

    def make(server: WireServer, api: Api = "chat", **changes: Any) -> Gateway:
        fields: dict[str, Any] = {"model": "some-model", "key_env": "THE_KEY"}
        config = ModelConfig(name="m", base_url=f"{server.url}/v1", api=api, **{**fields, **changes})
        opened.append(Gateway({"m": config}, env={"THE_KEY": "sk-only-for-this-server"}))
        return opened[-1]

    yield make
    for gateway in opened:
        await gateway.aclose()
