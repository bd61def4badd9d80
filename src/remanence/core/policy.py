"""The judge: which calls may run, which wait for a person, which never run.

Every rule whose glob matches the tool and whose condition holds on the exact arguments speaks, and the severest wins:
deny over ask over allow. A condition that cannot be evaluated on these arguments (one is missing, or of another type)
counts against the call: it holds for ask and deny, and does not for allow. When no rule speaks, a tool that writes is
denied and one that only reads is allowed. A call repeated too often in one turn is asked about, whatever was allowed.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, assert_never

import msgspec

from remanence.core.condition import ConditionError, holds, parse
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


def judge(spec: AgentSpec, tool: ToolSpec, arguments: dict[str, Any], *, repeats: int = 0) -> Verdict:
    """The verdict on one exact call. `repeats` is how often this turn already made the very same call."""
    asks: list[Ask] = []
    allowed: Allow | None = None
    for rule in spec.rules:
        if not _speaks(rule, tool.name, arguments):
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
    if asks:
        return max(asks, key=lambda ask: (ask.needed, bool(ask.approvers)))
    if repeats >= spec.limits.repeats_before_asking:
        return Ask(f"loop: the same call was already made {repeats} times in this turn")
    if allowed:
        return allowed
    if tool.writes:
        return Deny(f"no rule allows {tool.name}, and it writes")
    return Allow(f"no rule speaks of {tool.name}, and it only reads")


def _speaks(rule: Rule, name: str, arguments: dict[str, Any]) -> bool:
    if not fnmatchcase(name, rule.tools):
        return False
    if not rule.when:
        return True
    try:
        return holds(parse(rule.when), arguments)
    except ConditionError:
        return not isinstance(rule, AllowRule)


def _words(verdict: str, rule: Rule, reason: str = "") -> str:
    when = f" when {rule.when}" if rule.when else ""
    return f"{verdict} {rule.tools}{when}" + (f": {reason}" if reason else "")
