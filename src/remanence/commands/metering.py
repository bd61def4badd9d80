"""Model calls that keep nothing of what was said, and are counted all the same.

A wire format whose client sends the whole conversation each time needs no session. Its calls go straight to the model.
What is journaled is the *meter*: for each project and day one session that holds, for each call, an intent without
content (`ModelCalled`: when, which model, what was set aside) and an outcome without content (`ModelReplied` with no
parts, or `ModelFailed`: how many tokens, at what price). So budgets are reserved and settled, freezes hold, and usage
adds up by the same transactions as everywhere; no word of the conversation reaches the database.

The meter belongs to the agent `AGENT`: freeze it, or give it a budget, to speak of all such calls of a project. Nobody
drives it. An intent whose process died is settled at its whole reservation, once, by whoever meters `LOST_AFTER_S`
later.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog
from msgspec.structs import replace

from remanence.commands.caller import Caller, commit
from remanence.commands.sessions import Opening, open_session
from remanence.content import File, Image, Usage, digest_of
from remanence.core.ledger import (
    FILE_TOKENS_MAX,
    IMAGE_TOKENS_MAX,
    MESSAGE_OVERHEAD_TOKENS,
    TOOL_OVERHEAD_TOKENS,
    TOOLS_OVERHEAD_TOKENS,
    attempt_key,
    budget_scopes,
    input_tokens_bound,
)
from remanence.core.state import Session
from remanence.errors import BudgetExceeded, Conflict, ModelError, NotFound, StoreError
from remanence.events import Event, ModelCalled, ModelFailed, ModelReplied
from remanence.models import keepable
from remanence.models.answering import answer, too_late
from remanence.models.obedience import disobeyed, held
from remanence.models.prices import price_of
from remanence.ports import Charge, Model, ModelReply, ModelRequest, OnDelta, Write
from remanence.spec import AgentSpec, spec_digest

__all__ = ["AGENT", "LOST_AFTER_S", "Meter", "is_meter", "meter_of"]

log = structlog.get_logger("remanence.metering")

AGENT = "chat-completions"
LOST_AFTER_S = 900
"""Longer than any call may take; after that its process must have died."""
_MICROS = 1_000_000
_DAY_US = 86_400 * _MICROS
_PAGE = 1_000
_METER = AgentSpec(AGENT, "any", "Counts the model calls of clients that keep their conversations themselves.")


class _Open(msgspec.Struct, frozen=True):
    """An intent without an outcome."""

    at: int
    called: ModelCalled


class _Strange(ModelError):
    """A model did what none should. Nobody knows whether it has to be paid for."""

    def __init__(self, message: str) -> None:
        super().__init__(keepable.words(message), kind="server")

    @property
    def maybe_billed(self) -> bool:
        return True


class Meter:
    """Calls one model and counts it. One for a process; it holds only how far it has read each meter."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._looked_at: dict[str, int] = {}
        self._read: dict[str, tuple[int, dict[str, _Open]]] = {}

    async def reply(
        self, caller: Caller, request: ModelRequest, on_delta: OnDelta | None, *, user: str = ""
    ) -> ModelReply:
        """One model call; cancelling it aborts it. `request.effect_key` may be empty: it is named here.

        Raises ModelError; BudgetExceeded, Frozen and StoreError before anything was sent.
        """
        await self._settle_lost(caller)
        session, called, scopes = await self._reserve(caller, request, user)
        request = replace(request, effect_key=f"{session}:0:{called.call}")
        failed: ModelFailed | None = None
        try:
            made = await self._asked(request, on_delta)
        except TimeoutError as late:
            failed = _failure(called, "timeout", billed=True)
            raise ModelError(f"{too_late(request, late)}; nothing was kept", kind="timeout") from None
        except ModelError as error:
            failed = _failure(called, error.kind, billed=error.maybe_billed)
            raise
        except BaseException:
            failed = _failure(called, "cancelled", billed=True)
            raise
        finally:
            if failed is not None:
                await asyncio.shield(self._settle(caller, session, failed, scopes))
        cost = made.cost_usd_micros
        cost = self._price(request, made.usage, made.service_tier) if cost is None else cost
        replied = ModelReplied(
            called.call, (), made.usage, cost, made.stop, made.model or request.model, service_tier=made.service_tier
        )
        await asyncio.shield(self._settle(caller, session, replied, scopes))
        kept = held(request.settings, made)
        if why := disobeyed(request.settings, made, kept):
            raise ModelError(f"The model {why}.", kind="content")
        return kept

    async def _asked(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        """What the model answers. Models are code of others: whatever else they raise or hand back is a ModelError."""
        try:
            made = await answer(self._model, request, on_delta)
        except (ModelError, TimeoutError):
            raise
        except Exception as error:
            log.exception("a model raised something other than ModelError", model=request.model)
            raise _Strange(f"the model failed in an unforeseen way ({type(error).__name__}: {error})") from error
        if why := keepable.no_reply(made):
            raise _Strange(f"the model's reply cannot be used: {why}")
        return made

    async def _reserve(
        self, caller: Caller, request: ModelRequest, user: str
    ) -> tuple[str, ModelCalled, tuple[str, ...]]:
        worst = Usage(_input_bound(request), request.output_tokens)
        price = self._worst_price(request, worst)
        session = meter_of(caller)
        scopes = budget_scopes(session="", agent=AGENT, user=user, project=caller.project)
        if price is None:
            await _refuse_unpriced(caller, request.model, scopes)
        called = ModelCalled(
            caller.make_id("model"),
            0,
            request.model,
            0,
            0,
            "",
            reserved_usd_micros=price or 0,
            reserved_tokens=worst.total_tokens,
            user=user,
        )
        key = attempt_key(session, called.call, 1)
        charge = Charge("reserve", key, scopes, called.reserved_usd_micros, called.reserved_tokens)
        write = Write(session, (called,), caller.clock.now(), caller.actor, effects=True, charges=(charge,))
        try:
            await commit(caller, write)
        except NotFound:
            await _open_meter(caller, session)
            await commit(caller, write)
        return session, called, scopes

    def _price(self, request: ModelRequest, usage: Usage, used: str = "") -> int | None:
        """What usage costs in the service tier that was used, as far as it is known, or asked for."""
        tier = used or request.settings.service_tier or ""
        return price_of(self._model, request.model, usage, tier)

    def _worst_price(self, request: ModelRequest, worst: Usage) -> int | None:
        plain = self._price(request, worst)
        if plain is None:
            return None
        cached = replace(worst, cache_write_tokens=worst.input_tokens)
        return max(plain, self._price(request, cached) or 0)

    async def _settle(
        self, caller: Caller, session: str, outcome: ModelReplied | ModelFailed, scopes: tuple[str, ...]
    ) -> None:
        """Journal what a call came to. When the store is away it is settled later, at its whole reservation."""
        try:
            await commit(caller, _outcome(caller, session, outcome, scopes))
        except StoreError as error:
            log.warning("what a call cost was not written", session=session, call=outcome.call, error=error.message)

    # --- what died --------------------------------------------------------------------------------------------------

    async def _settle_lost(self, caller: Caller) -> None:
        """Settle the intents of processes that died, looking at most once in `LOST_AFTER_S`."""
        now = caller.clock.now()
        looked = self._looked_at.get(caller.project)
        if looked is not None and now - looked < LOST_AFTER_S * _MICROS:
            return
        self._looked_at[caller.project] = now
        for session in (meter_of(caller, now - _DAY_US), meter_of(caller, now)):
            for left in await self._unfinished(caller, session):
                if now - left.at >= LOST_AFTER_S * _MICROS:
                    scopes = budget_scopes(session="", agent=AGENT, user=left.called.user, project=caller.project)
                    write = _outcome(caller, session, _failure(left.called, "lost", billed=True), scopes)
                    await commit(caller, replace(write, key=f"lost:{left.called.call}"))

    async def _unfinished(self, caller: Caller, session: str) -> list[_Open]:
        after, left = self._read.get(session, (0, {}))
        left = dict(left)
        while True:
            try:
                records = await caller.database.store.read(session, after=after, limit=_PAGE)
            except NotFound:
                return []
            for record in records:
                _follow(left, record.at, record.event)
            if len(records) < _PAGE:
                break
            after = records[-1].position
        after = records[-1].position if records else after
        self._read = {session: (after, left), **{k: v for k, v in self._read.items() if k != session}}
        return list(left.values())


def meter_of(caller: Caller, at: int | None = None) -> str:
    """The id of the session that counts the project's calls on the day of `at` (UTC; default: today)."""
    moment = (caller.clock.now() if at is None else at) / _MICROS
    return f"meter_{digest_of(caller.project.encode())[:16]}_{time.strftime('%Y%m%d', time.gmtime(moment))}"


def _follow(left: dict[str, _Open], at: int, event: Event) -> None:
    match event:
        case ModelCalled(call=call):
            left[call] = _Open(at, event)
        case ModelReplied(call=call) | ModelFailed(call=call):
            left.pop(call, None)
        case _:
            pass


def is_meter(s: Session) -> bool:
    """Whether a session is one of the meters, in which nobody may speak."""
    return s.agent == AGENT and s.version == spec_digest(_METER)


async def _open_meter(caller: Caller, session: str) -> None:
    try:
        await open_session(caller, _METER, Opening(title="Calls that keep nothing", session=session))
    except Conflict:
        return  # somebody else opened it just now


def _outcome(caller: Caller, session: str, outcome: ModelReplied | ModelFailed, scopes: tuple[str, ...]) -> Write:
    tokens = outcome.usage.total_tokens if isinstance(outcome, ModelReplied) else outcome.billed_tokens
    key = attempt_key(session, outcome.call, 1)
    charge = Charge("settle", key, scopes, outcome.cost_usd_micros or 0, tokens)
    return Write(session, (outcome,), caller.clock.now(), caller.actor, charges=(charge,))


def _failure(called: ModelCalled, kind: str, *, billed: bool) -> ModelFailed:
    """A failure in our words only: a provider's message may repeat what it was sent."""
    return ModelFailed(
        called.call,
        kind,
        "the call failed; nothing of it was kept",
        cost_usd_micros=(called.reserved_usd_micros or None) if billed else None,
        billed_tokens=called.reserved_tokens if billed else 0,
    )


def _input_bound(request: ModelRequest) -> int:
    size = len(msgspec.json.encode(request.messages)) + len(request.instructions.encode())
    tools = request.tools
    if tools:
        described = [(tool.name, tool.description, tool.parameters) for tool in tools]
        size += len(msgspec.json.encode(described)) + TOOLS_OVERHEAD_TOKENS + TOOL_OVERHEAD_TOKENS * len(tools)
    if request.settings.output_schema:
        size += len(msgspec.json.encode(request.settings.output_schema))
    for part in (part for message in request.messages for part in message.parts):
        size += IMAGE_TOKENS_MAX if isinstance(part, Image) else FILE_TOKENS_MAX if isinstance(part, File) else 0
    return input_tokens_bound(
        size=size + MESSAGE_OVERHEAD_TOKENS,
        messages=len(request.messages),
        counted_tokens=0,
        size_since=0,
        messages_since=0,
    )


async def _refuse_unpriced(caller: Caller, model: str, scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        for budget in await caller.database.controls.budgets(scope):
            if budget.unit == "usd_micros":
                raise BudgetExceeded(
                    f"No price is known for {model}, so the budget of {scope} cannot cover it. Nothing was sent. Give "
                    "it prices under [models.NAME] in remanence.toml.",
                    scope=scope,
                    unit="usd_micros",
                    limit=budget.limit,
                    used=budget.spent + budget.reserved,
                    needed=0,
                )
