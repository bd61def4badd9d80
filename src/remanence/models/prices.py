"""What a model call costs, in micro-USD, rounded up: from the configuration, else from the bundled price list.

The price list (`genai-prices`) is data in a package; nothing is fetched. A model it does not know has no price: that is
said (None), never guessed, because a budget that counts a guess as money would lie.
"""

from __future__ import annotations

import decimal
from typing import TYPE_CHECKING, Any

import msgspec

from remanence.content import Usage, is_amount
from remanence.errors import InvalidConfig
from remanence.ports import Model

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = [
    "NOT_DEARER",
    "Prices",
    "context_window",
    "listed_price",
    "micros_per_million",
    "price_of",
    "priced",
    "tier_price",
]


_MILLION = 1_000_000
NOT_DEARER = ("", "auto", "default", "standard", "flex")
"""The service tiers that cost what the usual one does, or less: its price covers them."""


class Prices(msgspec.Struct, frozen=True, omit_defaults=True):
    """Micro-USD per million tokens. `cached` and `cache_write` are what reading and writing a cached prefix cost.

    None there means the price of any other input.
    """

    input: int
    output: int
    cached: int | None = None
    cache_write: int | None = None


def micros_per_million(value: Any, field: str) -> int:
    """A price in USD per million tokens (a text such as `"0.25"`, or a number) as micro-USD per million tokens.

    Raises `InvalidConfig` when it is not a price or finer than a micro-USD per million tokens.
    """
    try:
        # Through text, so that 0.1 in a file means a tenth and not the nearest binary fraction.
        usd = decimal.Decimal(str(value))
    except decimal.InvalidOperation:
        usd = decimal.Decimal("NaN")
    micros = usd * _MILLION
    if isinstance(value, bool) or not usd.is_finite() or usd < 0 or micros != micros.to_integral_value():
        raise InvalidConfig(
            f"{field} = {value!r} is not a price. Nothing was changed; write USD per million tokens, with at most six "
            'decimal places, such as "0.25".',
            param=field,
        )
    return int(micros)


def priced(prices: Prices, usage: Usage) -> int:
    """What `usage` costs at `prices`, in micro-USD, rounded up."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    plain = usage.input_tokens - cached - written
    total = (
        plain * prices.input
        + cached * (prices.input if prices.cached is None else prices.cached)
        + written * (prices.input if prices.cache_write is None else prices.cache_write)
        + usage.output_tokens * prices.output
    )
    return -(-total // _MILLION)


def price_of(model: Model, name: str, usage: Usage, tier: str = "") -> int | None:
    """What a model says that this usage costs in micro-USD; None when it does not know, or says nothing that counts.

    A model may be code of others. Without a price a session goes on, unless there is a budget in money to keep.
    """
    try:
        price: object = model.price(name, usage, *((tier,) if tier else ()))
    except Exception:  # noqa: BLE001 - a model is code of others, and the session must live
        _log().exception("a model's price could not be asked for; none is known", model=name)
        return None
    if price is None or is_amount(price):
        return price
    _log().warning(
        "a model's price is no whole number of micro-USD; none is known", model=name, price=repr(price)[:100]
    )
    return None


def tier_price(plain: int | None, tier: str) -> int | None:
    """A price that holds whatever the tier, for this one: None where it would be too low."""
    return plain if tier in NOT_DEARER else None


def listed_price(provider: str, model: str, usage: Usage, tier: str = "") -> int | None:
    """What `usage` costs by the bundled list, in micro-USD, rounded up; None when the model is not in it.

    `tier` is the service tier: one that may be dearer than the usual has a price only where the list names it.
    """
    from genai_prices import Usage as Counted
    from genai_prices import calc_price

    if tier not in NOT_DEARER and not _lists_tier(provider, model, tier):
        return None

    counted = Counted(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )
    try:
        found = calc_price(counted, model, provider_id=provider, price_context={"service_tier": tier} if tier else None)
    except (LookupError, ValueError):
        # Not listed, or listed without a price for one of these kinds of token.
        return None
    return int((found.total_price * _MILLION).to_integral_value(decimal.ROUND_CEILING))


def _lists_tier(provider: str, model: str, tier: str) -> bool:
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return False
    return any(variant.when == {"service_tier": tier} for variant in info.price_variants or ())


def context_window(provider: str, model: str) -> int | None:
    """How many tokens the model reads, by the bundled list; None when it does not say."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, info = get_snapshot().find_provider_model(model, None, provider, None)
    except LookupError:
        return None
    return info.context_window


def _log() -> FilteringBoundLogger:
    import structlog  # with what it loads itself: the help of a command, which comes by here, needs none of it

    return structlog.get_logger("remanence.models")
