"""The provider library's models for our targets: one HTTP client of ours, no retries of its own, no stray credentials.

The runtime journals every attempt, so nothing below it may retry. A server named by `base_url` gets the key that was
named for it and nothing else from the environment: not another provider's key, no organisation, no proxy for a loopback
address, no redirect to another host. The libraries are imported at the top: import this module lazily.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models import Model as LibraryModel
from pydantic_ai.models import infer_model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import Provider as LibraryProvider
from pydantic_ai.providers import infer_provider, infer_provider_class
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from remanence.models.no_reply import look_at
from remanence.models.target import Target

__all__ = ["is_loopback", "library_model", "open_http", "retries_itself", "takes_back", "takes_detail"]

_NO_KEY = "no-key"
"""What a server that needs no key is sent; the SDKs insist on sending something."""


def open_http(*, trust_env: bool) -> httpx2.AsyncClient:
    """An HTTP client. The deadline of a call is the bridge's; only connecting is bounded here.

    `trust_env`: whether proxies of the environment are used.
    """
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=10.0),
        limits=httpx2.Limits(max_connections=1_000, max_keepalive_connections=100),
        follow_redirects=False,
        trust_env=trust_env,
        event_hooks={"response": [look_at]},
    )


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def library_model(target: Target, key: str | None, http: httpx2.AsyncClient) -> LibraryModel:
    """The library's model for `target`, sending with `http` where its SDK takes one."""
    if target.base_url:
        return _compatible(target, key or _NO_KEY, http)
    if target.provider in ("openai", "openai-responses", "openai-chat") and key:
        client = AsyncOpenAI(api_key=key, http_client=http, max_retries=0)
        chat = target.provider == "openai-chat"
        return (OpenAIChatModel if chat else OpenAIResponsesModel)(
            target.model, provider=OpenAIProvider(openai_client=client)
        )
    if target.provider == "anthropic" and key:
        anthropic = AsyncAnthropic(api_key=key, http_client=http, max_retries=0)
        return AnthropicModel(target.model, provider=AnthropicProvider(anthropic_client=anthropic))
    return infer_model(f"{target.provider}:{target.model}", lambda name: _provider(name, key))


def retries_itself(model: LibraryModel) -> bool:
    """Whether the model's SDK would try again by itself unless each request forbids it."""
    client = model.provider.client if model.provider else None
    return not (isinstance(client, AsyncOpenAI | AsyncAnthropic) and client.max_retries == 0)


def _provider(name: str, key: str | None) -> LibraryProvider[Any]:
    make: Any = infer_provider_class(name)
    provider: LibraryProvider[Any] = make(api_key=key) if key else infer_provider(name)
    client = provider.client
    if isinstance(client, AsyncOpenAI):
        client.max_retries = 0
        client.organization = client.project = None
    return provider


def _compatible(target: Target, key: str, http: httpx2.AsyncClient) -> LibraryModel:
    if target.api == "anthropic":
        # The SDK adds the paths; people write the address with and without them. Some servers look for the key in the
        # header the API had first.
        base_url = target.base_url.rstrip("/").removesuffix("/v1")
        anthropic = AsyncAnthropic(
            api_key=key, base_url=base_url, http_client=http, max_retries=0, default_headers={"x-api-key": key}
        )
        return AnthropicModel(target.model, provider=AnthropicProvider(anthropic_client=anthropic))
    client = AsyncOpenAI(api_key=key, base_url=target.base_url, http_client=http, max_retries=0)
    # The SDK takes these from the environment, where they are meant for OpenAI alone.
    client.organization = client.project = None
    if target.provider in ("openai", "openai-responses", "openai-chat"):
        provider: LibraryProvider[AsyncOpenAI] = OpenAIProvider(openai_client=client)
    else:
        provider = OpenAICompatibleProvider(f"server:{target.name}", openai_client=client, profile=_profile)
    return (OpenAIResponsesModel if target.api == "responses" else OpenAIChatModel)(target.model, provider=provider)


def _profile(model: str) -> ModelProfile:
    """What we may assume of a model on a server we know nothing about.

    Small servers know `max_tokens` and ignore its successor, and a reply without a bound overshoots a budget; OpenAI's
    reasoning models know only the successor.
    """
    default = OpenAICompatibleProvider.model_profile(model)
    reasons = bool(default and default.get("openai_supports_reasoning", False))
    return merge_profile(default, OpenAIModelProfile(openai_chat_supports_max_completion_tokens=reasons))


_WITH_DETAIL = ("groq", "mistral", "xai")
"""Providers with a format of their own, of which the library knows how it says `detail`."""


def takes_detail(model: LibraryModel) -> bool:
    """Whether the provider can be told how closely to look at a picture."""
    return isinstance(model, OpenAIChatModel | OpenAIResponsesModel) or model.system in _WITH_DETAIL


def takes_back(model: LibraryModel, thought: ThinkingPart) -> bool:
    """Whether the provider reads its own thought again as a thought.

    Where it does not, the library would write it into what was said, between tags, and the model would learn to do so.
    """
    details = thought.provider_details or {}
    match model:
        case AnthropicModel():
            return bool(thought.signature)
        case OpenAIResponsesModel():
            sealed = thought.signature and model.profile.get("openai_supports_encrypted_reasoning_content", False)
            return bool(sealed or details.get("raw_content"))
        case OpenAIChatModel():
            way = model.profile.get("openai_chat_send_back_thinking_parts", "auto")
            return way != "auto" or thought.id not in (None, "content")
        case _:
            return True
