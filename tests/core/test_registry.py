"""What an agent may not say, and what giving it a tool implies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from remanence.core.builtins import ASK_HUMAN
from remanence.core.policy import Allow, Ask, Deny, judge
from remanence.core.registry import checked, field_error, implied_allows
from remanence.errors import InvalidSpec
from remanence.spec import (
    AgentSpec,
    AllowRule,
    AskRule,
    DenyRule,
    Limits,
    ModelSettings,
    ToolSpec,
    policy_digest,
    spec_digest,
)

CENTS = {"type": "object", "properties": {"cents": {"type": "integer"}}}
REFUND = ToolSpec("refund", parameters=CENTS)
SEARCH = ToolSpec("search", parameters={"type": "object", "properties": {}}, replay="safe")
GOOD = AgentSpec("support", "openai:some-model", tools=(REFUND, SEARCH, ASK_HUMAN), rules=(AllowRule("refund"),))


def test_a_good_agent_is_itself() -> None:
    assert checked(GOOD) == GOOD
    assert spec_digest(checked(GOOD)) == spec_digest(GOOD)


def test_what_reads_back_differently_is_kept_as_it_reads_back() -> None:
    odd = replace(GOOD, settings=ModelSettings(extra={"stop": ("a", "b")}))
    assert checked(odd).settings.extra == {"stop": ["a", "b"]}
    assert checked(checked(odd)) == checked(odd)
    assert policy_digest(checked(odd)) == policy_digest(odd)


ANY: Any = 5


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"name": ""}, "name", "a name has 1 to 64"),
        ({"name": "a b"}, "name", "a name has 1 to 64"),
        ({"name": "all:x"}, "name", "a name has 1 to 64"),
        ({"name": ANY}, "name", "expected a text, got a whole number"),
        ({"model": " "}, "model", "which model"),
        ({"instructions": None}, "instructions", "expected a text"),
        ({"if_busy": "wait"}, "if_busy", "there is no choice 'wait'"),
        ({"metadata": {"a": 1}}, "metadata[...]", "expected a text"),
        ({"limits": Limits(window_tokens=0)}, "limits.window_tokens", "0 is not over 0"),
        ({"limits": Limits(session_usd_micros=-1)}, "limits.session_usd_micros", "-1 is not over 0"),
        ({"limits": Limits(session_tokens=2**70)}, "limits.session_tokens", "leave it out for no limit"),
        ({"limits": Limits(model_timeout_s=float("nan"))}, "limits.model_timeout_s", "expected a number"),
        ({"settings": ModelSettings(extra={"a": object()})}, None, "cannot be written as JSON"),
        ({"tools": (REFUND, REFUND)}, "tools[0].name", "two tools are called 'refund'"),
        ({"tools": (replace(REFUND, name="re fund"),)}, "tools[0].name", "is not a name"),
        (
            {"tools": (REFUND, replace(ASK_HUMAN, name="ask_dog"))},
            "tools[1].name",
            "there is no built-in tool 'ask_dog'",
        ),
        ({"tools": (replace(REFUND, timeout_s=0.0),)}, "tools[0].timeout_s", "0 is not over 0"),
        ({"tools": (replace(REFUND, replay=ANY),)}, "tools[0].replay", "expected a text"),
        (
            {"tools": (replace(REFUND, parameters={"type": "string"}),)},
            "tools[0].parameters",
            "JSON Schema with `type` object",
        ),
        ({"tools": (replace(REFUND, parameters={}),)}, "tools[0].parameters", "JSON Schema with `type` object"),
        (
            {"rules": (DenyRule("refnud"),)},
            "rules[0].tools",
            "there is no tool 'refnud' here; the tools are: refund, search",
        ),
        ({"rules": (AllowRule("refund"), DenyRule(""))}, "rules[1].tools", "there is no tool ''"),
        ({"rules": (AskRule("refund", when="cents >"),)}, "rules[0].when", "not a condition"),
        ({"rules": (AskRule("refund", when="  "),)}, "rules[0].when", "empty"),
        ({"rules": (AskRule("refund", when="cent > 5"),)}, "rules[0].when", "names `cent`, which refund does not take"),
        ({"rules": (AskRule("refund", needed=0),)}, "rules[0].needed", "0 is not a number of people"),
        ({"rules": (AskRule("refund", approvers=("ada",), needed=2),)}, "rules[0].needed", "only 1 may answer"),
        ({"rules": (AskRule("refund", expires_s=0.0),)}, "rules[0].expires_s", "0 is not over 0"),
        ({"rules": (AskRule("refund", expires_s=1e15),)}, "rules[0].expires_s", "more than 100 years"),
    ],
)
def test_an_agent_that_cannot_mean_what_it_says_is_refused(
    changes: dict[str, Any], param: str | None, says: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        checked(replace(GOOD, **changes))
    assert says in caught.value.message
    assert caught.value.param == param
    assert caught.value.message.endswith("Nothing was kept.")


@pytest.mark.parametrize(
    "rule",
    [
        DenyRule("shell*"),
        AskRule("*", when="cents > 5"),
        AskRule("re*", when="cents > 5", approvers=("ada", "bob"), needed=2, expires_s=60.0),
    ],
)
def test_rules_with_a_glob_may_speak_of_more_than_there_is(rule: Any) -> None:
    assert checked(replace(GOOD, rules=(rule,))).rules == (rule,)


def test_a_glob_whose_tools_all_lack_the_argument_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="names `cents`, which search does not take"):
        checked(replace(GOOD, rules=(AskRule("sear*", when="cents > 5"),)))


def test_a_tool_that_is_given_may_be_called_unless_its_own_allow_rule_says_when() -> None:
    client = ToolSpec("pick", kind="client")
    remote = ToolSpec("remote", kind="mcp")
    tools = (REFUND, SEARCH, ASK_HUMAN, client, remote)
    assert implied_allows(tools, ()) == (AllowRule("refund"), AllowRule("search"), AllowRule("pick"))
    assert implied_allows(tools, (AllowRule("re*", when="cents < 5"),)) == (AllowRule("search"), AllowRule("pick"))
    assert implied_allows(tools, (AllowRule("*"),)) == ()
    severe = (DenyRule("refund"), AskRule("search"))
    assert implied_allows(tools, severe) == (AllowRule("refund"), AllowRule("search"), AllowRule("pick"))


def test_the_severest_still_wins_over_what_is_implied() -> None:
    rules = (AskRule("refund", when="cents > 5000"), DenyRule("refund", when="cents > 90000"))
    spec = checked(replace(GOOD, rules=(*rules, *implied_allows((REFUND,), rules))))
    verdicts = [judge(spec, REFUND, arguments) for arguments in ({"cents": 1}, {"cents": 5001}, {"cents": 90001}, {})]
    assert [type(verdict) for verdict in verdicts] == [Allow, Ask, Deny, Deny]


def test_messages_of_the_decoder_name_the_field() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"name": "a", "model": "b", "limits": {"window_tokens": "x"}}, AgentSpec)
    error = field_error(str(caught.value), "agent.toml")
    assert error.param == "limits.window_tokens"
    assert error.message == "agent.toml: `limits.window_tokens`: expected a whole number, got a text. Nothing was kept."
    assert field_error("Object missing required field `name`", "x").param is None
