"""Agents: compiled from Python, declared in a file, loaded by name; and what is said when they cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remanence.agent import Agent, load_agents, spec_from_file, spec_from_json, spec_from_toml
from remanence.content import ToolCall
from remanence.errors import InvalidInput, InvalidSpec, NotFound
from remanence.ports import ToolCallContext
from remanence.spec import AgentSpec, AllowRule, AskRule, DenyRule, Limits, ModelSettings, spec_digest
from remanence.tools import ask_human, client_tool, sleep_until, tool


@tool(replay="keyed", approval="cents > 5000", approvers=["ada"], expires_s=60)
async def refund(order: str, cents: int, *, effect_key: str) -> str:
    """Refund an order."""
    return f"{order} {cents} {effect_key}"


@tool(replay="safe")
def search(text: str) -> str:
    return text


MODEL = "openai:some-model"


# --- in Python --------------------------------------------------------------------------------------------------------


def test_an_agent_compiles_to_a_spec() -> None:
    pick = client_tool("pick")
    agent = Agent(
        "support",
        model=MODEL,
        instructions="Help.",
        tools=[refund, search, ask_human, pick],
        rules=[DenyRule("refund", when="cents > 100000", reason="too much")],
        limits=Limits(window_tokens=10_000),
        settings=ModelSettings(temperature=0.5),
        if_busy="steer",
        metadata={"team": "care"},
    )
    assert agent.spec == AgentSpec(
        "support",
        MODEL,
        "Help.",
        tools=(refund.spec, search.spec, ask_human, pick),
        rules=(
            DenyRule("refund", when="cents > 100000", reason="too much"),
            AskRule("refund", "cents > 5000", ("ada",), 1, 60.0),
            AllowRule("refund"),
            AllowRule("search"),
            AllowRule("pick"),
        ),
        limits=Limits(window_tokens=10_000),
        settings=ModelSettings(temperature=0.5),
        if_busy="steer",
        metadata={"team": "care"},
    )
    assert agent.tools_by_name == {"refund": refund, "search": search}
    assert agent.name == "support"
    assert agent.version == spec_digest(agent.spec)
    assert repr(agent) == f"<Agent support {agent.version[:12]}>"


def test_an_agent_of_one_line_has_every_default() -> None:
    assert Agent("a", model=MODEL).spec == AgentSpec("a", MODEL)
    assert Agent("a", model=MODEL).version == Agent("a", model=MODEL).version
    assert Agent("a", model=MODEL).version != Agent("a", model="other").version


def test_an_allow_rule_of_ones_own_replaces_the_implied_one() -> None:
    agent = Agent("a", model=MODEL, tools=[search], rules=[AllowRule("search", when="len(text) < 100")])
    assert agent.spec.rules == (AllowRule("search", when="len(text) < 100"),)


async def test_a_tool_of_an_agent_runs() -> None:
    held = Agent("a", model=MODEL, tools=[refund]).tools_by_name["refund"]
    context = ToolCallContext("s", "default", "a", "ada", 1, "s:1:c", 1)
    outcome = await held.run(ToolCall("c", "refund", '{"order": "42", "cents": 5}'), context)
    assert not outcome.error
    assert await refund("42", 5, effect_key="k") == "42 5 k"


def plain() -> None: ...


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": ""}, "a name has 1 to 64"),
        ({"model": ""}, "which model"),
        ({"tools": [refund, refund]}, "two tools are called 'refund'"),
        ({"tools": [ask_human, client_tool("ask_human")]}, "two tools are called 'ask_human'"),
        ({"tools": [plain]}, "plain is not a tool; decorate the function with @tool"),
        ({"tools": ["sleep_until"]}, "'sleep_until' is a name; give the object"),
        ({"tools": [5]}, "5 is not a tool"),
        ({"tools": [refund.spec]}, "'refund' is only the description of a function tool"),
        ({"tools": [client_tool("pi ck")]}, "'pi ck' is not a name"),
        ({"tools": [client_tool("pick", {"type": "array"})]}, "JSON Schema with `type` object"),
        ({"rules": [AllowRule("refund")]}, "there is no tool 'refund' here; the tools are: none"),
        ({"limit": Limits()}, "no such option: limit. They are rules, limits, settings"),
        ({"tools": refund}, "`tools`: a list of tools is needed, and this is <tool refund>"),
        ({"tools": None}, "`tools`: a list of tools is needed"),
        ({"tools": "ask_human"}, "`tools`: a list of tools is needed"),
        ({"rules": None}, "`rules`: a list of `AllowRule`, `AskRule` or `DenyRule` is needed"),
        ({"rules": ["deny"]}, "`rules[0]`: `AllowRule`, `AskRule` or `DenyRule` is needed, and this is 'deny'"),
        ({"rules": [{"type": "deny", "tools": "*"}]}, "`rules[0]`: `AllowRule`, `AskRule` or `DenyRule` is needed"),
        ({"mcp": ["http://a"]}, "`mcp[0]`: `McpServer(...)` is needed, and this is 'http://a'"),
        ({"limits": {"session_usd_microcents": 5}}, "`limits.session_usd_microcents`: there is no such field"),
        ({"settings": {"temprature": 0}}, "`settings.temprature`: there is no such field"),
        ({"memory": "raed"}, "`memory`: 'raed' is not True, False, 'read', 'write' or a `MemoryUse`"),
        ({"memory": 1}, "`memory`: 1 is not True"),
        ({"metadata": ["a"]}, "`metadata`: a dict of texts is needed, and this is ['a']"),
    ],
)
def test_an_agent_that_cannot_mean_what_it_says_is_refused(arguments: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {"name": "a", "model": MODEL, **arguments}
    with pytest.raises(InvalidSpec) as caught:
        Agent(**given)
    assert says in caught.value.message


def test_a_table_of_limits_is_read_as_limits() -> None:
    limits: Any = {"model_calls_per_turn": 3}
    assert Agent("a", model=MODEL, limits=limits).spec.limits == Limits(model_calls_per_turn=3)
    everything: Any = {"refund": refund}
    assert [tool.name for tool in Agent("a", model=MODEL, tools=everything.values()).spec.tools] == ["refund"]


# --- declared in a file -----------------------------------------------------------------------------------------------

TOML = """
name = "support"
model = "openai:some-model"
instructions = "Help."
if_busy = "steer"
tools = ["ask_human", { name = "sleep_until", kind = "builtin" }]

[[rules]]
type = "ask"
tools = "*"
when = "len(question) > 500"
approvers = ["ada"]

[limits]
window_tokens = 10000

[settings]
temperature = 0.5
extra = { anything = [1, 2] }

[metadata]
team = "care"
"""
PICK = """
name = "support"
model = "m"

[[tools]]
name = "pick"
kind = "client"
description = "Pick an item."
parameters = { properties = { item = { type = "string" } } }
"""


def test_an_agent_declared_in_toml() -> None:
    assert spec_from_toml(TOML) == AgentSpec(
        "support",
        MODEL,
        "Help.",
        tools=(ask_human, sleep_until),
        rules=(AskRule("*", when="len(question) > 500", approvers=("ada",)),),
        limits=Limits(window_tokens=10_000),
        settings=ModelSettings(temperature=0.5, extra={"anything": [1, 2]}),
        if_busy="steer",
        metadata={"team": "care"},
    )
    pick = spec_from_toml(PICK)
    assert pick.tools == (client_tool("pick", {"properties": {"item": {"type": "string"}}}, "Pick an item."),)
    assert pick.rules == (AllowRule("pick"),)


def test_an_exported_spec_reads_back_as_the_same_version() -> None:
    agent = Agent(
        "support", model=MODEL, tools=[refund, search, ask_human, client_tool("pick")], rules=[AllowRule("re*")]
    )
    exported = msgspec.json.encode(agent.spec)
    assert spec_from_json(exported) == agent.spec
    assert spec_digest(spec_from_json(exported.decode())) == agent.version


@pytest.mark.parametrize(
    ("text", "param", "says"),
    [
        ("name = ", None, "not TOML: Invalid value (at "),
        ('name = "a"', None, "there has to be a field `model`"),
        ('name = "a"\nmodel = 5', "model", "expected a text, got a whole number"),
        (
            'name = "a"\nmodel = "m"\ninstruction = "x"',
            "instruction",
            "there is no such field; they are: name, model, instructions",
        ),
        ('name = "a"\nmodel = "m"\n[limits]\nwindow = 5', "limits.window", "there is no such field"),
        (
            'name = "a"\nmodel = "m"\n[limits]\nwindow_tokens = "5"',
            "limits.window_tokens",
            "expected a whole number, got a text",
        ),
        ('name = "a"\nmodel = "m"\n[limits]\nwindow_tokens = 0', "limits.window_tokens", "0 is not over 0"),
        ('name = "a"\nmodel = "m"\n[settings]\ntemp = 1', "settings.temp", "there is no such field"),
        ('name = "a"\nmodel = "m"\nlimits = 5', "limits", "expected a table, got a whole number"),
        ('name = "a"\nmodel = "m"\ntools = ["ask_dog"]', "tools[0].name", "there is no built-in tool 'ask_dog'"),
        ('name = "a"\nmodel = "m"\ntools = [5]', "tools[0]", "expected a table, got a whole number"),
        ('name = "a"\nmodel = "m"\ntools = 5', "tools", "expected a list, got a whole number"),
        ('name = "a"\nmodel = "m"\n[[tools]]\nname = "x"', "tools[0].kind", "is required: `client`"),
        (
            'name = "a"\nmodel = "m"\n[[tools]]\nname = "x"\nkind = "clown"',
            "tools[0].kind",
            "there is no choice 'clown'",
        ),
        (
            'name = "a"\nmodel = "m"\n[[tools]]\nname = "x"\nkind = "client"\nschema = 1',
            "tools[0].schema",
            "no such field",
        ),
        (
            'name = "a"\nmodel = "m"\n[[tools]]\nname = "x"\nkind = "client"\nparameters = 1',
            "tools[0].parameters",
            "expected",
        ),
        ('name = "a"\nmodel = "m"\n[[rules]]\ntools = "*"', "rules[0]", "there has to be a field `type`"),
        (
            'name = "a"\nmodel = "m"\n[[rules]]\ntype = "maybe"\ntools = "*"',
            "rules[0].type",
            "there is no choice 'maybe'",
        ),
        (
            'name = "a"\nmodel = "m"\n[[rules]]\ntype = "deny"\ntools = "*"\nneeded = 2',
            "rules[0].needed",
            "no such field",
        ),
        (
            'name = "a"\nmodel = "m"\n[[rules]]\ntype = "deny"\ntools = "*"\nwhen = "x >"',
            "rules[0].when",
            "not a condition",
        ),
        ('name = "a"\nmodel = "m"\nrules = ["deny"]', "rules[0]", "expected a table, got a text"),
    ],
)
def test_a_bad_declaration_names_the_field(text: str, param: str | None, says: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        spec_from_toml(text, source="agent.toml")
    assert says in caught.value.message
    assert caught.value.param == param
    assert caught.value.message.endswith("Nothing was kept.")


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '"a"', "null", "[" * 100_000, "\ud800"])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"not JSON|an agent is a table"):
        spec_from_json(text)


def test_a_file_is_read_by_its_ending(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(PICK)
    (tmp_path / "agent.json").write_bytes(msgspec.json.encode(spec_from_toml(PICK)))
    assert spec_from_file(tmp_path / "agent.toml") == spec_from_file(tmp_path / "agent.json")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InvalidSpec, match="cannot be read"):
        spec_from_file(tmp_path / "latin.toml")
    with pytest.raises(InvalidSpec, match="cannot be read"):
        spec_from_file(tmp_path)
    with pytest.raises(NotFound, match="There is no file"):
        spec_from_file(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text('name = "a"')
    with pytest.raises(InvalidSpec, match=r"bad\.toml: there has to be a field `model`"):
        spec_from_file(tmp_path / "bad.toml")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["instructions", "tools", "rules", "limits", "settings", "if_busy", "metadata", "x"]
INNER = ["name", "kind", "type", "tools", "when", "parameters", "window_tokens", "x"]
TABLES = st.dictionaries(
    st.sampled_from(INNER), JSON | st.sampled_from(["client", "builtin", "ask", "*", "a > 1"]), max_size=4
)
DECLARED = st.fixed_dictionaries(
    {"name": st.just("a"), "model": st.just("m")},
    optional={name: JSON | TABLES | st.lists(TABLES | st.just("ask_human"), max_size=3) for name in FIELDS},
)


@given(DECLARED)
def test_any_declaration_is_an_agent_or_refused(declared: dict[str, Any]) -> None:
    text = msgspec.json.encode(declared)
    try:
        spec = spec_from_json(text)
    except InvalidSpec:
        return
    assert spec_from_json(msgspec.json.encode(spec)) == spec


# --- loaded from Python -----------------------------------------------------------------------------------------------

SUPPORT = """
from __future__ import annotations
from dataclasses import dataclass
from words import HELLO
from remanence import Agent, tool

@dataclass
class Order:
    number: str

@tool
def look_up(order: Order) -> str:
    return order.number

support = Agent("support", model="m", instructions=HELLO, tools=[look_up])
others = [Agent("second", model="m"), support]
number = 5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an agent's file, as the current one; the interpreter is left as it was."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "support.py").write_text(SUPPORT)
    (tmp_path / "words.py").write_text('HELLO = "Hello."')
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name in ("support", "words", "broken") or name.startswith("_agents_"):
            del sys.modules[name]


def names(target: str) -> list[str]:
    return [agent.name for agent in load_agents(target)]


def test_agents_are_found_by_file_and_by_module(folder: Path) -> None:
    for target in ("support.py", "support", str(folder / "support.py"), "./support.py"):
        assert names(target) == ["support", "second"]
    for target in ("support.py:support", "support:support", f"{folder}/support.py:support"):
        assert names(target) == ["support"]
    assert names("support:others") == ["second", "support"]
    (agent,) = load_agents("support.py:support")
    assert agent.spec.instructions == "Hello."
    assert list(agent.tools_by_name) == ["look_up"]


def test_a_file_is_read_anew_each_time(folder: Path) -> None:
    assert names("support.py:support") == ["support"]
    (folder / "support.py").write_text(SUPPORT.replace('"support"', '"another"'))
    assert names("support.py:support") == ["another"]


@pytest.mark.parametrize(
    ("target", "kind", "says"),
    [
        ("none.py", NotFound, "There is no file none.py. Check the path; it is relative to "),
        ("none", NotFound, "There is no Python module 'none'"),
        ("none.deeper:agent", NotFound, "There is no Python module 'none'"),
        ("support.py:nothing", NotFound, "there is no 'nothing'; the agents there are: support"),
        ("words.py:agent", NotFound, "there is no agent there at all"),
        ("support.py:number", InvalidSpec, "is of type int, not an Agent nor a list of them"),
        ("words.py", InvalidSpec, "words.py holds no agent"),
        ("", InvalidInput, "does not say where an agent is"),
        ("some folder/x", InvalidInput, "does not say where an agent is"),
        ("support.py:", InvalidInput, "does not say where an agent is"),
    ],
)
def test_a_target_that_leads_nowhere_says_so(folder: Path, target: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        load_agents(target)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\nraise ValueError('out of luck')", "(broken.py, line 2): ValueError: out of luck"),
        ("def f():\n    return missing\n\nf()", "(broken.py, line 2): NameError: name 'missing' is not defined"),
        ("x = 1\nx = (", "(broken.py, line 2): SyntaxError: '(' was never closed"),
        ("import nowhere", "(broken.py, line 1): ModuleNotFoundError: No module named 'nowhere'"),
        ("import sys\nsys.exit(3)", "(broken.py, line 2): SystemExit: 3"),
        ("import json\njson.loads('{')", "(broken.py, line 2): JSONDecodeError: "),
        ("from remanence import Agent\n\nAgent('', model='m')", "(broken.py, line 3): Agent '': `name`: a name has"),
        (
            "from remanence import tool\n@tool\ndef f(x): ...",
            "(broken.py, line 2): Tool `f` (broken.py, line 2): the parameter `x`",
        ),
        ("from remanence import Agent\na = Agent('a', model='m')\nb = Agent('a', model='m')", "two agents called 'a'"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why_and_where(folder: Path, source: str, says: str) -> None:
    (folder / "broken.py").write_text(dedent(source))
    for target in ("broken.py", "broken"):
        with pytest.raises(InvalidSpec) as caught:
            load_agents(target)
        assert says in caught.value.message
