"""Which model could be used here: the configuration, keys in the environment, servers on this machine, then scripted.

Looking spends nothing and tells nobody anything: environment variables are only checked for being set, and the four
well-known loopback ports are asked for their list of models, without a key. `try_model` does spend: one tiny call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from remanence.content import Message, Text, Usage, text_of
from remanence.errors import ModelError
from remanence.models.configuration import ModelConfig
from remanence.models.gateway import UPSTREAM_URL, Gateway
from remanence.models.providers import PROVIDERS, key_in
from remanence.ports import ModelRequest
from remanence.spec import ModelSettings

__all__ = ["LOOPBACK_PORTS", "Detected", "TryReport", "detect", "probe", "try_model"]

LOOPBACK_PORTS = (11434, 1234, 8080, 8000)
"""Where Ollama, LM Studio, llama.cpp and vLLM listen unless told otherwise."""

_SERVERS = {11434: "ollama", 1234: "lmstudio", 8080: "llamacpp", 8000: "vllm"}
_MODELS_MAX = 200


class Detected(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way to a model. `model` is what an agent would name; `config` is what `add_model` has to write first, if any.

    `key_env` is the variable that is set, never its content; `models` are the names a server lists; `note` says what is
    still missing. The first of the list is what is used when nobody chooses.
    """

    source: Literal["configuration", "environment", "server", "scripted"]
    model: str
    label: str
    url: str = ""
    key_env: str = ""
    models: tuple[str, ...] = ()
    config: ModelConfig | None = None
    note: str = ""


class TryReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one tiny call came to. `error` is a kind of `ModelError`; a cost of None means that no price is known."""

    model: str
    answered: bool
    said: str
    seconds: float
    usage: Usage = Usage()
    cost_usd_micros: int | None = None
    served_by: str = ""
    error: str = ""


# --- looking ----------------------------------------------------------------------------------------------------------


async def detect(
    configs: Mapping[str, ModelConfig],
    env: Mapping[str, str],
    *,
    default: str = "",
    ports: Sequence[int] = LOOPBACK_PORTS,
    timeout_s: float = 0.3,
) -> list[Detected]:
    """Every model that could be used, in the order of preference; never empty. Spends no money.

    `default` is the model the configuration names, if it does.
    """
    found = _configured(configs, env, default)
    found += _in_environment(env)
    servers = await asyncio.gather(*(probe(f"http://127.0.0.1:{port}", timeout_s=timeout_s) for port in ports))
    found += [server for server in servers if server is not None]
    found.append(Detected("scripted", "scripted", "no language model: an honest placeholder, for trying tools"))
    return found


def _configured(configs: Mapping[str, ModelConfig], env: Mapping[str, str], default: str) -> list[Detected]:
    found: list[Detected] = []
    if default and default not in configs:
        missing = _keys_missing(default.partition(":")[0], env)
        found.append(Detected("configuration", default, "the project's default model", note=missing))
    for config in sorted(configs.values(), key=lambda config: config.name != default):
        missing = bool(config.key_env) and not env.get(config.key_env)
        found.append(
            Detected(
                "configuration",
                config.name,
                f"{config.model or config.name} at {config.base_url or config.provider}",
                url=config.base_url,
                key_env=config.key_env,
                note=f"{config.key_env} is not set" if missing else "",
            )
        )
    return found


def _keys_missing(provider: str, env: Mapping[str, str]) -> str:
    known = PROVIDERS.get(provider)
    if known is None or env.get(UPSTREAM_URL):
        return ""
    needed = [name for name in known.needs if not env.get(name)]
    if known.keys and not key_in(known, env):
        needed.append(" or ".join(known.keys))
    return f"{', '.join(needed)} is not set" if needed else ""


def _in_environment(env: Mapping[str, str]) -> list[Detected]:
    found: list[Detected] = []
    if url := env.get(UPSTREAM_URL):
        label = f"any model name, served by {UPSTREAM_URL}"
        found.append(Detected("environment", "", label, url=url, note="choose a model name that server knows"))
    for provider in PROVIDERS.values():
        key_env = key_in(provider, env)
        if key_env is None or not provider.start:
            continue
        note = f"needs: pip install 'remanence[{provider.extra}]'" if provider.extra else ""
        model = f"{provider.name}:{provider.start}"
        found.append(Detected("environment", model, f"{provider.name}, by {key_env}", key_env=key_env, note=note))
    return found


async def probe(url: str, *, timeout_s: float = 0.3) -> Detected | None:
    """The model server at `url` (scheme, host and port), when one answers in time; None otherwise."""
    import httpx2

    try:
        # Loopback only, so no proxy; two questions at most, and both together within the time.
        async with (
            asyncio.timeout(timeout_s),
            httpx2.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False) as http,
        ):
            names = await _names(http, f"{url}/v1/models", "data", "id")
            if not names and url.endswith(":11434"):
                names = await _names(http, f"{url}/api/tags", "models", "name")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError):
        return None
    if not names:
        return None
    port = int(url.rsplit(":", 1)[1]) if url.rsplit(":", 1)[1].isdigit() else 0
    name = _SERVERS.get(port, "local")
    first = next((model for model in names if "embed" not in model.lower()), names[0])
    config = ModelConfig(name=name, model=first, base_url=f"{url}/v1")
    label = f"{len(names)} model{'s' if len(names) > 1 else ''} at {url.removeprefix('http://')}"
    return Detected("server", name, label, url=f"{url}/v1", models=tuple(names), config=config)


async def _names(http: Any, url: str, field: str, key: str) -> list[str]:
    response = await http.get(url)
    if response.status_code != 200:
        return []
    try:
        body: Any = msgspec.json.decode(response.content)
        rows = body[field][:_MODELS_MAX]
        return [row[key] for row in rows if isinstance(row[key], str)]
    except (msgspec.DecodeError, KeyError, TypeError, IndexError):
        # Something else listens on this port.
        return []


# --- trying -----------------------------------------------------------------------------------------------------------


async def try_model(gateway: Gateway, model: str, *, timeout_s: float = 30.0) -> TryReport:
    """One tiny request to `model`: whether it answers, how fast, and what that cost. Raises `NotFound`."""
    gateway.resolve(model)
    request = ModelRequest(
        model=model,
        instructions="Answer with the single word: ready",
        messages=(Message("user", (Text("Are you ready?"),)),),
        tools=(),
        settings=ModelSettings(),
        # Models that reason spend some of this before they say a word.
        output_tokens=256,
        timeout_s=timeout_s,
        effect_key="try:1:call_1",
    )
    await gateway.takes_detail(model)  # loads the library, which takes longer than many a server needs to answer
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        made = await gateway.reply(request, None)
    except ModelError as error:
        return TryReport(model, False, error.message, loop.time() - started, error=error.kind)
    return TryReport(
        model,
        True,
        text_of(made.parts).strip(),
        loop.time() - started,
        usage=made.usage,
        cost_usd_micros=made.cost_usd_micros,
        served_by=made.model,
    )
