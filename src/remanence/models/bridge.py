"""From a request of ours to a provider and back: settings, streaming, usage, stop reasons, and one kind of error.

    Target + ModelRequest --dialogue--> the library's messages --clients--> provider --dialogue--> ModelReply

The provider library does the wire formats; its messages live inside one call and never reach the journal. Nothing it
does unasked is left on: no retries (the runtime journals its own), no state kept at the provider, no setting dropped in
silence: what a provider cannot honour is an `invalid_request` that says so. A stream that ends without saying that it
ended counts as a broken connection, because half a reply must not pass for a whole one.

Importing this module costs nothing; the libraries are loaded at the first call, in a thread, so that leases are renewed
meanwhile.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from remanence.content import Message, Text, ToolCall, Usage, is_amount
from remanence.errors import ModelError, RemanenceError
from remanence.models import asked
from remanence.models.asked import Unfit
from remanence.models.providers import PROVIDERS, key_in
from remanence.models.target import Target
from remanence.ports import Blobs, ModelReply, ModelRequest, OnDelta
from remanence.spec import ModelSettings, ToolSpec

if TYPE_CHECKING:
    from decimal import Decimal

    import httpx2
    from pydantic_ai import messages as lib
    from pydantic_ai.models import Model as LibraryModel

__all__ = ["Bridge", "load_libraries"]

_MODELS_KEPT = 256


def _not_looked_at(target: Target, error: Exception) -> None:
    import structlog  # which takes as long to load as the rest of a command's help

    log = structlog.get_logger("remanence.models")
    log.info("a model could not be looked at", model=target.name, error=type(error).__name__)


def load_libraries() -> None:
    """Import the provider libraries (about two seconds, once). Call it from a thread to keep an event loop alive."""
    for name in ("remanence.models.clients", "remanence.models.dialogue", "remanence.models.failures"):
        importlib.import_module(name)
    importlib.import_module("pydantic_ai.direct")
    # The provider library asks for the price list when it makes a model; it is half a megabyte of Python.
    importlib.import_module("genai_prices.data_snapshot").get_snapshot()


class Bridge:
    """Calls providers. Clients are kept per event loop, and closed by `aclose`.

    `env` is where keys are found; they are read when a client is made and kept nowhere else.
    """

    def __init__(self, env: Mapping[str, str], blobs: Blobs | None = None) -> None:
        self._env = env
        self._blobs = blobs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._models: dict[Target, LibraryModel] = {}
        self._http: dict[bool, httpx2.AsyncClient] = {}
        self._loaded = False

    async def reply(self, target: Target, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        """One model call, without its price. Raises `ModelError`, nothing else; cancelling it aborts the request."""
        await self._load()
        from remanence.models import failures

        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._send(target, request, on_delta)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise  # a cancel is not a failure
            raise failures.describe(error, target.name, self._secrets(target)) from None

    async def unfit(self, target: Target, settings: ModelSettings, tools: Sequence[ToolSpec]) -> Unfit | None:
        """Why a model cannot do what these settings ask, where that is known before it is asked."""
        await self._load()
        try:
            asked.check(self._model(target), target, settings, tools)
        except Unfit as error:
            return error if error.setting else None
        except Exception as error:  # noqa: BLE001 - it cannot be called at all; the call will say why, in safe words
            _not_looked_at(target, error)
        return None

    async def takes_detail(self, target: Target) -> bool:
        """Whether a model can be told how closely to look at a picture; yes, when it cannot be looked at itself."""
        await self._load()
        from remanence.models import clients

        try:
            return clients.takes_detail(self._model(target))
        except Exception as error:  # noqa: BLE001 - as above
            _not_looked_at(target, error)
            return True

    async def aclose(self) -> None:
        """Close every connection. The bridge can be used again afterwards."""
        models, https = self._models.values(), self._http.values()
        self._models, self._http = {}, {}
        if self._loop is not asyncio.get_running_loop():
            return
        for model in models:
            async with model:
                pass  # leaving closes the connections that the library opened by itself
        for http in https:
            await http.aclose()

    async def _load(self) -> None:
        if not self._loaded:
            await asyncio.to_thread(load_libraries)
            self._loaded = True

    async def _send(self, target: Target, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        from pydantic_ai import direct

        from remanence.models import clients, dialogue

        model = self._model(target)
        messages = dialogue.to_messages(
            request.messages,
            instructions=request.instructions,
            receiver=dialogue.Receiver(
                model.system, lambda thought: clients.takes_back(model, thought), clients.takes_detail(model)
            ),
            blobs=await self._fetch(request.messages),
        )
        settings = asked.settings_of(model, target, request)
        parameters = asked.parameters_of(model, target, request)
        if on_delta is None:
            response = await direct.model_request(
                model, messages, model_settings=settings, model_request_parameters=parameters
            )
            return _reply(response, request)
        async with direct.model_request_stream(
            model, messages, model_settings=settings, model_request_parameters=parameters
        ) as stream:
            async for event in stream:
                _forward(event, on_delta)
            response = stream.get()
        if _cut(model, response):
            raise ConnectionError("the stream ended in the middle of the reply")
        return _reply(response, request)

    def _model(self, target: Target) -> LibraryModel:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Connections belong to the loop that opened them; those of a loop that is gone cannot be closed any more.
            self._loop, self._models, self._http = loop, {}, {}
        if target not in self._models:
            if len(self._models) >= _MODELS_KEPT:
                # An upstream serves any name, and names may come from outside.
                del self._models[next(iter(self._models))]
            self._models[target] = self._make(target)
        return self._models[target]

    def _make(self, target: Target) -> LibraryModel:
        from remanence.models import clients

        key = self._key(target)
        loopback = clients.is_loopback(target.base_url)
        if loopback not in self._http:
            self._http[loopback] = clients.open_http(trust_env=not loopback)
        try:
            return clients.library_model(target, key, self._http[loopback])
        except ImportError as error:
            extra = PROVIDERS[target.provider].extra if target.provider in PROVIDERS else ""
            more = f"pip install 'remanence[{extra}]'" if extra else str(error)
            raise Unfit(f"{target.name} needs a package that is not installed: {more}") from None

    def _key(self, target: Target) -> str | None:
        """The key for this target, or None when it takes none. Raises `ModelError` when something is not set."""
        if target.key_env:
            if key := self._env.get(target.key_env):
                return _fit_for_a_header(key, target.name, target.key_env)
            raise _no_key(target.name, target.key_env)
        provider = PROVIDERS.get(target.provider)
        if target.base_url or provider is None:
            return None
        for name in provider.needs:
            if not self._env.get(name):
                raise Unfit(f"{target.name} needs {name}, which is not set")
        if not provider.keys:
            return None
        if name := key_in(provider, self._env):
            return _fit_for_a_header(self._env[name], target.name, name)
        raise _no_key(target.name, " or ".join(provider.keys))

    def _secrets(self, target: Target) -> list[str]:
        names = [target.key_env, *(PROVIDERS[target.provider].keys if target.provider in PROVIDERS else ())]
        return [secret for name in names if (secret := self._env.get(name, "").strip())]

    async def _fetch(self, messages: Sequence[Message]) -> dict[str, bytes]:
        from remanence.models import dialogue

        digests = dialogue.blobs_in(messages)
        if digests and self._blobs is None:
            raise Unfit("an attached file is stored apart, and no store was given to read it from")
        try:
            return {digest: await self._blobs.get(digest) for digest in digests} if self._blobs else {}
        except ModelError:
            raise
        except RemanenceError as error:
            raise Unfit(f"an attached file cannot be read ({error.message})") from None


# --- what came back ---------------------------------------------------------------------------------------------------


def _forward(event: Any, on_delta: OnDelta) -> None:
    from pydantic_ai import messages as lib

    from remanence.models.dialogue import arguments_text

    match event:
        case lib.PartStartEvent(index=index, part=lib.TextPart(content=text)) if text:
            on_delta(index, "text", text)
        case lib.PartStartEvent(index=index, part=lib.ThinkingPart(content=text)) if text:
            on_delta(index, "thinking", text)
        case lib.PartStartEvent(index=index, part=lib.ToolCallPart() as call):
            on_delta(index, "tool_name", call.tool_name)
            if call.args:
                on_delta(index, "tool_arguments", arguments_text(call.args))
        case lib.PartDeltaEvent(index=index, delta=lib.TextPartDelta(content_delta=text)) if text:
            on_delta(index, "text", text)
        case lib.PartDeltaEvent(index=index, delta=lib.ThinkingPartDelta(content_delta=str() as text)) if text:
            on_delta(index, "thinking", text)
        case lib.PartDeltaEvent(index=index, delta=lib.ToolCallPartDelta() as delta):
            if delta.tool_name_delta:
                on_delta(index, "tool_name", delta.tool_name_delta)
            if delta.args_delta:
                on_delta(index, "tool_arguments", arguments_text(delta.args_delta))
        case _:
            # The end of a part, and notes of the library to itself.
            return


def _cut(model: LibraryModel, response: lib.ModelResponse) -> bool:
    """Whether a stream ended before the provider said how the reply ended."""
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel

    if response.state == "incomplete" or response.finish_reason is None:
        return response.state != "suspended"
    details = response.provider_details or {}
    told = details.get("finish_reason") or details.get("refusal")
    # The library takes a missing reason for a good one, to be kind to servers; the wire formats all require it.
    return isinstance(model, OpenAIChatModel | AnthropicModel) and not told


def _reply(response: lib.ModelResponse, request: ModelRequest) -> ModelReply:
    from remanence.models import dialogue

    parts = dialogue.from_response(response)
    details = response.provider_details or {}
    stop: str = response.finish_reason or "stop"
    if stop in ("stop", "tool_call") and any(isinstance(part, ToolCall) for part in parts):
        stop = "tool_calls"
    if not parts and isinstance(refusal := details.get("refusal"), str) and refusal:
        parts = (Text(refusal),)
    if stop == "content_filter" and not parts:
        raise ModelError(
            f"{request.model} declined to answer: its provider's filter stopped the reply. Everything before this call "
            "is kept. Say it differently.",
            kind="content",
        )
    if stop == "error":
        raise RuntimeError("the provider gave up on the reply")
    usage = response.usage
    return ModelReply(
        parts,
        _usage(usage, request, parts),
        cost_usd_micros=_cost(usage.cost),
        stop=stop,
        model=response.model_name or "",
        provider_id=response.provider_response_id or "",
        service_tier=str(details.get("service_tier") or ""),
    )


def _cost(usd: Decimal | None) -> int | None:
    """What a server says a call cost, rounded up; None for what is no price."""
    if usd is None or not usd.is_finite():
        return None
    micros = int(-(-usd * 1_000_000 // 1))
    return micros if is_amount(micros) else None


def _usage(counted: Any, request: ModelRequest, parts: tuple[Any, ...]) -> Usage:
    usage = Usage(
        input_tokens=counted.input_tokens,
        output_tokens=counted.output_tokens,
        cached_tokens=counted.cache_read_tokens,
        cache_write_tokens=counted.cache_write_tokens,
        reasoning_tokens=counted.output_reasoning_tokens,
    )
    if not usage.total_tokens or not all(is_amount(getattr(usage, field)) for field in usage.__struct_fields__):
        # Some servers do not count, or say -1. Four bytes to a token is a fair guess, and better for a budget than
        # nothing.
        sent = len(request.instructions.encode()) + len(msgspec.json.encode((request.messages, request.tools)))
        return Usage(input_tokens=-(-sent // 4), output_tokens=-(-len(msgspec.json.encode(parts)) // 4))
    return usage


def _no_key(model: str, variable: str) -> ModelError:
    return ModelError(
        f"{model} needs a key, and {variable} is not set. Nothing was sent and the session is kept. Set it and send "
        "again.",
        kind="authentication",
    )


def _fit_for_a_header(key: str, model: str, variable: str) -> str:
    """The key without the white space around it, such as the line break of the file it was read from.

    Raises `ModelError` for what no header can carry: the libraries would say so with the key in their words.
    """
    key = key.strip()
    if key and all("!" <= letter <= "~" for letter in key):
        return key
    why = "is set, but empty" if not key else "holds a character that no key has, such as a space or a line break"
    raise ModelError(
        f"{model} needs a key, and {variable} {why}. Nothing was sent and the session is kept. Set it and send again.",
        kind="authentication",
    )
