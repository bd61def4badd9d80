"""Which model, where, at what price: the one `Model` the runtime is given.

A name is resolved in this order, and nothing else is tried:

1. a model handed in (`models`), such as a scripted one in a test;
2. an alias of the configuration, `[models.NAME]`;
3. `scripted`, or `scripted:path/to/script.json`;
4. `REMANENCE_UPSTREAM_URL`: when it is set, every other name is sent there as it stands, and nowhere else, with the key
   in `REMANENCE_UPSTREAM_KEY` and in the wire format `REMANENCE_UPSTREAM_API` (`chat`, the default, `responses` or
   `anthropic`);
5. `provider:name`, for the providers of `providers.py`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from remanence.content import Usage
from remanence.errors import InvalidConfig, ModelError, NotFound
from remanence.models.asked import Unfit
from remanence.models.bridge import Bridge
from remanence.models.configuration import Api, ModelConfig, is_address
from remanence.models.prices import context_window, listed_price, price_of, priced, tier_price
from remanence.models.providers import PROVIDERS
from remanence.models.scripted import Scripted, load_script
from remanence.models.target import Target
from remanence.ports import Blobs, Clock, Model, ModelReply, ModelRequest, OnDelta
from remanence.spec import ModelSettings, ToolSpec

__all__ = ["UPSTREAM_API", "UPSTREAM_KEY", "UPSTREAM_URL", "Gateway"]

_NOTHING_ASKED = ModelSettings()
UPSTREAM_URL = "REMANENCE_UPSTREAM_URL"
UPSTREAM_KEY = "REMANENCE_UPSTREAM_KEY"
UPSTREAM_API = "REMANENCE_UPSTREAM_API"


class Gateway:
    """Every model of a project behind one door.

    `configs` are the project's aliases, `env` is where keys and the upstream are found (by default the process's
    environment), `models` are ready-made models by name, `root` is where relative script paths start, `clock` is for
    scripted pauses, `blobs` is where attached files are read from.
    """

    def __init__(
        self,
        configs: Mapping[str, ModelConfig] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        models: Mapping[str, Model] | None = None,
        root: Path | None = None,
        clock: Clock | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self._configs = dict(configs or {})
        self._env = os.environ if env is None else env
        self._models = dict(models or {})
        self._root = root or Path()
        self._clock = clock
        self._bridge = Bridge(self._env, blobs)

    # --- the port -----------------------------------------------------------------------------------------------------

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        """One model call, priced. Raises `ModelError`, nothing else; cancelling it aborts the request."""
        try:
            found = self.resolve(request.model)
        except (NotFound, InvalidConfig) as error:
            raise ModelError(error.message, kind="invalid_request") from None
        if isinstance(found, Target):
            made = await self._bridge.reply(found, request, on_delta)
            cost = _price(found, made.usage, made.service_tier or request.settings.service_tier or "")
            reported = made.cost_usd_micros
            return msgspec.structs.replace(made, cost_usd_micros=reported if cost is None else cost)
        made = await found.reply(request, on_delta)
        if made.cost_usd_micros is not None:
            return made
        return msgspec.structs.replace(made, cost_usd_micros=price_of(found, request.model, made.usage))

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        """What this usage costs in micro-USD (rounded up), or None when no price is known, or no such model."""
        try:
            found = self.resolve(model)
        except (NotFound, InvalidConfig):
            return None
        return _price(found, usage, tier) if isinstance(found, Target) else price_of(found, model, usage)

    async def unfit(self, model: str, settings: ModelSettings, tools: Sequence[ToolSpec]) -> Unfit | None:
        """Why `model` cannot do what these settings ask, where that is known before it is asked. Sends nothing."""
        if settings == _NOTHING_ASKED:
            return None
        try:
            found = self.resolve(model)
        except (NotFound, InvalidConfig):
            return None  # the call will say so
        return await self._bridge.unfit(found, settings, tools) if isinstance(found, Target) else None

    async def takes_detail(self, model: str) -> bool:
        """Whether a model can be told how closely to look at a picture, as far as that is known. Sends nothing."""
        try:
            found = self.resolve(model)
        except (NotFound, InvalidConfig):
            return True  # the call will say so
        return await self._bridge.takes_detail(found) if isinstance(found, Target) else True

    # --- resolving ----------------------------------------------------------------------------------------------------

    def resolve(self, model: str) -> Target | Model:
        """Where `model` is served, or the ready-made model itself. Sends nothing.

        Raises `NotFound` with the nearest names, `InvalidConfig` for a script or an upstream that cannot be used.
        """
        if model in self._models:
            return self._models[model]
        if model in self._configs:
            return _target_of(self._configs[model])
        if model == "scripted" or model.startswith("scripted:"):
            self._models[model] = self._scripted(model)
            return self._models[model]
        if upstream := self._env.get(UPSTREAM_URL):
            return self._upstream(model, upstream)
        provider, colon, name = model.partition(":")
        if colon and name and provider in PROVIDERS:
            return Target(name=model, model=name, provider=provider)
        raise NotFound(self._unknown(model), param="model")

    def names(self) -> list[str]:
        """The names that are certain: ready-made models, aliases, and `scripted`."""
        return sorted({*self._models, *self._configs, "scripted"})

    def context_window(self, model: str) -> int | None:
        """How many tokens the model reads, when the configuration or the price list says. Raises as `resolve`."""
        found = self.resolve(model)
        if not isinstance(found, Target):
            return None
        return found.context_window or (context_window(found.provider, found.model) if found.provider else None)

    async def aclose(self) -> None:
        """Close every connection to providers."""
        await self._bridge.aclose()

    def _scripted(self, model: str) -> Scripted:
        path = model.partition(":")[2]
        return Scripted(load_script(self._root / path) if path else None, clock=self._clock)

    def _upstream(self, model: str, url: str) -> Target:
        api = self._env.get(UPSTREAM_API) or "chat"
        if api not in get_args(Api):
            raise InvalidConfig(
                f"{UPSTREAM_API} is {api!r}; it may be {', '.join(get_args(Api))}. Nothing was sent.",
                param=UPSTREAM_API,
            )
        if not is_address(url):
            raise InvalidConfig(
                f"{UPSTREAM_URL} must begin with http:// or https:// and name a host; a port is at most 65535. Nothing "
                "was sent.",
                param=UPSTREAM_URL,
            )
        key_env = UPSTREAM_KEY if self._env.get(UPSTREAM_KEY) else ""
        return Target(name=model, model=model, base_url=url, api=api, key_env=key_env)  # pyright: ignore[reportArgumentType]

    def _unknown(self, model: str) -> str:
        near = difflib.get_close_matches(model, [*self.names(), *_known_names()], n=3, cutoff=0.5)
        hint = f" The nearest names are {', '.join(near)}." if near else ""
        return (
            f"There is no model {model!r}.{hint} Nothing was sent. Name a model as `provider:name`, add one with "
            f"`remanence models add`, or set {UPSTREAM_URL} to a server that serves it."
        )


def _target_of(config: ModelConfig) -> Target:
    return Target(
        name=config.name,
        model=config.model or config.name,
        provider=config.provider,
        base_url=config.base_url,
        api=config.api,
        key_env=config.key_env,
        prices=config.prices,
        context_window=config.context_window,
        cache=config.cache,
    )


def _price(target: Target, usage: Usage, tier: str) -> int | None:
    if target.prices is not None:
        return tier_price(priced(target.prices, usage), tier)
    return listed_price(target.provider, target.model, usage, tier) if target.provider else None


def _known_names() -> list[str]:
    return [f"{provider.name}:{provider.start}" for provider in PROVIDERS.values() if provider.start]
