"""Agents in Python: what a person declares, compiled to the `AgentSpec` that sessions pin, and loaded from a file.

An `Agent` is a spec (data: its digest is the version) and, beside it, the Python objects that run its function tools.
The spec is what is stored; the objects are what this process can do. Whatever cannot mean what it says raises
`InvalidSpec` here, before a session can be opened with it.
"""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, NoReturn, TypedDict, Unpack, cast, get_args

import msgspec

from remanence.content import digest_of
from remanence.core.builtins import BUILTINS
from remanence.core.registry import checked, field_error, implied_allows, memory_use, with_memory_tools
from remanence.errors import InvalidInput, InvalidSpec, NotFound, RemanenceError
from remanence.ports import Tool
from remanence.spec import (
    AgentSpec,
    AllowRule,
    AskRule,
    DenyRule,
    IfBusy,
    Limits,
    MemoryUse,
    ModelSettings,
    Rule,
    ToolSpec,
    spec_digest,
)
from remanence.tools import FunctionTool, tool
from remanence.tools.mcp import McpServer

__all__ = ["Agent", "AgentOptions", "load_agents", "spec_from_file", "spec_from_json", "spec_from_toml", "tool"]


class AgentOptions(TypedDict, total=False):
    """The less common fields of an agent; `remanence.spec.AgentSpec` says what each means."""

    rules: Sequence[Rule]
    limits: Limits
    settings: ModelSettings
    if_busy: IfBusy
    metadata: Mapping[str, str]
    memory: bool | Literal["read", "write"] | MemoryUse
    mcp: Sequence[McpServer]


class Agent:
    """An agent: `Agent("support", model="openai:...", instructions="...", tools=[refund, ask_human])`.

    `tools` are functions decorated with `@tool`, built-ins (`ask_human`, `sleep_until`), or `client_tool(...)`. A tool
    given here may be called, unless a rule says otherwise; its `approval=` asks first. Raises `InvalidSpec`.

    `mcp=[McpServer(...)]` gives it the tools of MCP servers: they are asked now what they offer, which is then part of
    the version.

    `memory=True` (or `"write"`) gives it long-term memory: the store `default` of its project, and the tools to look
    things up and to note them. `"read"` lets it look, a `MemoryUse` says it all. Without, it has none.
    """

    def __init__(
        self,
        name: str,
        *,
        model: str,
        instructions: str = "",
        tools: Sequence[Tool | ToolSpec] = (),
        **options: Unpack[AgentOptions],
    ) -> None:
        unknown = sorted(options.keys() - AgentOptions.__annotations__.keys())
        if unknown:
            known = ", ".join(AgentOptions.__annotations__)
            raise InvalidSpec(
                f"Agent {name!r}: no such option: {', '.join(unknown)}. They are {known}.", param=unknown[0]
            )
        source = f"Agent {name!r}"
        _check_options(source, options)
        self.servers: tuple[McpServer, ...] = _several(
            source, "mcp", options.get("mcp", ()), (McpServer,), "`McpServer(...)`"
        )
        tools = (
            *_several(source, "tools", tools, (object,), "tools"),
            *(one for server in self.servers for one in server.offered_now()),
        )
        use = memory_use(options.get("memory", False))
        specs = with_memory_tools(tuple(_spec_of(name, given) for given in tools), use)
        rules: tuple[Rule, ...] = _several(
            source, "rules", options.get("rules", ()), get_args(Rule), "`AllowRule`, `AskRule` or `DenyRule`"
        )
        said = [rule.tools for rule in rules if isinstance(rule, AllowRule)]
        remote = [AllowRule(spec.name) for spec in specs if spec.kind == "mcp"]
        allows = tuple(rule for rule in remote if not any(fnmatchcase(rule.tools, glob) for glob in said))
        asks = tuple(given.approval for given in tools if isinstance(given, FunctionTool) and given.approval)
        self.tools_by_name: dict[str, Tool] = {
            given.spec.name: given for given in tools if not isinstance(given, ToolSpec)
        }
        self.spec: AgentSpec = checked(
            AgentSpec(
                name=name,
                model=model,
                instructions=instructions,
                tools=specs,
                rules=(*rules, *asks, *allows, *implied_allows(specs, rules)),
                limits=options.get("limits", Limits()),
                settings=options.get("settings", ModelSettings()),
                if_busy=options.get("if_busy", "queue"),
                metadata=dict(options.get("metadata", {})),
                memory=use,
            )
        )

    def __repr__(self) -> str:
        return f"<Agent {self.spec.name} {self.version[:12]}>"

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def version(self) -> str:
        """The digest of the spec, 64 hexadecimal digits."""
        return spec_digest(self.spec)


def _several(source: str, name: str, given: Any, kinds: tuple[type, ...], words: str) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        _refuse(source, name, f"a list of {words} is needed, and this is {given!r:.100}")
    found = tuple(cast("Iterable[object]", given))
    for index, one in enumerate(found):
        if not isinstance(one, kinds):
            _refuse(source, f"{name}[{index}]", f"{words} is needed, and this is {one!r:.100}")
    return found


def _check_options(source: str, options: AgentOptions) -> None:
    """What would be dropped, or fail in words of Python's, further on. Raises `InvalidSpec`."""
    for name, kind in (("limits", Limits), ("settings", ModelSettings)):
        # A dict is read as the struct it describes; a misspelt limit must not be silently left out.
        _check_fields(options.get(name), kind, f"{name}.", source)
    memory: object = options.get("memory", False)
    if not isinstance(memory, bool | MemoryUse | None) and memory not in ("read", "write"):
        _refuse(source, "memory", f"{memory!r:.100} is not True, False, 'read', 'write' or a `MemoryUse`")
    metadata: object = options.get("metadata", {})
    if not isinstance(metadata, Mapping):
        _refuse(source, "metadata", f"a dict of texts is needed, and this is {metadata!r:.100}")


def _spec_of(agent: str, given: Tool | ToolSpec) -> ToolSpec:
    if isinstance(given, ToolSpec):
        if given.kind in ("client", "builtin"):
            return given
        words = f"{given.name!r} is only the description of a {given.kind} tool; give the tool itself"
    else:
        spec: object = getattr(given, "spec", None)
        if isinstance(spec, ToolSpec):
            return spec
        if isinstance(given, str) and given in BUILTINS:
            words = f"{given!r} is a name; give the object: `from remanence.tools import {given}`"
        else:
            name: str = getattr(given, "__name__", repr(given))
            words = f"{name} is not a tool; decorate the function with @tool"
    raise InvalidSpec(f"Agent {agent!r}: `tools`: {words}.", param="tools")


# --- declared in a file -----------------------------------------------------------------------------------------------

_NO_PARAMETERS: Final[dict[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}
_RULES: Final[dict[str, type[Rule]]] = {"allow": AllowRule, "ask": AskRule, "deny": DenyRule}


def spec_from_toml(text: str, *, source: str = "the agent's TOML") -> AgentSpec:
    """The agent a TOML text declares. `source` names it in errors. Raises `InvalidSpec` with the path of the field."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSpec(f"{source}: not TOML: {error}. Nothing was kept.") from None
    for index, declared in enumerate(_listed(raw, "tools")):
        if isinstance(declared, dict) and "kind" not in declared:
            words = "is required: `client` (the application runs it), `builtin`, or `function` (a worker has it)"
            _refuse(source, f"tools[{index}].kind", words)
    return _declared(raw, source)


def spec_from_json(text: str | bytes, *, source: str = "the agent's JSON") -> AgentSpec:
    """The agent a JSON text declares: also what an exported spec reads back as, under the same version."""
    try:
        raw: object = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"{source}: not JSON: {error}. Nothing was kept.") from None
    return _declared(raw, source)


def spec_from_file(path: Path) -> AgentSpec:
    """The agent that an `agent.toml` or a `.json` file declares. Raises `NotFound` and `InvalidSpec`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}. Nothing was kept; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpec(f"{path} cannot be read: {error}. Nothing was kept.") from None
    read = spec_from_json if path.suffix == ".json" else spec_from_toml
    return read(text, source=str(path))


def _declared(raw: object, source: str) -> AgentSpec:
    if not isinstance(raw, dict):
        raise InvalidSpec(f"{source}: an agent is a table with at least `name` and `model`. Nothing was kept.")
    fields = cast("dict[str, Any]", raw)
    _check_fields(fields, AgentSpec, "", source)
    for name, kind in (("limits", Limits), ("settings", ModelSettings), ("memory", MemoryUse)):
        _check_fields(fields.get(name), kind, f"{name}.", source)
    if isinstance(fields.get("memory"), bool | str):
        fields = {**fields, "memory": _memory_declared(fields["memory"], source)}
    for index, rule in enumerate(_entries(fields, "rules")):
        _check_fields(rule, _RULES.get(str(rule.get("type")), AskRule), f"rules[{index}].", source)
    tools = [_tool_declared(given, f"tools[{index}]", source) for index, given in enumerate(_listed(fields, "tools"))]
    try:
        spec = msgspec.convert({**fields, "tools": tools} if tools else fields, AgentSpec)
    except msgspec.ValidationError as error:
        raise field_error(str(error), source) from None
    given = with_memory_tools(spec.tools, spec.memory)
    rules = (*spec.rules, *implied_allows(given, spec.rules))
    return checked(msgspec.structs.replace(spec, tools=given, rules=rules))


def _memory_declared(given: Any, source: str) -> Any:
    """`memory = true`, `"read"` or `"write"`, as the table it stands for."""
    if given not in (True, False, "read", "write"):
        _refuse(source, "memory", f"{given!r} is not true, false, `read`, `write` or a table")
    return msgspec.to_builtins(memory_use(given))


def _listed(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def _entries(fields: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    yield from (cast("dict[str, Any]", entry) if isinstance(entry, dict) else {} for entry in _listed(fields, name))


def _tool_declared(given: Any, path: str, source: str) -> Any:
    """A tool as declared: a built-in by its name alone, or a table."""
    if isinstance(given, str):
        given = {"name": given, "kind": "builtin"}
    if not isinstance(given, dict):
        return cast("object", given)
    fields = cast("dict[str, Any]", given)
    _check_fields(fields, ToolSpec, f"{path}.", source)
    if fields.get("kind") == "builtin" and fields.get("name") in BUILTINS and len(fields) == 2:
        return msgspec.to_builtins(BUILTINS[fields["name"]])
    parameters: object = fields.get("parameters", _NO_PARAMETERS)
    if isinstance(parameters, dict):
        parameters = {"type": "object", **cast("dict[str, Any]", parameters)}
    return {**fields, "parameters": parameters}


def _check_fields(given: object, kind: type[msgspec.Struct], path: str, source: str) -> None:
    """A misspelt field must not be silently left out."""
    if not isinstance(given, dict):
        return
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    tag = kind.__struct_config__.tag_field
    for name in cast("dict[str, Any]", given):
        if name not in known and name != tag:
            _refuse(source, f"{path}{name}", f"there is no such field; they are: {', '.join(known)}")


def _refuse(source: str, path: str, words: str) -> NoReturn:
    raise InvalidSpec(f"{source}: `{path}`: {words}. Nothing was kept.", param=path)


# --- loaded from Python -----------------------------------------------------------------------------------------------

_TARGET: Final = re.compile(r"(?:(?P<path>.+\.py)|(?P<module>\w+(?:\.\w+)*))(?::(?P<attribute>\w+(?:\.\w+)*))?")
_PACKAGE: Final = Path(__file__).parent


def load_agents(target: str) -> list[Agent]:
    """The agents of `module:attribute`, `module`, `path/to/file.py` or `path/to/file.py:attribute`.

    Without an attribute, all that stand at the top level. A file is read anew each time. Raises `NotFound` when there
    is no such module, file or attribute, `InvalidSpec` when importing it fails (with the line) or it holds no agent.
    """
    found = _TARGET.fullmatch(target.strip())
    if found is None:
        raise InvalidInput(
            f"{target!r} does not say where an agent is: write `module:agent` or `path/to/file.py:agent`."
        )
    path, name, attribute = found.group("path", "module", "attribute")
    module = _module_of_file(Path(path)) if path else _module_called(name)
    agents = list(_agents_in(vars(module).values()) if attribute is None else _agents_at(module, attribute, target))
    if not agents:
        raise InvalidSpec(f"{target} holds no agent: it needs `Agent(...)` at the top level.")
    for agent in agents:
        if sum(agent.name == other.name for other in agents) > 1:
            raise InvalidSpec(f"{target} holds two agents called {agent.name!r}; give one another name.")
    return agents


def _agents_in(values: Any) -> Iterator[Agent]:
    """The agents among `values`, also within lists, each once."""
    seen: set[int] = set()
    for value in list(values):
        for item in cast("list[object]", value) if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Agent) and id(item) not in seen:
                seen.add(id(item))
                yield item


def _agents_at(module: ModuleType, attribute: str, target: str) -> Iterator[Agent]:
    value: object = module
    for step in attribute.split("."):
        if not hasattr(value, step):
            named = [name for name, item in vars(module).items() if isinstance(item, Agent)]
            there = f"the agents there are: {', '.join(named)}" if named else "there is no agent there at all"
            raise NotFound(f"{target}: there is no {step!r}; {there}.")
        value = getattr(value, step)
    agents = list(_agents_in([value]))
    if not agents:
        raise InvalidSpec(f"{target} is of type {type(value).__name__}, not an Agent nor a list of them.")
    yield from agents


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFound(f"There is no file {path}. Check the path; it is relative to {Path.cwd()}.")
    where = path.resolve()
    _see(where.parent)
    module = ModuleType(f"_agents_{where.stem}_{digest_of(str(where).encode())[:8]}")
    module.__file__ = str(where)
    # Known by its name while it runs, because annotations and dataclasses look their module up.
    sys.modules[module.__name__] = module
    try:
        exec(compile(where.read_bytes(), str(where), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _import_failure(error, str(path), where.parent) from error
    return module


def _module_called(name: str) -> ModuleType:
    _see(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise NotFound(f"There is no Python module {missing!r}: neither installed nor in {Path.cwd()}.") from None
        raise _import_failure(error, name, Path.cwd()) from error


def _see(folder: Path) -> None:
    """As when Python runs a file: what lies beside it can be imported, also later, while a tool runs."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_failure(error: BaseException, target: str, folder: Path) -> InvalidSpec:
    """The original message, with the line of the user's own code that led to it."""
    what = str(error) if isinstance(error, RemanenceError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    frames = [frame for frame in frames if not Path(frame.filename).is_relative_to(_PACKAGE)]
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)] or frames
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError) and error.filename:
        what, place = f"SyntaxError: {error.msg}", f" ({Path(error.filename).name}, line {error.lineno})"
    if isinstance(error, RuntimeError) and "asyncio.run() cannot" in what:
        mend = 'importing a file runs it, so what starts something belongs under `if __name__ == "__main__":`'
    else:
        mend = "mend the file and try again"
    return InvalidSpec(f"{target} cannot be imported{place}: {what.removesuffix('.')}. Nothing was kept; {mend}.")
