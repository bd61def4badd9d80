"""What a request asks of a provider: our settings, tools and shapes in the library's words. Pure.

Nothing that was asked for is dropped in silence. What a model cannot do is an `Unfit`, which names the setting, so that
a face can refuse it before anything is written and a call can fail before anything is sent. Hints are no promises: the
key of a prompt cache goes to the providers that have such a thing, and the others do without. Servers that are named by
their address are asked as it stands, and may refuse: nobody knows what their models can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from remanence.errors import ModelError
from remanence.models.target import Target
from remanence.ports import ModelRequest
from remanence.spec import ModelSettings, ToolSpec

if TYPE_CHECKING:
    from pydantic_ai.models import Model as LibraryModel
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.settings import ModelSettings as LibrarySettings

__all__ = ["Unfit", "check", "parameters_of", "settings_of"]

_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
_NO_THOUGHT = ("none", "off")
_THOUGHT_LEAST = 1_024
"""With a budget for its thoughts, Anthropic takes no smaller one."""
_PLENTY = 1 << 30
_TIERS_OF_ANTHROPIC = ("auto", "default")
_TIERS_OF_ALL = ("auto", "default", "flex", "priority")


class Unfit(ModelError):
    """A model cannot do what is asked. `setting` is the field of `ModelSettings`, `why` the reason in a clause."""

    def __init__(self, why: str, setting: str = "") -> None:
        super().__init__(
            f"The model call cannot be made: {why}. Nothing was sent and the session is kept. Change the agent's "
            "settings and send again.",
            kind="invalid_request",
        )
        self.why = why
        self.setting = setting


def check(model: LibraryModel, target: Target, settings: ModelSettings, tools: Sequence[ToolSpec]) -> None:
    """Raise `Unfit` when the model is known not to do what these settings ask."""
    request = ModelRequest(target.name, "", (), tuple(tools), settings, _PLENTY, 1.0, "")
    parameters_of(model, target, request)
    settings_of(model, target, request)


# --- tools and shapes -------------------------------------------------------------------------------------------------


def parameters_of(model: LibraryModel, target: Target, request: ModelRequest) -> ModelRequestParameters:
    """The tools, and the shape of the reply. Raises `Unfit`."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.output import OutputObjectDefinition

    tools, given, profile = [_tool(tool) for tool in request.tools], request.settings, model.profile
    if given.output_json:
        if not profile.get("supports_json_object_output"):
            raise Unfit(f"{target.name} has no mode in which it writes a JSON object of any shape", "output_json")
        return ModelRequestParameters(
            function_tools=tools, output_mode="prompted", prompted_output_template=False
        )  # the library's word for "JSON, and nothing is added to the instructions"
    if given.output_schema is None:
        return ModelRequestParameters(function_tools=tools)
    if not profile.get("supports_json_schema_output"):
        raise Unfit(f"{target.name} cannot be held to the schema of an output", "output_schema")
    strict = given.output_strict
    if isinstance(model, AnthropicModel) and strict is False:
        strict = None  # it keeps to every schema it takes, which is more than was asked
    return ModelRequestParameters(
        function_tools=tools,
        output_mode="native",
        output_object=OutputObjectDefinition(
            json_schema=given.output_schema,
            name=given.output_name or "reply",
            description=given.output_description or None,
            strict=strict,
        ),
    )


def _tool(tool: ToolSpec) -> Any:
    from pydantic_ai.tools import ToolDefinition

    # A specification is shared by many calls; what the library does to a schema must not reach it.
    parameters = msgspec.json.decode(msgspec.json.encode(tool.parameters or {"type": "object", "properties": {}}))
    return ToolDefinition(
        name=tool.name, description=tool.description, parameters_json_schema=parameters, strict=tool.strict
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def settings_of(model: LibraryModel, target: Target, request: ModelRequest) -> LibrarySettings:
    """The settings of a call, its limit and its retries. Raises `Unfit`."""
    from pydantic_ai.models.openai import OpenAIResponsesModel

    from remanence.models import clients

    given = request.settings
    wanted = _plain(model, target, request)
    wanted |= _thinking(model, target, given.reasoning_effort)
    wanted |= _of_openai(given) if _speaks_openai(model) else _elsewhere(model, target, given)
    _check_sampling(model, target, wanted)
    wanted |= _summary(model, target, given.reasoning_summary)
    wanted |= _ways(model, target, given)
    wanted["max_tokens"] = request.output_tokens
    wanted |= _room_for_words(model, target, wanted, request.output_tokens)
    if clients.retries_itself(model) and "max_retries" not in model.unsupported_settings:
        # Not for those that never do: this copies a client, and a copy reads the environment again.
        wanted["max_retries"] = 0
    if target.cache:
        wanted["cache"] = True
    if isinstance(model, OpenAIResponsesModel):
        # The journal is the memory: the provider is asked to keep nothing, and is told what it said before.
        wanted |= {"openai_store": False, "openai_prompt_cache_diagnostics": False}
    return wanted  # pyright: ignore[reportReturnType]


_OURS = {"extra_body": "extra", "stop_sequences": "stop"}
"""Our names of settings, where the library has others."""


def _plain(model: LibraryModel, target: Target, request: ModelRequest) -> dict[str, Any]:
    """What the library has one word for, whatever the provider."""
    given = request.settings
    wanted: dict[str, Any] = {
        "temperature": given.temperature,
        "top_p": given.top_p,
        "seed": given.seed,
        "parallel_tool_calls": given.parallel_tool_calls if request.tools else None,
        "tool_choice": _tool_choice(given, request.tools),
        "stop_sequences": list(given.stop) or None,
        "frequency_penalty": given.frequency_penalty,
        "presence_penalty": given.presence_penalty,
        "logit_bias": given.logit_bias or None,
        "extra_body": given.extra or None,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    for name in wanted:
        if name in model.unsupported_settings:
            ours = _OURS.get(name, name)
            raise Unfit(f"{target.name} has no setting {ours!r}", ours)
    return wanted


def _tool_choice(given: ModelSettings, tools: Sequence[ToolSpec]) -> str | list[str] | None:
    choice = given.tool_choice
    if choice is None or not tools:
        return None
    names = {tool.name for tool in tools}
    if choice == "required" and given.tool_choice_among:
        if unknown := [name for name in given.tool_choice_among if name not in names]:
            raise Unfit(f"tool_choice_among names {unknown[0]!r}, which is no tool of this agent", "tool_choice_among")
        return "required" if names == {*given.tool_choice_among} else list(given.tool_choice_among)
    if choice in ("auto", "none", "required"):
        return choice
    if choice not in names:
        raise Unfit(f"tool_choice names {choice!r}, which is no tool of this agent", "tool_choice")
    return [choice]


def _speaks_openai(model: LibraryModel) -> bool:
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

    return isinstance(model, OpenAIChatModel | OpenAIResponsesModel)


def _of_openai(given: ModelSettings) -> dict[str, Any]:
    """What has a field of its own in both of OpenAI's formats."""
    wanted = {
        "openai_text_verbosity": given.verbosity,
        "openai_service_tier": given.service_tier,
        "openai_prompt_cache_key": given.prompt_cache_key,
        "openai_prompt_cache_retention": given.prompt_cache_retention,
        "openai_logprobs": None if given.logprobs is None else True,
        "openai_top_logprobs": given.logprobs or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _elsewhere(model: LibraryModel, target: Target, given: ModelSettings) -> dict[str, Any]:
    """The same for the other formats, as far as they have it; what asks for nothing special is left out."""
    from pydantic_ai.models.anthropic import AnthropicModel

    if given.verbosity not in (None, "medium"):
        raise Unfit(f"{target.name} has no setting for how much it says", "verbosity")
    if given.logprobs is not None:
        raise Unfit(f"{target.name} does not say how likely its tokens were", "logprobs")
    if given.prompt_cache_retention not in (None, "in_memory"):
        raise Unfit(f"how long {target.name} keeps prompts cannot be asked for", "prompt_cache_retention")
    tier = given.service_tier
    if tier is None:
        return {}
    known = _TIERS_OF_ANTHROPIC if isinstance(model, AnthropicModel) else _TIERS_OF_ALL
    if "service_tier" not in model.unsupported_settings and tier in known:
        return {"service_tier": tier}
    if tier not in ("auto", "default"):
        raise Unfit(f"{target.name} has no service tier {tier!r}", "service_tier")
    return {}


def _summary(model: LibraryModel, target: Target, summary: str | None) -> dict[str, Any]:
    """Which summary of its reasoning the model shall give. `auto` is the best there is, and that may be none."""
    from pydantic_ai.models.openai import OpenAIResponsesModel

    if summary is None:
        return {}
    if isinstance(model, OpenAIResponsesModel) and (target.base_url or _reasons(model.profile)):
        return {"openai_reasoning_summary": summary}
    if summary != "auto":
        words = "shows of its reasoning what it shows: no form can be asked for"
        raise Unfit(f"{target.name} {words}", "reasoning_summary")
    return {}


def _ways(model: LibraryModel, target: Target, given: ModelSettings) -> dict[str, Any]:
    """How the model shall reason, and of what it thought before. The library leaves out what a model does not have."""
    from pydantic_ai.models.openai import OpenAIResponsesModel

    profile: Mapping[str, Any] = model.profile if isinstance(model, OpenAIResponsesModel) else {}
    wanted: dict[str, Any] = {}
    if given.reasoning_mode == "pro":
        if not profile.get("openai_responses_supports_reasoning_mode"):
            raise Unfit(f"{target.name} has no such mode of reasoning", "reasoning_mode")
        wanted["openai_reasoning_mode"] = "pro"
    context = given.reasoning_context
    persists = "openai_responses_supports_reasoning_context" if context == "all_turns" else "openai_supports_reasoning"
    if context is not None and profile.get(persists):
        wanted["openai_reasoning_context"] = context
    elif context not in (None, "auto"):
        raise Unfit(f"of which turns {target.name} reads its thoughts again cannot be asked for", "reasoning_context")
    return wanted


def _reasons(profile: Mapping[str, Any]) -> bool:
    return bool(profile.get("supports_thinking") or profile.get("thinking_always_enabled"))


def _thinking(model: LibraryModel, target: Target, effort: str | None) -> dict[str, Any]:
    if effort is None:
        return {}
    if effort not in (*_EFFORTS, *_NO_THOUGHT):
        raise Unfit(
            f"reasoning_effort {effort!r} is none of {', '.join((*_EFFORTS, *_NO_THOUGHT))}", "reasoning_effort"
        )
    if target.base_url and target.api != "anthropic":
        return {"openai_reasoning_effort": "none" if effort in _NO_THOUGHT else effort}
    if effort not in _NO_THOUGHT and not _reasons(model.profile):
        raise Unfit(f"{target.name} does not reason, so reasoning_effort cannot be honoured", "reasoning_effort")
    return {"thinking": effort if effort in _EFFORTS else False}


def _room_for_words(model: LibraryModel, target: Target, wanted: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Models of Anthropic's that think within a budget: it counts as output, and one that leaves no room for a word is
    refused there. So it is three quarters of what the reply may have, when the effort's own is not below that limit."""
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.profiles.anthropic import ANTHROPIC_THINKING_BUDGET_MAP

    effort = wanted.get("thinking")
    if not isinstance(model, AnthropicModel) or not effort or model.profile.get("anthropic_supports_adaptive_thinking"):
        return {}
    if ANTHROPIC_THINKING_BUDGET_MAP[effort] < tokens:
        return {}
    budget = tokens * 3 // 4
    if budget < _THOUGHT_LEAST:
        why = f"{target.name} thinks {_THOUGHT_LEAST:,} tokens at least, and its reply may have {tokens:,} in all"
        raise Unfit(why, "reasoning_effort")
    return {"anthropic_thinking": {"type": "enabled", "budget_tokens": budget}}


_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "openai_logprobs": "logprobs",
}
"""What a model does not take while it reasons, and our names for it."""


def _check_sampling(model: LibraryModel, target: Target, wanted: Mapping[str, Any]) -> None:
    """Refuse what is about sampling where the library would drop it with a mere warning."""
    asked = [ours for name, ours in _SAMPLING.items() if name in wanted]
    profile: Mapping[str, Any] = model.profile
    reasons = bool(wanted.get("thinking")) or wanted.get("openai_reasoning_effort") not in (None, "none")
    reasons = reasons or (bool(profile.get("thinking_enabled_by_default")) and wanted.get("thinking") is not False)
    efforts = profile.get("openai_reasoning_efforts")
    rests = profile.get("openai_supports_reasoning_effort_none") if efforts is None else "none" in efforts
    always = profile.get("thinking_always_enabled") or profile.get("anthropic_disallows_sampling_settings")
    if asked and (always or (profile.get("openai_supports_reasoning") and (reasons or not rests))):
        raise Unfit(f"{target.name} takes no {' and no '.join(asked)} while it reasons", asked[0])
