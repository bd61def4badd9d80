"""An agent as the Agents API shows it, and as the runtime runs it.

The API's own form of an agent (its *configuration*, a mapping in the shape of its answers) is kept beside what we act
on, in the version's `face`, so that it can be shown again word for word. An agent that was declared in Python or in a
file has no such form; one is made for it.

Function tools are the client's to run. A function with the name of a tool that the agent runs itself stays the agent's.
MCP servers' tools are run here (see `agents/mcp.py`). What this release cannot do is refused with the path of the
field: other tools, subagents, background compaction, reminders of the time. So is what the model cannot do
(`unfit.py`).
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from remanence.api.agents.bodies import (
    AgentBody,
    AgentChanges,
    AgentSettings,
    Compaction,
    Experimental,
    HostedEnvironment,
    JsonSchemaFormat,
    MultiAgent,
    NoEnvironment,
    Reasoning,
    SelfHostedEnvironment,
    SessionAgentChanges,
    TextSettings,
)
from remanence.api.agents.mcp import NO_SERVERS, Servers, own_rules, own_tools, shown_mcp, with_absent
from remanence.api.agents.tools import FunctionTool, McpTool, ProgrammaticToolCalling, Tool, ToolSearch, WebSearch
from remanence.api.schemas import Declared, InvalidSchema, check_schemas
from remanence.content import digest_of
from remanence.core.registry import checked, with_memory_tools
from remanence.errors import InvalidInput, Unsupported
from remanence.spec import AgentSpec, MemoryUse, ModelSettings, ToolSpec

__all__ = [
    "SETTINGS",
    "Config",
    "changed_config",
    "config_of",
    "environment_of",
    "environment_state",
    "inline_name",
    "spec_of_config",
]

Config = dict[str, Any]
_TOOLS_BYTES_MAX = 3_145_728
_MODEL_EFFORTS = {"none": "none", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}


def blank_config(model: str) -> Config:
    """An agent of which only the model is known."""
    return {
        "name": None,
        "model": model,
        "instructions": None,
        "metadata": {},
        "multi_agent": {"enabled": False, "max_concurrent_subagents": None},
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "auto",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": [],
        "compaction": {"async": False},
        "experimental": {"time_awareness": False},
    }


def changed_config(
    config: Config, body: AgentBody | AgentChanges | AgentSettings | SessionAgentChanges, *, at: str = ""
) -> Config:
    """The configuration after what the body says; what it leaves out stays. `at` is where it lies in the request.

    Raises InvalidInput or Unsupported, with the path of the field.
    """
    config = dict(config)
    for field in sorted(body.model_fields_set):
        value, path = getattr(body, field), f"{at}{field}"
        match field:
            case "model":
                if value is None:
                    raise InvalidInput(f"{path}: an agent needs a model. Nothing was written.", param=path)
                config["model"] = value
            case "name" | "instructions":
                config[field] = value
            case "metadata":
                config["metadata"] = value or {}
            case "service_tier":
                config["service_tier"] = value or "auto"
            case "reasoning":
                config["reasoning"] = _reasoning(config["reasoning"], value, merge=_merges(body))
            case "text":
                config["text"] = _text(value, path)
            case "tools":
                config["tools"] = _tools(value or [], path)
            case "multi_agent" | "compaction" | "experimental":
                _check_off(value, path)
            case _:
                raise AssertionError(f"{field} is declared and nobody reads it")
    return config


def _merges(body: object) -> bool:
    """Whether `reasoning` is merged by key (sessions) or replaced (agents)."""
    return isinstance(body, SessionAgentChanges)


def _reasoning(now: dict[str, Any], value: Reasoning | None, *, merge: bool) -> dict[str, Any]:
    if value is None:
        return {"effort": None, "summary": None}
    kept = now if merge else {}
    return {**dict.fromkeys(("effort", "summary")), **kept, **value.model_dump(exclude_unset=True)}


def _text(value: TextSettings | None, path: str) -> dict[str, Any]:
    if value is None:
        return blank_config("")["text"]
    if isinstance(value.format, JsonSchemaFormat):
        check_schemas([Declared(value.format.json_schema, f"{path}.format.schema", error=InvalidSchema)])
    form = {"type": "text"} if value.format is None else value.format.model_dump(by_alias=True)
    return {"format": form, "verbosity": value.verbosity or "medium"}


def _check_off(value: Compaction | Experimental | MultiAgent | None, path: str) -> None:
    """Refuse what this release does not have, when it is asked for."""
    match value:
        case Compaction(background=True):
            path, what = f"{path}.async", "background compaction"
        case Experimental(time_awareness=True):
            path, what = f"{path}.time_awareness", "reminding the model of the time"
        case MultiAgent(enabled=True):
            path, what = f"{path}.enabled", "subagents"
        case _:
            return
    raise Unsupported(f"{path}: {what} is not available in this release. Nothing was written.", param=path)


def _tools(tools: list[Tool], path: str) -> list[dict[str, Any]]:
    shown = [one for index, tool in enumerate(tools) if (one := _tool(tool, f"{path}[{index}]")) is not None]
    names = [tool["name"] for tool in shown if tool["type"] == "function"]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InvalidInput(f"{path}: two functions are called {name!r}. Nothing was written.", param=path)
    if len(msgspec.json.encode(shown)) > _TOOLS_BYTES_MAX:
        raise InvalidInput(f"{path}: the tools are over {_TOOLS_BYTES_MAX:,} bytes. Nothing was written.", param=path)
    functions = [(index, tool) for index, tool in enumerate(tools) if isinstance(tool, FunctionTool)]
    check_schemas([Declared(tool.parameters, f"{path}[{index}].parameters") for index, tool in functions])
    return shown


def _tool(tool: Tool, path: str) -> dict[str, Any] | None:
    """A tool as it is shown; None for one that is switched off in words. Raises Unsupported."""
    match tool:
        case FunctionTool(defer_loading=False, background=False):
            return {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "defer_loading": False,
                "async": False,
            }
        case FunctionTool(defer_loading=True):
            path, what = f"{path}.defer_loading", "loading functions later"
        case FunctionTool():
            path, what = f"{path}.async", "going on without a function's result"
        case ProgrammaticToolCalling(enabled=False):
            return {"type": "programmatic_tool_calling", "enabled": False}
        case WebSearch(mode="disabled"):
            given = tool.model_dump(include={"allowed_domains", "location"})
            return {"type": "web_search", "mode": "disabled", "context_size": tool.context_size or "medium", **given}
        case McpTool():
            return shown_mcp(tool, path)
        case ToolSearch():
            path, what = f"{path}.type", "tool search"
        case _:
            path, what = f"{path}.type", f"the tool {tool.type!r}"
    raise Unsupported(f"{path}: {what} is not available in this release. Nothing was written.", param=path)


# --- configurations and specs -----------------------------------------------------------------------------------------


def config_of(spec: AgentSpec) -> Config:
    """The configuration of a version: the one it was declared with here, or one made of what it says."""
    kept = spec.face.get("agent")
    if kept is not None:
        return kept
    settings, schema = spec.settings, spec.settings.output_schema
    effort = settings.reasoning_effort
    return {
        **blank_config(spec.model),
        "name": spec.name,
        "instructions": spec.instructions or None,
        "metadata": spec.metadata,
        "reasoning": {"effort": _MODEL_EFFORTS.get(effort or "", effort), "summary": settings.reasoning_summary},
        "service_tier": _shown_tier(settings),
        "text": {
            "format": {"type": "json_schema", "schema": schema} if schema is not None else {"type": "text"},
            "verbosity": settings.verbosity or "medium",
        },
        "tools": [_shown(tool) for tool in spec.tools],
    }


def _shown(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
        "defer_loading": False,
        "async": False,
    }


def spec_of_config(
    config: Config,
    name: str,
    *,
    servers: Servers = NO_SERVERS,
    base: AgentSpec | None = None,
    revision: int = 0,
    memory: MemoryUse | None = None,
) -> AgentSpec:
    """The version a configuration means. `base` is the agent it changes, whose own tools and memory it keeps.

    `servers` is what its MCP servers offer. `revision` sets versions apart that say the same, so that an agent can go
    back to what it was.
    """
    config = with_absent(config, servers)
    memory = base.memory if base is not None else memory
    own = own_tools(base) if base is not None else {}
    functions = [tool for tool in config["tools"] if tool["type"] == "function"]
    given = (*(own.get(tool["name"]) or _client_tool(tool) for tool in functions), *servers.tools)
    tools = with_memory_tools(given, memory)
    rules = own_rules(base, [tool.name for tool in tools]) if base is not None else ()
    spec = AgentSpec(
        name=name,
        model=config["model"],
        instructions=config["instructions"] or "",
        tools=tools,
        rules=(*rules, *servers.rules),
        settings=_settings(config, base.settings if base is not None else ModelSettings()),
        metadata=config["metadata"],
        memory=memory,
        face=_face(config, servers, revision),
    )
    if base is not None:
        spec = msgspec.structs.replace(spec, limits=base.limits, if_busy=base.if_busy)
    return checked(spec)


SETTINGS = {
    "reasoning_effort": "reasoning.effort",
    "reasoning_summary": "reasoning.summary",
    "output_schema": "text.format",
    "verbosity": "text.verbosity",
}
"""Where the fields of `ModelSettings` lie in a configuration, unless they are called the same."""


def _settings(config: Config, settings: ModelSettings) -> ModelSettings:
    """The settings a configuration means; what is the usual is not asked for. It has no word for some of them."""
    reasoning, text, tier = config["reasoning"], config["text"], config["service_tier"]
    return msgspec.structs.replace(
        settings,
        reasoning_effort=reasoning["effort"],
        reasoning_summary=reasoning["summary"],
        output_schema=text["format"].get("schema"),
        verbosity=None if text["verbosity"] == "medium" else text["verbosity"],
        service_tier=settings.service_tier if tier == _shown_tier(settings) else tier,
    )


def _shown_tier(settings: ModelSettings) -> str:
    return "auto" if settings.service_tier in (None, "scale") else settings.service_tier


def _face(config: Config, servers: Servers, revision: int) -> dict[str, Any]:
    face: dict[str, Any] = {"agent": config}
    if revision:
        face["revision"] = revision
    if servers.asks:
        face["mcp"] = servers.asks
    return face


def _client_tool(tool: dict[str, Any]) -> ToolSpec:
    """The client runs it and answers for it: nothing is in doubt here when a turn ends without its result."""
    parameters = cast("dict[str, Any]", tool["parameters"]) or {"type": "object", "properties": {}}
    return ToolSpec(tool["name"], tool["description"], parameters, kind="client", replay="safe")


def inline_name(config: Config) -> str:
    """The name of an agent that was declared for a session alone: the same for the same configuration."""
    return f"agent_{digest_of(msgspec.json.encode(config, order='sorted'))[:24]}"


# --- environments -----------------------------------------------------------------------------------------------------


def environment_of(
    body: NoEnvironment | SelfHostedEnvironment | HostedEnvironment, environment_id: str, remote_url: str
) -> dict[str, Any]:
    """The environment as it is shown. Raises Unsupported for what would have to be kept secret or prepared."""
    match body:
        case SelfHostedEnvironment():
            return {
                "type": "self_hosted",
                "id": environment_id,
                "workspace_directory": body.workspace_directory,
                "capability_directories": body.capability_directories or [],
                "remote_url": remote_url,
            }
        case HostedEnvironment():
            return _hosted(body, environment_id)
        case _:
            return {"type": "none"}


_PREPARED = ("env", "environment_id", "environment_template_id", "files", "plugins", "setup_commands", "skills")


def _hosted(body: HostedEnvironment, environment_id: str) -> dict[str, Any]:
    asked = [field for field in _PREPARED if getattr(body, field)]
    if body.desktop is not None and body.desktop.enabled:
        asked.append("desktop")
    if asked:
        path = f"environment.{asked[0]}"
        raise Unsupported(f"{path}: environments are not prepared by this release. Nothing was written.", param=path)
    packages = body.packages
    return {
        "type": "openai_hosted",
        "id": environment_id,
        "capability_directories": body.capability_directories or [],
        "container_size": body.container_size,
        "desktop": {"enabled": False},
        "files": [],
        "network": {
            "access": body.network.access if body.network else "disabled",
            "allowed_domains": (body.network.allowed_domains or []) if body.network else [],
            **({"blocked_domains": blocked} if (blocked := body.network and body.network.blocked_domains) else {}),
        },
        "packages": {kind: (getattr(packages, kind) or []) if packages else [] for kind in ("npm", "python", "system")},
        "plugins": [],
        "skills": [],
    }


def environment_state(environment: dict[str, Any]) -> dict[str, Any]:
    """Where an environment stands in this release, honestly: nothing connects to one, and none is provided."""
    if environment["type"] == "self_hosted":
        return {"id": environment["id"], "type": "self_hosted", "status": "disconnected", "error": None}
    error = {
        "type": "not_available",
        "code": "not_available",
        "message": "This release provides no environments. The session works without commands and files.",
    }
    return {"id": environment["id"], "type": environment["type"], "status": "failed", "error": error}
