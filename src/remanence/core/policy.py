"""The judge: which calls may run, which wait for a person, which never run.

Every rule whose glob matches the tool and whose condition holds on the exact arguments speaks, and the severest wins:
deny over ask over allow. When several ask, all of them are asked at once: the most approvers any of them needs, from
among those whom every one of them accepts, within the shortest time.

A condition that cannot be evaluated on these arguments (one is missing, or of another type) counts against the call: it
holds for ask and deny, and does not for allow; but a rule for many tools (`*`) does not speak of a tool that has no
argument of that name at all. When no rule speaks, a tool that writes is denied and one that only reads is allowed. A
call repeated too often in one turn is asked about, whatever was allowed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, assert_never

import msgspec

from remanence.core.condition import ConditionError, holds, parse, unknown_names
from remanence.core.memory_tools import MEMORY_BLOCK
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, Rule, ToolSpec

__all__ = ["Allow", "Ask", "Deny", "Verdict", "judge"]


class Allow(msgspec.Struct, frozen=True):
    """The call may run. `rule` says why, in words."""

    rule: str


class Ask(msgspec.Struct, frozen=True):
    """The call waits for `needed` different approvers, at most `expires_s` seconds when that is set."""

    rule: str
    approvers: tuple[str, ...] = ()
    needed: int = 1
    expires_s: float | None = None


class Deny(msgspec.Struct, frozen=True):
    """The call never runs; the model reads `rule`."""

    rule: str


Verdict = Allow | Ask | Deny
_POISONED = "this session has read what strangers may have written, and a block is an instruction in every session"


def judge(
    spec: AgentSpec, tool: ToolSpec, arguments: dict[str, Any], *, repeats: int = 0, untrusted: bool = False
) -> Verdict:
    """The verdict on one exact call. `repeats` is how often this turn already made the very same call; `untrusted`:
    the session has read what strangers may have written."""
    asks: list[Ask] = []
    allowed: Allow | None = None
    for rule in spec.rules:
        if not _speaks(rule, tool, arguments):
            continue
        match rule:
            case DenyRule(reason=reason):
                return Deny(_words("deny", rule, reason))
            case AskRule(approvers=approvers, needed=needed, expires_s=expires_s):
                asks.append(Ask(_words("ask", rule), approvers, max(1, needed), expires_s))
            case AllowRule():
                allowed = allowed or Allow(_words("allow", rule))
            case _:
                assert_never(rule)
    if untrusted and tool.kind == "builtin" and tool.name == MEMORY_BLOCK:
        asks.append(Ask(_POISONED))
    if asks:
        return _together(asks)
    if allowed is None and tool.writes:
        return Deny(f"no rule allows {tool.name}, and it writes")
    if repeats >= spec.limits.repeats_before_asking:
        return Ask(f"loop: the same call was already made {repeats} times in this turn")
    return allowed or Allow(f"no rule speaks of {tool.name}, and it only reads")


def _together(asks: list[Ask]) -> Ask | Deny:
    """One question that answers all of these rules."""
    named = [ask.approvers for ask in asks if ask.approvers]
    approvers = tuple(name for name in named[0] if all(name in names for names in named)) if named else ()
    needed = max(ask.needed for ask in asks)
    rule = "; ".join(ask.rule for ask in asks)
    if named and len(approvers) < needed:
        return Deny(f"no one may answer for all of these rules: {rule}")
    expiries = [ask.expires_s for ask in asks if ask.expires_s is not None]
    return Ask(rule, approvers, needed, min(expiries, default=None))


def _speaks(rule: Rule, tool: ToolSpec, arguments: dict[str, Any]) -> bool:
    if not fnmatchcase(tool.name, rule.tools):
        return False
    if not rule.when:
        return True
    against = not isinstance(rule, AllowRule)
    try:
        condition = parse(rule.when)
    except ConditionError:
        return against  # no version with such a rule is ever registered; a journal from elsewhere may name one
    try:
        return holds(condition, arguments)
    except ConditionError:
        if rule.tools != tool.name and unknown_names(condition, tool.parameters):
            return False
        return against


def _words(verdict: str, rule: Rule, reason: str = "") -> str:
    when = f" when {rule.when}" if rule.when else ""
    return f"{verdict} {rule.tools}{when}" + (f": {reason}" if reason else "")
