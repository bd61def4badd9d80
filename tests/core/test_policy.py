"""The judge, as a table: which rules speak, and which of them wins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.core.policy import Allow, Ask, Deny, judge
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, Limits, Rule, ToolSpec

_PARAMETERS = {"type": "object", "properties": {"cents": {"type": "integer"}, "to": {"type": "string"}}}
PAY = ToolSpec("pay", parameters=_PARAMETERS)
LOOK = ToolSpec("look", parameters={"type": "object", "properties": {"id": {"type": "string"}}}, replay="safe")
ALLOW, ASK, DENY = AllowRule("*"), AskRule("pay"), DenyRule("pay")


def spec_of(*rules: Rule) -> AgentSpec:
    return AgentSpec("a", "scripted", tools=(PAY, LOOK), rules=rules, limits=Limits(repeats_before_asking=3))


@pytest.mark.parametrize(
    ("rules", "tool", "arguments", "verdict"),
    [
        # silence
        ((), PAY, {}, Deny),
        ((), LOOK, {}, Allow),
        ((AllowRule("other"),), PAY, {}, Deny),
        # the severest wins, in any order
        ((ALLOW,), PAY, {}, Allow),
        ((ALLOW, ASK), PAY, {}, Ask),
        ((ASK, ALLOW), PAY, {}, Ask),
        ((DENY, ASK, ALLOW), PAY, {}, Deny),
        ((ALLOW, ASK, DENY), PAY, {}, Deny),
        ((ALLOW, ASK, DENY), LOOK, {}, Allow),
        ((DenyRule("*"),), LOOK, {}, Deny),
        # globs
        ((AllowRule("p?y"),), PAY, {}, Allow),
        ((AllowRule("P*"),), PAY, {}, Deny),
        # conditions
        ((ALLOW, AskRule("pay", "cents > 5000")), PAY, {"cents": 5000}, Allow),
        ((ALLOW, AskRule("pay", "cents > 5000")), PAY, {"cents": 5001}, Ask),
        ((AllowRule("pay", "cents <= 10"),), PAY, {"cents": 10}, Allow),
        ((AllowRule("pay", "cents <= 10"),), PAY, {"cents": 11}, Deny),
        # what cannot be answered counts against the call
        ((AllowRule("pay", "cents <= 10"),), PAY, {}, Deny),
        ((AllowRule("pay", "cents <= 10"),), PAY, {"cents": "10"}, Deny),
        ((ALLOW, AskRule("pay", "cents > 5000")), PAY, {}, Ask),
        ((ALLOW, DenyRule("pay", "cents > 5000")), PAY, {"cents": "many"}, Deny),
        ((ALLOW, DenyRule("*", "cents > 5000")), PAY, {}, Deny),
        # but a rule for many tools does not speak of one that has no such argument
        ((ALLOW, DenyRule("*", "cents > 5000")), LOOK, {}, Allow),
        ((ALLOW, DenyRule("look", "cents > 5000")), LOOK, {}, Deny),
        # nor does a rule that nobody can read allow anything
        ((AllowRule("pay", "cents >"),), PAY, {"cents": 1}, Deny),
        ((ALLOW, AskRule("pay", "cents >")), PAY, {"cents": 1}, Ask),
        ((ALLOW, DenyRule("pay", "cents >")), PAY, {"cents": 1}, Deny),
    ],
)
def test_the_judge(rules: tuple[Rule, ...], tool: ToolSpec, arguments: dict[str, Any], verdict: type[Any]) -> None:
    assert type(judge(spec_of(*rules), tool, arguments)) is verdict


def test_a_verdict_says_which_rule_in_words() -> None:
    asked = judge(spec_of(ALLOW, AskRule("pay", "cents > 5000")), PAY, {"cents": 6000})
    assert asked.rule == "ask pay when cents > 5000"
    denied = judge(spec_of(DenyRule("pay", reason="closed on Sundays")), PAY, {})
    assert denied.rule == "deny pay: closed on Sundays"
    assert judge(spec_of(), PAY, {}).rule == "no rule allows pay, and it writes"


def test_several_asking_rules_are_asked_together() -> None:
    rules = (
        AskRule("pay", approvers=("grace", "boss", "ada"), expires_s=60),
        AskRule("p*", needed=2, expires_s=30),
        AskRule("pay", "cents > 1", approvers=("ada", "grace")),
    )
    asked = judge(spec_of(*rules), PAY, {"cents": 2})
    assert isinstance(asked, Ask)
    assert (asked.approvers, asked.needed, asked.expires_s) == (("grace", "ada"), 2, 30)
    nobody = (AskRule("pay", approvers=("grace",)), AskRule("pay", approvers=("ada",)))
    assert isinstance(judge(spec_of(*nobody), PAY, {}), Deny)


@pytest.mark.parametrize(
    ("rules", "tool", "third"), [((ALLOW,), PAY, Ask), ((), LOOK, Ask), ((), PAY, Deny), ((ALLOW, DENY), PAY, Deny)]
)
def test_a_loop_is_asked_about_unless_it_is_denied(rules: tuple[Rule, ...], tool: ToolSpec, third: type[Any]) -> None:
    assert type(judge(spec_of(*rules), tool, {}, repeats=2)) in (Allow, Deny)
    assert type(judge(spec_of(*rules), tool, {}, repeats=3)) is third


rules = st.one_of(
    st.builds(AllowRule, st.sampled_from(("*", "pay", "look")), st.sampled_from(("", "cents > 5", "cents >"))),
    st.builds(AskRule, st.sampled_from(("*", "pay")), st.sampled_from(("", "cents > 5")), needed=st.integers(0, 2)),
    st.builds(DenyRule, st.sampled_from(("*", "pay")), st.sampled_from(("", "cents > 5"))),
)
severity: dict[type[Any], int] = {Allow: 0, Ask: 1, Deny: 2}


@given(st.lists(rules, max_size=5), rules, st.sampled_from(({}, {"cents": 3}, {"cents": 9})), st.integers(0, 4))
def test_another_rule_that_asks_or_denies_never_opens_a_door(
    before: list[Rule], added: Rule, arguments: dict[str, Any], repeats: int
) -> None:
    less = judge(spec_of(*before), PAY, arguments, repeats=repeats)
    more = judge(spec_of(*before, added), PAY, arguments, repeats=repeats)
    if not isinstance(added, AllowRule):
        # To ask is less severe than the silence that denies: it is a rule that speaks.
        silent = less.rule.startswith("no rule allows")
        assert severity[type(more)] >= severity[type(less)] or (silent and isinstance(added, AskRule))
    assert type(judge(spec_of(added, *before), PAY, arguments, repeats=repeats)) is type(more), "order is no matter"
