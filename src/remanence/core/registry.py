"""Whether an agent can mean what it says, and what giving it a tool implies. Pure: specs in, specs out.

A `AgentSpec` built in Python is not checked when it is made. `checked` is the gate that every face of the project sends
a declaration through before it becomes a version: after it, every rule parses, every condition names arguments that
exist, and the encoding of the spec reads back as the same spec.

Giving an agent a function or a client's tool says that it may be called: unless an `AllowRule` of the agent's own
already speaks of that tool, one is implied. What asks or denies is severer and wins anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, NoReturn

import msgspec

from remanence.core.builtins import BUILTINS
from remanence.core.condition import ConditionError, parse, unknown_names
from remanence.core.memory_tools import MEMORY_TOOLS, tools_for
from remanence.errors import InvalidSpec, plain_words
from remanence.spec import AgentSpec, AllowRule, AskRule, Limits, MemoryUse, Rule, ToolSpec

__all__ = ["EXPIRES_S_MAX", "checked", "field_error", "implied_allows", "memory_use", "with_memory_tools"]

_AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STORE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMIT_END: Final = 2**53
EXPIRES_S_MAX: Final = 100 * 365 * 86_400
"""How long an approval may stand. Later dates are soon more than a database counts."""
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def implied_allows(tools: Iterable[ToolSpec], rules: Sequence[Rule]) -> tuple[AllowRule, ...]:
    """One `AllowRule` for each function or client's tool that no `AllowRule` among `rules` speaks of."""
    said = [rule.tools for rule in rules if isinstance(rule, AllowRule)]
    given = [tool.name for tool in tools if tool.kind in ("function", "client")]
    return tuple(AllowRule(name) for name in given if not any(fnmatchcase(name, glob) for glob in said))


def memory_use(given: bool | Literal["read", "write"] | MemoryUse) -> MemoryUse | None:
    """What a short word for memory stands for: `True` and `"write"` the default, `"read"` only looking."""
    if isinstance(given, MemoryUse):
        return given
    if not given:
        return None
    return MemoryUse(writes=()) if given == "read" else MemoryUse()


def with_memory_tools(tools: tuple[ToolSpec, ...], use: MemoryUse | None) -> tuple[ToolSpec, ...]:
    """The tools of an agent, and those its memory needs which it was not given itself."""
    names = {tool.name for tool in tools}
    return (*tools, *(tool for tool in tools_for(use) if tool.name not in names))


def checked(spec: AgentSpec) -> AgentSpec:
    """The spec as it will be read back from its own encoding. Raises `InvalidSpec`, with the path of the field."""
    try:
        spec = msgspec.json.decode(msgspec.json.encode(spec), type=AgentSpec)
    except msgspec.ValidationError as error:
        raise field_error(str(error), f"Agent {spec.name!r}") from None
    except (TypeError, ValueError, RecursionError) as error:
        _refuse(spec, "", f"it cannot be written as JSON: {error}")
    if not _AGENT_NAME.fullmatch(spec.name):
        _refuse(
            spec, "name", "a name has 1 to 64 letters, digits, `.`, `_` or `-`, and begins with a letter or a digit"
        )
    if not spec.model.strip():
        _refuse(spec, "model", "which model? Write `provider:name`, or an alias of the configuration")
    _check_limits(spec)
    _check_memory(spec)
    for index, tool in enumerate(spec.tools):
        _check_tool(spec, tool, f"tools[{index}]")
    for index, rule in enumerate(spec.rules):
        _check_rule(spec, rule, f"rules[{index}]")
    return spec


def field_error(message: str, whose: str) -> InvalidSpec:
    """A message of msgspec's (`Expected ... - at `$.a.b``) as ours, with the path of the field."""
    what, _, path = message.partition(" - at `$")
    path = path.removesuffix("`").removeprefix(".")
    return InvalidSpec(
        f"{whose}: {f'`{path}`: ' if path else ''}{plain_words(what)}. Nothing was kept.", param=path or None
    )


def _refuse(spec: AgentSpec, path: str, words: str) -> NoReturn:
    field = f"`{path}`: " if path else ""
    raise InvalidSpec(f"Agent {spec.name!r}: {field}{words}. Nothing was kept.", param=path or None)


def _check_limits(spec: AgentSpec) -> None:
    for name in Limits.__struct_fields__:
        value: float | str | None = getattr(spec.limits, name)
        if isinstance(value, int | float) and value <= 0:
            _refuse(spec, f"limits.{name}", f"{value} is not over 0")
        if isinstance(value, int | float) and value >= _LIMIT_END:
            _refuse(spec, f"limits.{name}", f"{value} is more than anything here counts to; leave it out for no limit")


def _check_memory(spec: AgentSpec) -> None:
    use = spec.memory
    if use is None:
        held = next((tool.name for tool in spec.tools if tool.kind == "builtin" and tool.name in MEMORY_TOOLS), None)
        if held:
            _refuse(spec, "memory", f"the tool {held} needs a memory; give the agent one with memory=True")
        return
    if not _STORE_NAME.fullmatch(use.store):
        _refuse(spec, "memory.store", f"{use.store!r} is not a name: 1 to 64 letters, digits, `.`, `_` or `-`")
    if use.recall_tokens < 0:
        _refuse(spec, "memory.recall_tokens", f"{use.recall_tokens} is under 0; 0 recalls only when the agent asks")
    if use.block_bytes <= 0:
        _refuse(spec, "memory.block_bytes", f"{use.block_bytes} is not over 0")


def _check_tool(spec: AgentSpec, tool: ToolSpec, path: str) -> None:
    if not _TOOL_NAME.fullmatch(tool.name):
        _refuse(spec, f"{path}.name", f"{tool.name!r} is not a name: 1 to 64 letters, digits, `_` or `-`")
    if sum(other.name == tool.name for other in spec.tools) > 1:
        _refuse(spec, f"{path}.name", f"two tools are called {tool.name!r}; a model could not tell them apart")
    if tool.kind == "builtin" and tool.name not in BUILTINS:
        _refuse(spec, f"{path}.name", f"there is no built-in tool {tool.name!r}; they are: {', '.join(BUILTINS)}")
    if tool.timeout_s <= 0:
        _refuse(spec, f"{path}.timeout_s", f"{tool.timeout_s:g} is not over 0")
    if tool.parameters.get("type") != "object" or not isinstance(tool.parameters.get("properties", {}), dict):
        _refuse(spec, f"{path}.parameters", "it must be a JSON Schema with `type` object")


def _check_rule(spec: AgentSpec, rule: Rule, path: str) -> None:
    matched = [tool for tool in spec.tools if fnmatchcase(tool.name, rule.tools)]
    if not matched and not set(rule.tools) & set("*?["):
        known = ", ".join(tool.name for tool in spec.tools) or "none"
        _refuse(spec, f"{path}.tools", f"there is no tool {rule.tools!r} here; the tools are: {known}")
    if rule.when:
        _check_condition(spec, rule, matched, path)
    if isinstance(rule, AskRule):
        if rule.needed < 1:
            _refuse(spec, f"{path}.needed", f"{rule.needed} is not a number of people, 1 or more")
        if rule.approvers and rule.needed > len(set(rule.approvers)):
            _refuse(spec, f"{path}.needed", f"{rule.needed} are needed, but only {len(set(rule.approvers))} may answer")
        if rule.expires_s is not None and rule.expires_s <= 0:
            _refuse(spec, f"{path}.expires_s", f"{rule.expires_s:g} is not over 0")
        if rule.expires_s is not None and rule.expires_s > EXPIRES_S_MAX:
            _refuse(spec, f"{path}.expires_s", f"{rule.expires_s:g} s is more than 100 years; leave it out for no end")


def _check_condition(spec: AgentSpec, rule: Rule, matched: Sequence[ToolSpec], path: str) -> None:
    """A condition must parse, and at least one tool the rule speaks of must have the arguments it names."""
    try:
        condition = parse(rule.when)
    except ConditionError as error:
        _refuse(spec, f"{path}.when", f"{rule.when!r}: {error}")
    unknown = [unknown_names(condition, tool.parameters) for tool in matched]
    if unknown and all(unknown):
        names = ", ".join(f"`{name}`" for name in unknown[0])
        _refuse(spec, f"{path}.when", f"{rule.when!r} names {names}, which {matched[0].name} does not take")
