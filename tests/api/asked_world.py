"""Our server, and a provider behind it: a real server on this machine that speaks the provider's wire format."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat_server import Server, serving
from msgspec.structs import replace

from remanence import Agent, Remanence
from remanence.api.agents.agents import agents_router
from remanence.api.agents.events import events_router
from remanence.api.agents.sessions import sessions_router
from remanence.api.chat.completions import chat_router
from remanence.api.responses.responses import responses_router
from remanence.models.configuration import Api, ModelConfig
from remanence.models.prices import Prices
from remanence.models.scripted import Scripted
from remanence.ports import SessionQuery
from remanence.testing.wire import Answer, WireServer

__all__ = ["APIS", "LIKELY", "PIECES", "SCHEMA", "World", "world"]

ROUTERS = (events_router, sessions_router, agents_router, responses_router, chat_router)
APIS: tuple[Api, ...] = ("chat", "responses", "anthropic")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}


@dataclass
class World:
    """Our server, and the provider behind its models `chat`, `responses` and `anthropic`; `plain` does not reason, and
    `sol` does in every way."""

    server: Server
    provider: WireServer

    @property
    def client(self) -> Any:
        """The vendor's client, strict. Untyped: a test reads fields that not every arm of its unions has."""
        return self.server.client(max_retries=0)

    @property
    def asked(self) -> dict[str, Any]:
        """The body of the last request that the provider received."""
        return self.provider.requests[-1].body

    async def sessions(self) -> int:
        return len(await self.server.rt.database.views.sessions(SessionQuery()))


@asynccontextmanager
async def world(
    folder: Path,
    *answers: Answer,
    prices: Prices | None = None,
    agents: Sequence[Agent] = (),
    reads: int | None = None,
    model: Scripted | None = None,
) -> AsyncIterator[World]:
    """Both servers; the provider gives these answers in order, else always the same one."""
    given = list(answers)
    async with WireServer(lambda _: given.pop(0) if given else Answer(text="Yes.")) as provider:
        names: Mapping[Api, str] = {"chat": "qwen3:8b", "responses": "gpt-6-luna", "anthropic": "claude-sonnet-5-5"}
        configs: dict[str, ModelConfig] = {
            api: ModelConfig(
                name=api,
                model=names[api],
                base_url=f"{provider.url}/v1",
                api=api,
                prices=prices,
                context_window=reads,
            )
            for api in APIS
        }
        configs["plain"] = replace(configs["responses"], name="plain", model="gpt-4.1")
        configs["sol"] = replace(configs["responses"], name="sol", model="gpt-5.6-sol")
        options: Any = {"model_configs": configs, "models": {"script": model or Scripted()}, "agents": agents}
        async with (
            Remanence(f"sqlite:///{folder}/a.db", **options) as rt,
            serving(rt, [("/v1", router) for router in ROUTERS]) as server,
        ):
            yield World(server, provider)


LIKELY = Answer(text="Yes, certainly.", likely=True)
PIECES = ["Yes, ce", "rtainly", "."]
