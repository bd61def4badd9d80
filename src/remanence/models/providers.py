"""The providers that can be named as `provider:model`: their environment variables and a model to start with.

The table is ours, so that `models list`, `models detect` and a misspelt name cost no import of a provider library.
A key is looked up in the order given; what is in it never leaves the bridge.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["PROVIDERS", "Provider", "key_in"]


class Provider(msgspec.Struct, frozen=True):
    """One provider. `keys` are variables that hold its key, `start` a sensible first model, `extra` an install extra.

    `needs` are further variables without which nothing can be sent.
    """

    name: str
    keys: tuple[str, ...] = ()
    start: str = ""
    extra: str = ""
    needs: tuple[str, ...] = ()


_TABLE = (
    # In the order of detection: the first provider whose key is set is suggested first.
    Provider("anthropic", ("ANTHROPIC_API_KEY",), "claude-sonnet-5-5"),
    Provider("openai", ("OPENAI_API_KEY",), "gpt-6-luna"),
    Provider("google", ("GEMINI_API_KEY", "GOOGLE_API_KEY"), "gemini-3.8-flash", "google"),
    Provider("mistral", ("MISTRAL_API_KEY",), "mistral-medium-latest", "mistral"),
    Provider("groq", ("GROQ_API_KEY",), "openai/gpt-oss-120b", "groq"),
    Provider("xai", ("XAI_API_KEY",), "grok-4.7", "xai"),
    Provider("deepseek", ("DEEPSEEK_API_KEY",), "deepseek-flash"),
    Provider("openrouter", ("OPENROUTER_API_KEY",), "anthropic/claude-sonnet-5-5"),
    Provider("moonshotai", ("MOONSHOTAI_API_KEY",), "kimi-k3"),
    Provider("zai", ("ZAI_API_KEY",), "glm-5.3"),
    Provider("cerebras", ("CEREBRAS_API_KEY",), "gpt-oss-120b"),
    Provider("cohere", ("CO_API_KEY",), "command-a-plus-05-2026", "cohere"),
    Provider("huggingface", ("HF_TOKEN",), "openai/gpt-oss-120b", "huggingface"),
    Provider("meta", ("META_API_KEY",), "muse-spark-1.3"),
    # These can be named, but a key alone does not say which model is served there.
    Provider("openai-chat", ("OPENAI_API_KEY",)),
    Provider("openai-responses", ("OPENAI_API_KEY",)),
    Provider("azure", ("AZURE_OPENAI_API_KEY",), needs=("AZURE_OPENAI_ENDPOINT",)),
    Provider("azure-responses", ("AZURE_OPENAI_API_KEY",), needs=("AZURE_OPENAI_ENDPOINT",)),
    Provider("bedrock", extra="bedrock"),
    Provider("google-cloud", extra="google"),
    Provider("alibaba", ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY")),
    Provider("crusoe", ("CRUSOE_API_KEY",)),
    Provider("fireworks", ("FIREWORKS_API_KEY",)),
    Provider("heroku", ("HEROKU_INFERENCE_KEY",)),
    Provider("nebius", ("NEBIUS_API_KEY",)),
    Provider("ovhcloud", ("OVHCLOUD_API_KEY",)),
    Provider("sambanova", ("SAMBANOVA_API_KEY",)),
    Provider("together", ("TOGETHER_API_KEY",)),
    Provider("vercel", ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN")),
    Provider("ollama", needs=("OLLAMA_BASE_URL",)),
    Provider("vllm", needs=("VLLM_BASE_URL",)),
)

PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _TABLE}
"""Every provider by its name."""


def key_in(provider: Provider, env: Mapping[str, str]) -> str | None:
    """The first of the provider's variables that is set and not empty, by name; None when there is none."""
    return next((name for name in provider.keys if env.get(name)), None)
