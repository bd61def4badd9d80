"""What a session has used, and what a model call may use at most. Pure arithmetic on integers.

A budget is never overshot because the amount set aside before a call is an upper bound of what the call can cost:

* Output is bounded by the request itself (`output_tokens`).
* Input is bounded by bytes: no tokenizer in use makes more than one token of one byte, plus a few for each message and
  each tool. That alone would set aside four times too much, so when an earlier call of this window was counted by the
  provider, its count is taken for what it covered and only what came after is bounded by bytes.
* Pictures and documents are not counted by their bytes: for them the most that any provider makes of one is set aside.

What a call really cost replaces the reservation when it ends; a call whose outcome was lost with its worker is settled
at the whole reservation, because the money may have been spent.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache

import msgspec

from remanence.content import Usage
from remanence.errors import InvalidInput

DEFAULT_PROJECT = "default"
_NAMED_WITHIN = ("agent", "user")

MESSAGE_OVERHEAD_TOKENS = 16
"""More than any provider adds around one message."""
TOOL_OVERHEAD_TOKENS = 64
"""More than any provider adds around one tool."""
TOOLS_OVERHEAD_TOKENS = 1_024
"""More than any provider adds to a prompt because it has tools at all."""
IMAGE_TOKENS_MAX = 50_000
"""More than any provider makes of one picture."""
FILE_TOKENS_MAX = 2_000_000
"""More than any model reads: how long a document is that is not text, nobody knows before it was read."""


class Ledger(msgspec.Struct, frozen=True, omit_defaults=True):
    """Totals of one session. Money in micro-USD; `unpriced_calls` had no known price."""

    usage: Usage = Usage()
    usd_micros: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    unpriced_calls: int = 0

    def with_reply(self, usage: Usage, cost: int | None) -> Ledger:
        """The totals after one more model call."""
        return Ledger(
            usage=self.usage + usage,
            usd_micros=self.usd_micros + (cost or 0),
            model_calls=self.model_calls + 1,
            tool_calls=self.tool_calls,
            unpriced_calls=self.unpriced_calls + (cost is None),
        )

    def with_compaction(self, usage: Usage, cost: int | None) -> Ledger:
        """The totals after a compaction. Without a usage the call was lost, and only its cost is known."""
        return self.with_reply(usage, cost) if usage.total_tokens else self.with_cost(cost)

    def with_cost(self, cost: int | None) -> Ledger:
        """The totals after a call that gave no reply and may be billed all the same."""
        return Ledger(self.usage, self.usd_micros + (cost or 0), self.model_calls, self.tool_calls, self.unpriced_calls)


def input_tokens_bound(*, size: int, messages: int, counted_tokens: int, size_since: int, messages_since: int) -> int:
    """An upper bound of the input tokens of a prompt of `size` bytes in `messages` messages.

    `counted_tokens` is what the provider counted for the last call of this window (0: it never did); `size_since` bytes
    in `messages_since` messages were said after it left. Dropping old messages only makes a prompt smaller.
    """
    by_bytes = size + messages * MESSAGE_OVERHEAD_TOKENS
    if not counted_tokens:
        return by_bytes
    return min(by_bytes, counted_tokens + size_since + messages_since * MESSAGE_OVERHEAD_TOKENS)


_USD_END = 2**53 // 1_000_000
"""Amounts from here on are refused: as micro-USD they are more than JSON says exactly."""


def usd_to_micros(usd: str) -> int:
    """Micro-USD of a decimal amount such as `2.50`. Raises InvalidInput."""
    try:
        amount = Decimal(str(usd).removeprefix("$"))  # a program may hand a number in
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount < _USD_END:
        raise InvalidInput(f"{usd!r} is not an amount of money. Nothing was changed; write it like 2.50 (US dollars).")
    micros = amount * 1_000_000
    if micros != int(micros):
        raise InvalidInput(
            f"{usd!r} is finer than a millionth of a dollar, which nothing here counts. Nothing was changed; round it."
        )
    return int(micros)


def amount_words(amount: int, unit: str) -> str:
    """An amount as a person reads it: dollars to the cent or as finely as it is, or tokens."""
    if unit == "tokens":
        return f"{amount:,} tokens"
    sign, micros = ("-", -amount) if amount < 0 else ("", amount)
    whole, rest = divmod(micros, 1_000_000)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{digits}"


def attempt_key(session: str, call: str, attempt: int) -> str:
    """The name of one attempt of one model call: what its reservation is kept under."""
    return f"{session}:{call}:{attempt}"


@lru_cache(maxsize=4_096)  # asked at each call and outcome of a session, always alike
def budget_scopes(*, session: str, agent: str, user: str, project: str) -> tuple[str, ...]:
    """The scopes whose budgets a call of this session counts against, as they are kept."""
    named = (("session", session), ("agent", agent), ("user", user), ("project", project))
    return tuple(kept_scope(project, f"{kind}:{name}") for kind, name in named if name)


def kept_scope(project: str, scope: str) -> str:
    """The name under which the budget of a scope of a project is kept.

    Sessions and projects have one name in a database. Agents and users have theirs within a project: `agent:support` of
    the project `acme` is kept as `agent@acme:support`. In the default project it is kept as it is.
    """
    kind, _, name = scope.partition(":")
    if project == DEFAULT_PROJECT or kind not in _NAMED_WITHIN:
        return scope
    return f"{kind}@{escaped(project)}:{name}"


def own_scope(project: str, kept: str) -> str | None:
    """What a project calls a scope that is kept under this name; None when it belongs to another project.

    A session is answered as it is: whose it is, its row says.
    """
    kind, _, name = kept.partition(":")
    plain, _, owner = kind.partition("@")
    if plain in _NAMED_WITHIN:
        mine = owner == escaped(project) if owner else project == DEFAULT_PROJECT
        return f"{plain}:{name}" if mine else None
    return kept if kind != "project" or name == project else None


def escaped(project: str) -> str:
    """A project's name without a colon, which ends the kind. The migrations of the stores say the same in SQL."""
    return project.replace("%", "%25").replace(":", "%3A")
