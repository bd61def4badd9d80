"""Asking a tool what became of an effect that nobody vouches for; its answer, or that it gave none, is a fact."""

from __future__ import annotations

import structlog

from remanence.core.state import Doubt
from remanence.events import ToolLost, ToolResolved
from remanence.models import keepable
from remanence.patience import STOP_GRACE_S, within
from remanence.ports import Tool, ToolOutcome
from remanence.runtime.services import Services

__all__ = ["RECONCILES_MAX", "reconcile_doubt"]

log = structlog.get_logger("remanence.effects")

_MICROS = 1_000_000
RECONCILE_FIRST_S, RECONCILE_LAST_S = 5.0, 21_600.0
"""A `reconcile` that failed is asked again after the first pause, then each time after three times the last one."""
RECONCILES_MAX = 20
"""It is given up after so many failures, which is after about three days; then only a person can settle the doubt."""
REASON_MAX_CHARS = 500


async def reconcile_doubt(services: Services, tool: Tool, doubt: Doubt) -> ToolResolved | ToolLost | None:
    """Ask the tool what became of an effect; None when it cannot tell, and a person must.

    When asking it failed, the doubt stands and that is a fact of its own, with the moment to ask again.
    """
    try:
        found = await within(tool.reconcile(doubt.effect_key), tool.spec.timeout_s, STOP_GRACE_S)
    except TimeoutError:
        return _asked_in_vain(services, doubt, f"reconcile gave no answer within {tool.spec.timeout_s:g} s")
    except Exception as error:  # noqa: BLE001 - whatever it was, it is journaled
        log.warning("reconcile failed", tool=doubt.tool, effect_key=doubt.effect_key, error=repr(error))
        return _asked_in_vain(services, doubt, f"reconcile failed ({type(error).__name__}: {error})")
    if found is None:
        return None
    if isinstance(found, ToolOutcome):
        return _settled(services, doubt, found)
    if found == "not_happened":
        return ToolResolved(doubt.call, "run_again", "reconcile")
    return _asked_in_vain(services, doubt, f"reconcile answered {found!r:.100}, which means nothing here")


def _settled(services: Services, doubt: Doubt, found: ToolOutcome) -> ToolResolved | ToolLost:
    resolved = ToolResolved(doubt.call, "happened", "reconcile", found.parts, found.error)
    if unfit := keepable.unfit(resolved):
        return _asked_in_vain(services, doubt, f"what reconcile answered cannot be kept: {unfit}")
    return resolved


def _asked_in_vain(services: Services, doubt: Doubt, why: str) -> ToolLost:
    asked, retry_at = doubt.asked + 1, None
    if asked < RECONCILES_MAX:
        pause_s = min(RECONCILE_LAST_S, RECONCILE_FIRST_S * 3**doubt.asked)
        retry_at = services.clock.now() + int(pause_s * services.dice.uniform(0.75, 1.25) * _MICROS)
    return ToolLost(doubt.call, doubt.effect_key, doubt.tool, keepable.words(why)[:REASON_MAX_CHARS], asked, retry_at)
