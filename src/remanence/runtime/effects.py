"""The only caller of models and tools: performs one journaled intent and returns its outcome as facts.

Nothing here raises for what a model or a tool does; whatever happens becomes an event. What a failure means depends on
what is known. A tool that raised has spoken: that is a result with an error. A tool that ran out of time has not: for
`safe` the model is told, for `keyed` and `never` the effect is in doubt (`ToolLost`); the loop decides what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import msgspec
import structlog
from msgspec.structs import replace

from remanence.content import Message, Part, Text, ToolCall, ToolResult, text_of
from remanence.core.context import reopens, turns_line, with_reopening
from remanence.core.state import Session, said
from remanence.errors import EffectInDoubt, ModelError, StoreError
from remanence.events import (
    CompactionBegun,
    CompactionFailed,
    ContextCompacted,
    Event,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    ToolLost,
    ToolReturned,
    ToolStarted,
)
from remanence.models import keepable
from remanence.models.answering import answer, too_late
from remanence.models.obedience import disobeyed, held
from remanence.models.prices import price_of
from remanence.patience import STOP_GRACE_S, StillRunning, within
from remanence.ports import Delta, DeltaKind, ModelReply, ModelRequest, OnDelta, Tool, ToolCallContext, ToolOutcome
from remanence.runtime.compacting import SUMMARY_TOKENS
from remanence.runtime.services import Services
from remanence.spec import AgentSpec, ModelSettings
from remanence.values import NOT_STARTED

__all__ = ["Report", "Sent", "call_model", "request_of", "run_tool", "summarise"]

log = structlog.get_logger("remanence.effects")

_MICROS = 1_000_000
RETRY_AFTER_MAX_S = 86_400
"""A provider that asks for more is not asked again in this turn: who waits for an answer should hear of it."""


class Report(msgspec.Struct, frozen=True):
    """The outcome of an effect, and the facts that are journaled in the same write."""

    event: Event
    beside: tuple[Event, ...] = ()


# --- models -----------------------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """What a model call is sent besides what its spec says."""

    messages: tuple[Message, ...]
    instructions: str


def request_of(s: Session, spec: AgentSpec, called: ModelCalled, sent: Sent) -> ModelRequest:
    """The request one intent stands for."""
    return ModelRequest(
        model=called.model,
        instructions=sent.instructions,
        messages=sent.messages,
        tools=spec.tools,
        settings=_settings_of(spec, sent.messages),
        output_tokens=spec.limits.output_tokens,
        timeout_s=spec.limits.model_timeout_s,
        effect_key=f"{s.id}:{called.turn}:{called.call}",
    )


def _settings_of(spec: AgentSpec, messages: tuple[Message, ...]) -> ModelSettings:
    """The settings of a call. A call that was forced is made once: what it came to can be answered, or the turn would
    never end. What clients run does not count: they say what they want with each result."""
    settings = spec.settings
    if settings.tool_choice in (None, "auto", "none"):
        return settings
    answered: set[str] = set()
    for message in reversed(messages):
        if message.role != "tool":
            break
        answered |= {part.name for part in message.parts if isinstance(part, ToolResult)}
    if all(tool.kind == "client" for tool in spec.tools if tool.name in answered):
        return settings
    return replace(settings, tool_choice="auto", tool_choice_among=())


async def call_model(services: Services, s: Session, spec: AgentSpec, called: ModelCalled, sent: Sent) -> Event:
    """Perform a model call: `ModelReplied`, or `ModelFailed` with the date of the next attempt, if there is one."""
    request = request_of(s, spec, called, sent)
    streamed: list[int] = []
    on_delta = _streamer(services, s.id, called, streamed)
    try:
        # Streams hold back the last pieces of a reply that is there, so that its record goes first.
        reply = await answer(services.model, request, on_delta, lambda: services.live.answered(s.id))
    except TimeoutError as late:
        error = ModelError(too_late(request, late), kind="timeout")
        return _failed(services, spec, called, error, billed=True)
    except ModelError as error:
        return _failed(services, spec, called, error, billed=error.maybe_billed or bool(streamed))
    except Exception as error:
        log.exception("a model raised something other than ModelError", model=called.model)
        words = f"the model failed in an unforeseen way ({type(error).__name__}: {error})"
        return _failed(services, spec, called, ModelError(words, kind="invalid_request"), billed=bool(streamed))
    except asyncio.CancelledError:
        words = "cancelled while the model was answering"
        return ModelFailed(
            called.call,
            "cancelled",
            words,
            cost_usd_micros=called.reserved_usd_micros or None,
            billed_tokens=called.reserved_tokens,
        )
    if why := keepable.no_reply(reply):
        error = ModelError(f"the model's reply cannot be kept: {why}", kind="invalid_request")
        return _failed(services, spec, called, error, billed=True)
    kept = held(request.settings, reply)
    replied = _replied(services, called, kept, request.settings)
    if why := disobeyed(request.settings, reply, kept):
        failed = _failed(services, spec, called, ModelError(f"the model {why}", kind="content"), billed=False)
        return replace(failed, cost_usd_micros=replied.cost_usd_micros, billed_tokens=reply.usage.total_tokens)
    if unfit := keepable.unfit(replied):
        error = ModelError(f"the model's reply cannot be kept: {unfit}", kind="invalid_request")
        return _failed(services, spec, called, error, billed=True)
    return replied


async def summarise(
    services: Services, s: Session, spec: AgentSpec, begun: CompactionBegun, sent: Sent
) -> ContextCompacted | CompactionFailed:
    """Perform the model call of a compaction. It is not tried again: a window that is full is cut without it."""
    settings = replace(
        spec.settings,
        output_schema=None,
        output_json=False,
        tool_choice="none" if spec.settings.tool_choice else None,
        tool_choice_among=(),
        stop=(),
        logprobs=None,
    )
    request = ModelRequest(
        model=begun.model,
        instructions=sent.instructions,
        messages=sent.messages,
        tools=spec.tools,
        settings=settings,
        output_tokens=min(SUMMARY_TOKENS, spec.limits.output_tokens),
        timeout_s=spec.limits.model_timeout_s,
        effect_key=f"{s.id}:{begun.call}",
    )
    try:
        reply = await answer(services.model, request, None)
    except TimeoutError as late:
        return _no_summary(begun, "timeout", too_late(request, late), billed=True)
    except ModelError as error:
        return _no_summary(begun, error.kind, error.message, billed=error.maybe_billed)
    except Exception as error:
        log.exception("a model raised something other than ModelError", model=begun.model)
        words = f"the model failed in an unforeseen way ({type(error).__name__}: {error})"
        return _no_summary(begun, "invalid_request", words, billed=True)
    except asyncio.CancelledError:
        return _no_summary(begun, "cancelled", "cancelled while the model was answering", billed=True)
    if why := keepable.no_reply(reply):
        return _no_summary(begun, "invalid_reply", f"the model's reply cannot be kept: {why}", billed=True)
    cost = reply.cost_usd_micros
    cost = _cost(services, begun.model, reply, settings) if cost is None else cost
    words = text_of(reply.parts).strip()
    model = reply.model or begun.model
    if not words or any(isinstance(part, ToolCall) for part in reply.parts):
        why = "the model called a tool" if words else "the model said nothing"
        return CompactionFailed(begun.call, "invalid_reply", why, reply.usage, cost, model=model)
    if reopens(spec):
        words += f"\n{turns_line(begun.through_turn)}"
    return ContextCompacted(begun.through_turn, said(words), begun.call, begun.skipped, reply.usage, cost, model)


def _no_summary(begun: CompactionBegun, kind: str, message: str, *, billed: bool) -> CompactionFailed:
    if not billed:
        return CompactionFailed(begun.call, kind, keepable.words(message))
    cost = begun.reserved_usd_micros or None
    return CompactionFailed(
        begun.call,
        kind,
        keepable.words(message),
        cost_usd_micros=cost,
        billed_tokens=begun.reserved_tokens,
        model=begun.model,
    )


def _streamer(services: Services, session: str, called: ModelCalled, streamed: list[int]) -> OnDelta:
    def on_delta(index: int, kind: DeltaKind, text: str) -> None:
        if not streamed:
            streamed.append(index)
        services.live.publish(session, Delta(called.call, index, kind, text, called.attempt))

    return on_delta


def _cost(services: Services, model: str, reply: ModelReply, settings: ModelSettings) -> int | None:
    tier = reply.service_tier or settings.service_tier or ""
    return price_of(services.model, model, reply.usage, tier)


def _replied(services: Services, called: ModelCalled, reply: ModelReply, settings: ModelSettings) -> ModelReplied:
    cost = reply.cost_usd_micros
    if cost is None:
        cost = _cost(services, called.model, reply, settings)
    return ModelReplied(
        called.call,
        _with_our_ids(called, reply.parts),
        reply.usage,
        cost,
        reply.stop,
        reply.model or called.model,
        reply.provider_id,
        reply.service_tier,
    )


def _with_our_ids(called: ModelCalled, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The reply with our own call ids: unique in the session, in the alphabet every provider accepts."""
    step = called.call.removeprefix("model_")
    ids = iter(range(1, len(parts) + 1))
    return tuple(
        replace(part, call=f"call_{step}_{next(ids)}") if isinstance(part, ToolCall) else part for part in parts
    )


def _failed(
    services: Services, spec: AgentSpec, called: ModelCalled, error: ModelError, *, billed: bool
) -> ModelFailed:
    retry_at, message, asked_s = None, keepable.words(error.message), keepable.seconds(error.retry_after_s)
    if asked_s > RETRY_AFTER_MAX_S:
        most = f"a turn waits {RETRY_AFTER_MAX_S // 3_600} hours at most"
        message += f" The provider asked to wait {asked_s:.10g} s; {most}, so it was not asked again."
    elif error.retryable and called.attempt < spec.limits.model_attempts:
        times = services.times
        backoff_s = min(times.retry_cap_s, times.retry_base_s * 2 ** (called.attempt - 1))
        wait_s = max(asked_s, backoff_s * services.dice.uniform(0.5, 1.0))
        retry_at = services.clock.now() + int(wait_s * _MICROS)
    return ModelFailed(
        called.call,
        error.kind,
        message,
        retry_at=retry_at,
        cost_usd_micros=(called.reserved_usd_micros or None) if billed else None,
        billed_tokens=called.reserved_tokens if billed else 0,
    )


# --- tools ------------------------------------------------------------------------------------------------------------


async def run_tool(
    services: Services, s: Session, spec: AgentSpec, started: ToolStarted, arguments: str, may_start: Callable[[], bool]
) -> Event | Report | None:
    """Perform a tool call: `ToolReturned`, or `ToolLost` when nobody can know whether it happened.

    None when it did not begin, because `may_start` said no: its intent stands, and may be taken up later.
    """
    known = with_reopening(spec).tool(started.tool) if s.opens else spec.tool(started.tool)
    builtin = known is not None and known.kind == "builtin"
    tool = services.builtins.get(started.tool) if builtin else services.tools.find(s.agent, started.tool)
    if known is not None and known.kind == "mcp" and (tool is None or tool.spec.kind != "mcp"):
        tool = services.tools.remote(known)  # a function of that name is another tool
    if tool is None:
        return _refused(started, said(f"This worker does not have the tool {started.tool}; nothing was run."))
    context = ToolCallContext(
        session=s.id,
        project=s.project,
        agent=s.agent,
        user=s.user,
        turn=s.turns,
        effect_key=started.effect_key,
        attempt=started.attempt,
        memory=spec.memory,
        turn_position=s.turn.position if s.turn else 0,
        window_from=s.window.from_position,
        untrusted=bool(s.untrusted_at),
        on_progress=_progress(services, s.id, started.call),
        may_start=may_start,
    )
    work = _begin(tool, ToolCall(started.call, started.tool, arguments), context)
    try:
        outcome = await within(work, tool.spec.timeout_s, STOP_GRACE_S, started.effect_key)
    except StillRunning:
        return _overdue(started, f"no result within {tool.spec.timeout_s:g} s, and it did not stop when it was told to")
    except TimeoutError:
        return _overdue(started, f"no result within {tool.spec.timeout_s:g} s")
    except asyncio.CancelledError:
        return _overdue(started, "cancelled while it ran")
    except EffectInDoubt as error:
        return _overdue(started, error.message)
    except Exception as error:
        log.exception("a tool raised instead of reporting an outcome", tool=started.tool)
        return _overdue(started, f"the tool failed in an unforeseen way ({type(error).__name__}: {error})")
    if not isinstance(cast("object", outcome), ToolOutcome):
        return _overdue(started, f"the tool returned a {type(outcome).__name__}, which says nothing of its outcome")
    if not outcome.started:
        return _refused(started, outcome.parts) if outcome.parts else None
    if unfit := keepable.unfit(ToolReturned(started.call, outcome.parts, outcome.error)):
        words = f"The tool ran, and its effects stand, but its result cannot be kept: {unfit}"
        return ToolReturned(started.call, said(words), error=True)
    returned = await _returned(services, spec, started, outcome)
    return Report(returned, outcome.facts) if builtin else returned


async def _begin(tool: Tool, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
    """Run it, unless the right to was lost on the way into this task."""
    return await tool.run(call, context) if context.may_start is None or context.may_start() else NOT_STARTED


def _progress(services: Services, session: str, call: str) -> Callable[[str], None]:
    def on_progress(text: str) -> None:
        services.live.publish(session, Delta(call, 0, "progress", text))

    return on_progress


def _refused(started: ToolStarted, words: tuple[Part, ...]) -> Event:
    """A start that came to nothing. What an earlier one of the same call may have done, it does not know: `keyed` calls
    alone are started again without anybody having learned that (and one that is `safe` has done nothing)."""
    if started.replay == "keyed" and started.attempt > 1:
        return ToolLost(started.call, started.effect_key, started.tool, f"started again: {text_of(words)}")
    return ToolReturned(started.call, words, error=True, started=False)


def _overdue(started: ToolStarted, why: str) -> Event:
    why = keepable.words(why)
    if started.replay == "safe":
        return ToolReturned(started.call, said(f"The tool gave no result: {why}."), error=True)
    return ToolLost(started.call, started.effect_key, started.tool, why)


async def _returned(services: Services, spec: AgentSpec, started: ToolStarted, outcome: ToolOutcome) -> ToolReturned:
    """The outcome as a fact; a result over the limit is kept whole as a blob and shown cut."""
    limit = spec.limits.tool_result_bytes
    distrusted = outcome.untrusted or spec.distrusts(started.tool)
    encoded = msgspec.json.encode(outcome.parts)
    if len(encoded) <= limit:
        return ToolReturned(started.call, outcome.parts, outcome.error, untrusted=distrusted)
    whole = text_of(outcome.parts).encode() or encoded
    digest = await _keep(services, whole)
    shown = whole[:limit].decode(errors="ignore")
    again = (
        f'open_result(ref="{started.call}") shows the rest' if reopens(spec) else f"the whole result is blob {digest}"
    )
    words = f"{shown}\n[cut: {limit} of {len(whole)} bytes shown; {again}]"
    return ToolReturned(started.call, (Text(words),), outcome.error, blob=digest, size=len(whole), untrusted=distrusted)


async def _keep(services: Services, content: bytes) -> str:
    """Store a blob, however long the store is away: the outcome it belongs to has happened and must land."""
    delay_s, part = services.times.retry_base_s, f"a large result ({len(content)} bytes)"
    try:
        while True:
            try:
                return await services.database.blobs.put(content)
            except StoreError as error:
                services.outage.failed(part, error, services.clock.now())
            await services.clock.sleep(delay_s)
            delay_s = min(services.times.retry_cap_s, delay_s * 2)
    finally:
        services.outage.worked(part, services.clock.now())
