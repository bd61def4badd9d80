"""The spec that answers a request for a response: the agent it names, or one made of its parameters.

It holds what reaches the model and nothing else: the same parameters are the same version, whoever asks.
"""

from __future__ import annotations

import msgspec

from remanence.api.named import Named
from remanence.api.responses.choice import allowed, forced
from remanence.api.responses.input import Spoken, refuse
from remanence.api.responses.mcp import Listed, McpBody, rules_of
from remanence.api.responses.request import (
    AGENT,
    FACE,
    FunctionBody,
    JsonFormat,
    ReasoningBody,
    ResponseBody,
    SchemaFormat,
    TextBody,
    Window,
    logprobs_of,
    summary_of,
)
from remanence.api.schemas import Declared, InvalidSchema, check_schemas
from remanence.core.registry import checked, implied_allows
from remanence.core.state import Session
from remanence.spec import AgentSpec, Limits, ModelSettings, Rule, ToolSpec

__all__ = ["agent_of", "answers_for", "paths_of", "spec_for", "spec_in"]

_SETTINGS = {
    "reasoning_effort": "reasoning.effort",
    "reasoning_summary": "reasoning.summary",
    "reasoning_mode": "reasoning.mode",
    "reasoning_context": "reasoning.context",
    "tool_choice_among": "tool_choice",
    "output_schema": "text.format",
    "output_json": "text.format.type",
    "logprobs": "include",
    "verbosity": "text.verbosity",
}
"""Where the fields of `ModelSettings` lie in a request, unless they are called the same."""

WINDOW_TOKENS_AUTO = 32_000
WINDOW_TOKENS_DISABLED = 100_000_000
WINDOW_TOKENS_LEAST = 1_000
OUTPUT_TOKENS = 4_096
_ENOUGH = 1_000_000


def spec_for(
    body: Window,
    found: Named,
    spoken: tuple[Spoken, ...],
    listed: tuple[Listed, ...] = (),
    *,
    context_window: int | None = None,
) -> AgentSpec:
    """The spec that answers: the agent that was named, as it is, or one made of the request's parameters.

    `context_window` is how many tokens the model reads, if that is known. Raises InvalidInput with the path of what
    cannot be honoured.
    """
    if found.agent is not None:
        return agent_of(body, found.agent, spoken)
    _check_schemas(body)
    every = (*_tools(body), *(tool for one in listed for tool in one.tools))
    tools = allowed(body.tool_choice, every, listed)
    texts = (body.instructions, *(one.text for one in spoken))
    asked = body if isinstance(body, ResponseBody) else ResponseBody()
    output_tokens = asked.max_output_tokens or OUTPUT_TOKENS
    return checked(
        AgentSpec(
            name=AGENT,
            model=found.name,
            instructions="\n\n".join(text for text in texts if text),
            tools=tools,
            rules=_rules(tools, listed),
            limits=Limits(
                window_tokens=_window_tokens(body, context_window, output_tokens),
                output_tokens=output_tokens,
                model_calls_per_turn=_ENOUGH,
                tool_calls_per_reply=128,
                tool_calls_per_turn=asked.max_tool_calls,
                repeats_before_asking=_ENOUGH,
                reopening="off",  # a client answers every call that it is shown
            ),
            settings=_settings(body, asked, tools, listed),
            face=FACE,
        )
    )


def _check_schemas(body: Window) -> None:
    form = body.text and body.text.format
    declared = [
        Declared(tool.parameters, f"tools[{index}].parameters", tool.strict is True)
        for index, tool in enumerate(body.tools or ())
        if isinstance(tool, FunctionBody) and tool.parameters
    ]
    if isinstance(form, SchemaFormat):
        declared.append(Declared(form.schema_, "text.format.schema", form.strict is True, InvalidSchema))
    check_schemas(declared)


def _window_tokens(body: Window, context_window: int | None, output_tokens: int) -> int:
    """How much of the conversation is sent. Tokens are estimated, so a tenth of what the model reads stays free."""
    if body.truncation != "auto":
        return WINDOW_TOKENS_DISABLED
    if context_window is None:
        return WINDOW_TOKENS_AUTO
    return max(WINDOW_TOKENS_LEAST, context_window * 9 // 10 - output_tokens)


def _settings(
    body: Window, asked: ResponseBody, tools: tuple[ToolSpec, ...], listed: tuple[Listed, ...]
) -> ModelSettings:
    reasoning, text = body.reasoning or ReasoningBody(), body.text or TextBody()
    form, (choice, among) = text.format, forced(body.tool_choice, tools, listed)
    made = ModelSettings(
        temperature=asked.temperature,
        top_p=asked.top_p,
        reasoning_effort=reasoning.effort,
        reasoning_summary=summary_of(reasoning),
        reasoning_mode=reasoning.mode,
        reasoning_context=reasoning.context,
        parallel_tool_calls=body.parallel_tool_calls,
        tool_choice=choice,
        tool_choice_among=among,
        output_json=isinstance(form, JsonFormat),
        verbosity=text.verbosity,
        service_tier=asked.service_tier,
        prompt_cache_key=asked.prompt_cache_key,
        prompt_cache_retention=asked.prompt_cache_retention,
        logprobs=logprobs_of(asked),
    )
    if not isinstance(form, SchemaFormat):
        return made
    return msgspec.structs.replace(
        made,
        output_schema=form.schema_,
        output_name=form.name,
        output_description=form.description or "",
        output_strict=form.strict,
    )


def paths_of(body: Window) -> dict[str, str]:
    """Where the fields of `ModelSettings` lie in this request."""
    return _SETTINGS | {"logprobs": "top_logprobs"} if getattr(body, "top_logprobs", None) else _SETTINGS


def spec_in(spec: AgentSpec, s: Session) -> AgentSpec:
    """A request's spec in the open turn of a session: what earlier responses of the turn ran is not counted again."""
    most = spec.limits.tool_calls_per_turn
    if spec.name != AGENT or most is None or s.turn is None or not s.turn.ran:
        return spec
    limits = msgspec.structs.replace(spec.limits, tool_calls_per_turn=most + s.turn.ran)
    return msgspec.structs.replace(spec, limits=limits)


_OF_AN_AGENT = (
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "truncation",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "service_tier",
    "prompt_cache_retention",
)


def agent_of(body: Window, agent: AgentSpec, spoken: tuple[Spoken, ...]) -> AgentSpec:
    """An agent as it was declared; a request that would change it is refused."""
    if spoken:
        refuse("input", f"{agent.name} is an agent with instructions of its own; it takes no system message")
    if isinstance(body, ResponseBody) and logprobs_of(body) is not None:
        refuse(
            "top_logprobs" if body.top_logprobs else "include",
            f"{agent.name} is an agent, and was not made to say this",
        )
    for name in _OF_AN_AGENT:
        value = getattr(body, name, None)
        if name == "tools" and answers_for(body, agent.name):
            continue
        if value is not None and value != "auto" and value != []:
            refuse(name, f"{body.model or agent.name} is an agent, and its own declaration says this")
    return agent


def answers_for(body: Window, agent: str) -> bool:
    """Whether a request says that its client gives the approvals that an agent's calls wait for: it names the agent as
    a server of tools, by its label alone."""
    tools = body.tools or []
    return len(tools) == 1 and tools[0] in (
        McpBody(type="mcp", server_label=agent),
        McpBody(type="mcp", server_label=agent, require_approval="always"),
    )


def _rules(tools: tuple[ToolSpec, ...], listed: tuple[Listed, ...]) -> tuple[Rule, ...]:
    names = {tool.name for tool in tools}
    asked = tuple(rule for rule in rules_of(listed) if rule.tools in names)
    return (*asked, *implied_allows([tool for tool in tools if tool.kind == "client"], ()))


def _tools(body: Window) -> tuple[ToolSpec, ...]:
    """The client's functions. Only the client knows what they do, so none is ever started twice."""
    names: set[str] = set()
    made: list[ToolSpec] = []
    for index, tool in enumerate(body.tools or ()):
        if isinstance(tool, McpBody):
            continue
        path = f"tools[{index}]"
        if tool.name in names:
            refuse(f"{path}.name", f"two tools are called {tool.name!r}")
        names.add(tool.name)
        parameters = tool.parameters or {"type": "object", "properties": {}}
        if parameters.get("type") != "object":
            refuse(f"{path}.parameters", "a JSON Schema with `type` object is expected")
        made.append(
            ToolSpec(tool.name, tool.description or "", parameters, kind="client", replay="never", strict=tool.strict)
        )
    return tuple(made)
