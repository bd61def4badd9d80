"""From a Chat Completions request to our own values: messages, tools, settings. Pure; what makes no sense is refused.

The conversation must be one a model can be shown: system and developer messages first (they become the instructions),
every call of an assistant's message answered by the tool messages right after it, and somebody else than the assistant
speaking last.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec.structs import replace

from remanence.api.chat.shapes import ChatAllowedTools, ChatBody, ChatMessage, ContentPart, FormatBody
from remanence.api.media import media_type_of
from remanence.api.named import Served
from remanence.api.schemas import Declared, InvalidSchema, check_schemas
from remanence.api.unfit import check_settings
from remanence.content import File, Image, Message, Part, Text, ToolCall, ToolResult
from remanence.errors import InvalidInput
from remanence.spec import Limits, ModelSettings, ToolSpec

__all__ = ["Asked", "asked_of", "fitted"]

STOPS_MAX = 4
JSON_OBJECT = "Answer with one JSON object and nothing else."
_DATA_URL = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z]+=[^;,]*)*;base64,([A-Za-z0-9+/=\s]*)", re.IGNORECASE)
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for. `overrides` names the fields by which it says how the model shall answer."""

    model: str
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    settings: ModelSettings
    output_tokens: int
    user: str
    overrides: tuple[str, ...]
    metadata: dict[str, str] = {}
    stops: tuple[str, ...] = ()
    """Where the text is cut here, as well as where the model ends."""
    in_words: bool = False
    """The model has no mode for JSON objects: it is asked for one in words."""


def asked_of(body: ChatBody) -> Asked:
    """The request as our values. Raises InvalidInput with the path of the field."""
    first = next((i for i, m in enumerate(body.messages) if m.role not in ("system", "developer")), None)
    if first is None:
        raise _refused("messages", "there must be a message that is not an instruction")
    instructions = [_instruction(message, f"messages[{i}]") for i, message in enumerate(body.messages[:first])]
    tools = _allowed(body, _tools(body))
    return Asked(
        model=body.model,
        instructions="\n\n".join(instructions),
        messages=_messages(body.messages, first),
        tools=tools,
        settings=_settings(body, tools),
        output_tokens=body.max_completion_tokens or body.max_tokens or Limits().output_tokens,
        user=body.user or body.safety_identifier or "",
        overrides=_overrides(body, first),
        metadata=body.metadata or {},
    )


_SAYS_HOW = (
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "temperature",
    "top_p",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "prompt_cache_retention",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)
SETTINGS = {
    "output_json": "response_format.type",
    "output_schema": "response_format.json_schema",
    "tool_choice_among": "tool_choice",
}
"""Where the fields of `ModelSettings` lie in a request, unless they are called the same."""


def _overrides(body: ChatBody, first: int) -> tuple[str, ...]:
    said = ["messages[0]"] if first else []
    return (*said, *(name for name in _SAYS_HOW if getattr(body, name) not in (None, "auto", {}, False)))


async def fitted(served: Served, asked: Asked, *, session: bool) -> Asked:
    """The request as this model can be asked it: without a session, what it cannot do is done here as far as that goes.

    Raises InvalidInput with the path of what cannot be done.
    """
    settings, stops = asked.settings, () if session else asked.settings.stop
    found = await served.gateway.unfit(asked.model, settings, asked.tools)
    if found is not None and not session and found.setting == "stop":
        settings = replace(settings, stop=())
        found = await served.gateway.unfit(asked.model, settings, asked.tools)
    asked = replace(asked, settings=settings, stops=stops)
    if found is not None and not session and found.setting == "output_json":
        instructions = "\n\n".join(text for text in (asked.instructions, JSON_OBJECT) if text)
        asked = replace(asked, instructions=instructions, settings=replace(settings, output_json=False), in_words=True)
    await check_settings(served, asked.model, asked.settings, asked.tools, SETTINGS)
    return asked


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages(given: list[ChatMessage], first: int) -> tuple[Message, ...]:
    made: list[Message] = []
    names: dict[str, str] = {}
    order: tuple[str, ...] = ()
    results: dict[str, Message] = {}
    for i, message in enumerate(given[first:], first):
        path = f"messages[{i}]"
        if names and message.role != "tool":
            raise _refused(path, f"the calls {', '.join(names)} must be answered by tool messages first")
        match message.role:
            case "user":
                made.append(Message("user", _spoken(message, path)))
            case "assistant":
                made.append(_said_by_assistant(message, path))
                names = {call.id: call.function.name for call in message.tool_calls or ()}
                order, results = tuple(names), dict[str, Message]()
            case "tool":
                results[message.tool_call_id or ""] = _result(message, names, path)
                if not names:
                    made += [results[call] for call in order]  # as they were asked for: clients answer in any order
            case _:
                raise _refused(f"{path}.role", "system and developer messages must come before all others")
    if names:
        raise _refused("messages", f"the calls {', '.join(names)} have no result yet")
    if made[-1].role == "assistant":
        raise _refused(f"messages[{len(given) - 1}]", "the last message must be the user's or a tool's")
    return tuple(made)


def _named(message: ChatMessage, path: str) -> tuple[Part, ...]:
    """What a message says, after the name of who says it if it has one."""
    parts = _parts(message.content, path)
    if not message.name or not parts:
        return parts
    first, *others = parts
    if isinstance(first, Text):
        return (Text(f"{message.name}: {first.text}"), *others)
    return (Text(f"{message.name}:"), *parts)


def _instruction(message: ChatMessage, path: str) -> str:
    _only(message, path, "name")
    parts = _named(message, path)
    if not all(isinstance(part, Text) for part in parts):
        raise _refused(f"{path}.content", "instructions are text")
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _spoken(message: ChatMessage, path: str) -> tuple[Part, ...]:
    _only(message, path, "name")
    parts = _parts(message.content, path)
    if not parts or all(isinstance(part, Text) and not part.text.strip() for part in parts):
        raise _refused(f"{path}.content", "the message is empty")
    return _named(message, path)


def _said_by_assistant(message: ChatMessage, path: str) -> Message:
    _only(message, path, "name", "tool_calls", "refusal")
    parts: list[Part] = [*_named(message, path)]
    if message.refusal:
        parts.append(Text(message.refusal))
    calls = message.tool_calls or []
    if len({call.id for call in calls}) < len(calls):
        raise _refused(f"{path}.tool_calls", "two calls have one id")
    if not parts and not calls:
        raise _refused(f"{path}.content", "the message says nothing and calls nothing")
    parts += [ToolCall(call.id, call.function.name, call.function.arguments) for call in calls]
    return Message("assistant", tuple(parts))


def _result(message: ChatMessage, names: dict[str, str], path: str) -> Message:
    """A tool's message; the call it answers is taken from `names`."""
    _only(message, path, "tool_call_id")
    name = names.pop(message.tool_call_id or "", None)
    if name is None:
        raise _refused(f"{path}.tool_call_id", "it answers no open call of the assistant's message before it")
    parts = _parts(message.content, path)
    if not all(isinstance(part, Text) for part in parts):
        raise _refused(f"{path}.content", "the result of a tool is text")
    return Message("tool", (ToolResult(message.tool_call_id or "", name, parts),))


def _only(message: ChatMessage, path: str, *fields: str) -> None:
    for name in ("name", "tool_calls", "tool_call_id", "refusal"):
        if name not in fields and getattr(message, name):
            raise _refused(f"{path}.{name}", f"a message of role {message.role} has no such field")


def _parts(content: str | list[ContentPart] | None, path: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),) if content else ()
    return tuple(_part(part, f"{path}.content[{i}]") for i, part in enumerate(content))


def _part(part: ContentPart, path: str) -> Part:
    given = {name for name in ("text", "image_url", "file", "refusal") if getattr(part, name) is not None}
    if given != {part.type}:
        raise _refused(path, f"a part of type {part.type} holds `{part.type}` and nothing else")
    if part.image_url is not None:
        detail = None if part.image_url.detail == "auto" else part.image_url.detail
        return replace(_image(part.image_url.url, f"{path}.image_url.url"), detail=detail)
    if part.file is not None:
        return _file(part.file.file_data, part.file.filename, f"{path}.file.file_data")
    return Text(part.text or part.refusal or "")


def _image(url: str, path: str) -> Image:
    if url.startswith(("http://", "https://")):
        return Image("", url=url)
    found = _DATA_URL.fullmatch(url)
    if found is None or not found[1].lower().startswith("image/"):
        raise _refused(path, "a picture is an http(s) URL, or data:image/...;base64,...")
    return Image(found[1].lower(), data="".join(found[2].split()))


def _file(data: str, name: str | None, path: str) -> File:
    found = _DATA_URL.fullmatch(data)
    if found is not None:
        return File(found[1].lower(), name, data="".join(found[2].split()))
    if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", data):
        raise _refused(path, "a file is data:TYPE;base64,... or bare base64")
    return File(media_type_of(name), name, data="".join(data.split()))


# --- how to answer ----------------------------------------------------------------------------------------------------


def _tools(body: ChatBody) -> tuple[ToolSpec, ...]:
    made: list[ToolSpec] = []
    declared: list[Declared] = []
    for i, tool in enumerate(body.tools or ()):
        function = tool.function
        if any(other.name == function.name for other in made):
            raise _refused(f"tools[{i}].function.name", f"two tools are called {function.name!r}")
        parameters = {"type": "object", **function.parameters} if function.parameters else _NO_ARGUMENTS
        properties = parameters.get("properties", {})
        if parameters["type"] != "object" or not isinstance(properties, dict):
            raise _refused(f"tools[{i}].function.parameters", "it must be a JSON Schema of type object")
        if function.parameters:
            declared.append(Declared(parameters, f"tools[{i}].function.parameters", function.strict is True))
        made.append(
            ToolSpec(function.name, function.description or "", parameters, kind="client", strict=function.strict)
        )
    check_schemas(declared)
    return tuple(made)


def _allowed(body: ChatBody, tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
    choice = body.tool_choice
    if not isinstance(choice, ChatAllowedTools):
        return tools
    names = [tool.function.name for tool in choice.allowed_tools.tools]
    for i, name in enumerate(names):
        if not any(tool.name == name for tool in tools):
            raise _refused(f"tool_choice.allowed_tools.tools[{i}].function.name", f"{name!r} is none of `tools`")
    return tuple(tool for tool in tools if tool.name in names)


def _settings(body: ChatBody, tools: tuple[ToolSpec, ...]) -> ModelSettings:
    made = ModelSettings(
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        reasoning_effort=body.reasoning_effort,
        parallel_tool_calls=body.parallel_tool_calls,
        tool_choice=_tool_choice(body, tools),
        tool_choice_among=tuple(t.name for t in tools) if isinstance(body.tool_choice, ChatAllowedTools) else (),
        output_json=body.response_format is not None and body.response_format.type == "json_object",
        verbosity=body.verbosity,
        service_tier=body.service_tier,
        prompt_cache_key=body.prompt_cache_key,
        prompt_cache_retention=body.prompt_cache_retention,
        stop=_stops(body),
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=body.logit_bias or {},
        logprobs=_logprobs(body),
    )
    schema, form = _schema(body.response_format), body.response_format and body.response_format.json_schema
    if schema is None or form is None:
        return made
    return replace(
        made,
        output_schema=schema,
        output_name=form.name,
        output_description=form.description or "",
        output_strict=form.strict,
    )


def _tool_choice(body: ChatBody, tools: tuple[ToolSpec, ...]) -> str | None:
    choice = body.tool_choice
    if isinstance(choice, ChatAllowedTools):
        return choice.allowed_tools.mode
    if choice is None or isinstance(choice, str):
        if choice == "required" and not tools:
            raise _refused("tool_choice", "there is no tool that could be called")
        return choice
    if not any(tool.name == choice.function.name for tool in tools):
        raise _refused("tool_choice.function.name", f"{choice.function.name!r} is none of `tools`")
    return choice.function.name


def _schema(wanted: FormatBody | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type != "json_schema":
        if wanted is not None and wanted.json_schema is not None:
            raise _refused("response_format.json_schema", f"the type {wanted.type} has no schema")
        return None
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise _refused("response_format.json_schema.schema", "the schema is missing")
    form, schema = wanted.json_schema, wanted.json_schema.schema_
    check_schemas([Declared(schema, "response_format.json_schema.schema", form.strict is True, InvalidSchema)])
    return schema


def _logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise _refused("top_logprobs", "only with `logprobs`")
    return body.top_logprobs or 0 if body.logprobs else None


def _stops(body: ChatBody) -> tuple[str, ...]:
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stops) > STOPS_MAX or not all(stops):
        raise _refused("stop", f"give one to {STOPS_MAX} texts that are not empty")
    return stops


def _refused(path: str, words: str) -> InvalidInput:
    return InvalidInput(f"{path}: {words}. Nothing was sent to a model.", param=path)
