"""A model that follows a script: deterministic, free, and the same in every process.

What it says is a pure function of the request, so a session that is killed and resumed elsewhere meets the same model.
A script is one of

* a function `ModelRequest -> ModelReply | ModelError`;
* a `Script`: dialogues, each a list of steps. The first dialogue whose `when` (a regular expression, searched in the
  last thing the user said) matches is followed; the step is the number of replies given since the user last spoke.
  A JSON or a TOML file of that shape is `scripted:path/to/file.json`;
* nothing: then it says honestly that no language model is configured, repeats what it was told, and runs a tool that is
  called by name, `/tool NAME {json}`, so that tools and approvals can be tried without a model.

In texts and arguments `$user` is what the user said, `$result` the last tool result since then, and `$name` a named
group of `when`; `$$` is a dollar sign.

One thing cannot be read off a request: how often a step has failed already. `fail.times` is counted in this process, by
turn and step, and starts again with the process; a step that fails for ever (`times = 0`) needs no count.
"""

from __future__ import annotations

import asyncio
import json
import re
import string
import tomllib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from remanence.content import Message, Part, Text, Thinking, ToolCall, ToolResult, Usage, text_of
from remanence.errors import InvalidConfig, ModelError, ModelErrorKind
from remanence.models.prices import Prices, priced
from remanence.ports import Clock, ModelReply, ModelRequest, OnDelta

__all__ = [
    "Call",
    "Dialogue",
    "Fail",
    "Script",
    "ScriptFunction",
    "Scripted",
    "Step",
    "last_result",
    "last_user_text",
    "load_script",
    "step_of",
    "unconfigured",
]

REQUESTS_KEPT = 256
_SESSIONS_MEASURED = 4_096

_encode = msgspec.json.Encoder().encode

ScriptFunction = Callable[[ModelRequest], ModelReply | ModelError]


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call of a step. `arguments` is a mapping, or JSON text that is passed on as it stands, valid or not."""

    tool: str
    arguments: dict[str, Any] | str = {}


class Fail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The step fails `times` times before it answers (0: for ever). `retry_after_s` is what the provider would ask."""

    kind: ModelErrorKind = "server"
    times: int = 1
    retry_after_s: float | None = None
    message: str = "The script fails here."


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reply. All calls of a step are made side by side; `usage` is computed from the lengths when it is not given.

    `pieces` is how the text is cut when it streams (by default at the words), `piece_s` the pause after each piece,
    `delay_s` the time before the reply begins. A step that stalls never answers: the call ends by cancel or time-out.
    """

    text: str = ""
    thinking: str = ""
    calls: tuple[Call, ...] = ()
    usage: Usage | None = None
    stop: str = ""
    delay_s: float = 0.0
    piece_s: float = 0.0
    pieces: tuple[str, ...] = ()
    fail: Fail | None = None
    stall: bool = False


class Dialogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps that answer what matches `when` (a regular expression; empty: anything)."""

    steps: tuple[Step, ...]
    when: str = ""


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dialogues in the order they are tried. `steps` is short for a last dialogue that answers anything."""

    dialogues: tuple[Dialogue, ...] = ()
    steps: tuple[Step, ...] = ()


class Scripted:
    """A model that follows a script. `requests` holds the last 256 it was sent; `clock` measures its pauses.

    Of the settings it keeps to `stop` alone: a script says what it says.
    """

    def __init__(
        self,
        script: Script | Sequence[Step] | ScriptFunction | None = None,
        *,
        clock: Clock | None = None,
        prices: Prices | None = None,
    ) -> None:
        if script is None:
            script = unconfigured
        elif not callable(script) and not isinstance(script, Script):
            script = Script(steps=tuple(script))
        self._script = script
        self._prices = prices
        self._sleep = asyncio.sleep if clock is None else clock.sleep
        self._failed: Counter[tuple[str, int]] = Counter()
        self._measured: OrderedDict[str, _Measured] = OrderedDict()
        self.requests: deque[ModelRequest] = deque(maxlen=REQUESTS_KEPT)

    async def reply(self, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        """Answer by the script. Raises `ModelError`, as the script says."""
        self.requests.append(request)
        if isinstance(self._script, Script):
            return await self._follow(self._script, request, on_delta)
        made = _ended(self._call(self._script, request), request.settings.stop)
        await self._stream(made, Step(), on_delta)
        return self._counted(made, request)

    def price(self, model: str, usage: Usage, tier: str = "") -> int | None:
        """What the script costs: nothing, unless prices were given to test budgets with."""
        return 0 if self._prices is None else priced(self._prices, usage)

    def _call(self, script: ScriptFunction, request: ModelRequest) -> ModelReply:
        try:
            made = script(request)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"The script raised {type(error).__name__}: {error}. The session is kept; mend the script.",
                kind="invalid_request",
            ) from error
        if isinstance(made, ModelError):
            raise made
        return made

    async def _follow(self, script: Script, request: ModelRequest, on_delta: OnDelta | None) -> ModelReply:
        step, words = _step_for(script, request)
        if step.stall or step.delay_s >= request.timeout_s:
            await self._sleep(request.timeout_s)
            raise ModelError(
                f"The scripted model did not answer within {request.timeout_s:g} s. Everything before this call is "
                "kept; the call may be tried again.",
                kind="timeout",
            )
        if step.delay_s:
            await self._sleep(step.delay_s)
        if step.fail is not None and self._fails_now(step.fail, request):
            raise ModelError(step.fail.message, kind=step.fail.kind, retry_after_s=step.fail.retry_after_s)
        whole = _reply_of(step, request, words)
        made = _ended(whole, request.settings.stop)
        await self._stream(made, step if made is whole else msgspec.structs.replace(step, pieces=()), on_delta)
        return self._counted(made, request)

    def _fails_now(self, fail: Fail, request: ModelRequest) -> bool:
        if fail.times <= 0:
            return True
        # The effect key is session:turn:call; another attempt may carry another call id.
        key = (request.effect_key.rpartition(":")[0], step_of(request))
        self._failed[key] += 1
        return self._failed[key] <= fail.times

    async def _stream(self, made: ModelReply, step: Step, on_delta: OnDelta | None) -> None:
        if on_delta is None:
            return
        for index, part in enumerate(made.parts):
            match part:
                case Text(text=text):
                    for piece in step.pieces or _words(text):
                        on_delta(index, "text", piece)
                        if step.piece_s:
                            await self._sleep(step.piece_s)
                case Thinking(text=text):
                    for piece in _words(text):
                        on_delta(index, "thinking", piece)
                case ToolCall(name=name, arguments=arguments):
                    on_delta(index, "tool_name", name)
                    on_delta(index, "tool_arguments", arguments)
                case _:
                    continue

    def _counted(self, made: ModelReply, request: ModelRequest) -> ModelReply:
        usage = made.usage if made.usage != Usage() else self._usage_by_length(request, made)
        return msgspec.structs.replace(made, usage=usage, model=made.model or request.model)

    def _usage_by_length(self, request: ModelRequest, made: ModelReply) -> Usage:
        """Four bytes to a token, rounded up: near enough to the truth to show what a budget does.

        A window is measured where it grew, not from the start each time: the cost of a turn must not grow with it.
        """
        session = request.effect_key.partition(":")[0]
        measured = self._measured.pop(session, None)
        start = measured.count if measured is not None and measured.begins(request.messages) else 0
        size = measured.size if measured is not None and start else 0
        size += sum(len(_encode(message)) for message in request.messages[start:])
        if request.messages:
            first, last = request.messages[0], request.messages[-1]
            self._measured[session] = _Measured(first, last, len(request.messages), size)
        while len(self._measured) > _SESSIONS_MEASURED:
            self._measured.popitem(last=False)
        sent = size + len(request.instructions.encode()) + len(_encode(request.tools))
        return Usage(input_tokens=-(-sent // 4), output_tokens=-(-len(_encode(made.parts)) // 4))


class _Measured(msgspec.Struct, frozen=True):
    """The size in bytes of a window's first `count` messages, from `first` to `last`."""

    first: Message
    last: Message
    count: int
    size: int

    def begins(self, messages: Sequence[Message]) -> bool:
        """Whether `messages` begin with these: windows only grow at their end, until they begin elsewhere."""
        return len(messages) >= self.count and messages[0] is self.first and messages[self.count - 1] is self.last


# --- reading a request ------------------------------------------------------------------------------------------------


def last_user_text(request: ModelRequest) -> str:
    """The last thing the user said; empty when the user has not spoken."""
    said = next((message for message in reversed(request.messages) if message.role == "user"), None)
    return text_of(said.parts) if said else ""


def last_result(request: ModelRequest) -> str:
    """The text of the last tool result since the user last spoke; empty when there is none."""
    for message in reversed(request.messages):
        if message.role == "user":
            break
        for part in reversed(message.parts):
            if isinstance(part, ToolResult):
                return text_of(part.parts)
    return ""


def step_of(request: ModelRequest) -> int:
    """How many replies were given since the user last spoke: 0 for the first step of a dialogue."""
    count = 0
    for message in reversed(request.messages):
        if message.role == "user":
            break
        count += message.role == "assistant"
    return count


def _step_for(script: Script, request: ModelRequest) -> tuple[Step, dict[str, str]]:
    said = last_user_text(request)
    dialogues = (*script.dialogues, Dialogue(script.steps)) if script.steps else script.dialogues
    for dialogue in dialogues:
        found = re.search(dialogue.when, said, re.IGNORECASE)
        if not found:
            continue
        number = step_of(request)
        if number >= len(dialogue.steps):
            raise ModelError(
                f"The script has {len(dialogue.steps)} steps for {said[:80]!r} and was asked for one more. The session "
                "is kept; add the step to the script.",
                kind="invalid_request",
            )
        groups = {name: value or "" for name, value in found.groupdict().items()}
        return dialogue.steps[number], {**groups, "user": said, "result": last_result(request)}
    raise ModelError(
        f"The script has no dialogue for {said[:80]!r}. The session is kept; add one, or one with an empty `when`.",
        kind="invalid_request",
    )


# --- making a reply ---------------------------------------------------------------------------------------------------


def _reply_of(step: Step, request: ModelRequest, words: dict[str, str]) -> ModelReply:
    number = step_of(request)
    parts: list[Part] = []
    if step.thinking:
        parts.append(Thinking(_filled(step.thinking, words), provider="scripted"))
    if step.text:
        parts.append(Text(_filled(step.text, words)))
    for index, call in enumerate(step.calls):
        if isinstance(call.arguments, str):
            arguments = _filled(call.arguments, words)
        else:
            arguments = msgspec.json.encode(_filled_in(call.arguments, words)).decode()
        parts.append(ToolCall(f"scripted_{number}_{index}", call.tool, arguments))
    stop = step.stop or ("tool_calls" if step.calls else "stop")
    return ModelReply(tuple(parts), step.usage or Usage(), stop=stop)


def _ended(made: ModelReply, stops: Sequence[str]) -> ModelReply:
    """The reply up to the first of the texts before which it is to end."""
    for index, part in enumerate(made.parts if stops else ()):
        found = [at for stop in stops if isinstance(part, Text) and (at := part.text.find(stop)) >= 0]
        if found and isinstance(part, Text):
            kept = (*made.parts[:index], Text(part.text[: min(found)]))
            return msgspec.structs.replace(made, parts=kept, stop="stop")
    return made


def _filled(text: str, words: dict[str, str]) -> str:
    return string.Template(text).safe_substitute(words)


def _filled_in(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, str):
        return _filled(value, words)
    if isinstance(value, dict):
        return {key: _filled_in(item, words) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_filled_in(item, words) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*|\s+", text)


# --- no script at all -------------------------------------------------------------------------------------------------

_TOOL_LINE = re.compile(r"^\s*/tool\s+(\S+)[ \t]*(.*)$", re.MULTILINE)


def unconfigured(request: ModelRequest) -> ModelReply:
    """What is said when no model is configured: the truth, and what the tools called by name came to."""
    asked = _TOOL_LINE.findall(last_user_text(request))
    names = [tool.name for tool in request.tools]
    if step_of(request) > 0:
        return ModelReply((Text(_report(request)),))
    known = [(name, arguments.strip() or "{}") for name, arguments in asked if name in names]
    if known:
        calls = [ToolCall(f"scripted_0_{i}", name, arguments) for i, (name, arguments) in enumerate(known)]
        return ModelReply(tuple(calls), stop="tool_calls")
    missing = [name for name, _ in asked]
    return ModelReply((Text(_honest(last_user_text(request), names, missing)),))


def _honest(said: str, names: list[str], missing: list[str]) -> str:
    lines = ["No language model is configured, so nothing was understood; this reply is scripted."]
    if missing:
        lines.append(f"There is no tool called {', '.join(missing)} here.")
    elif said:
        lines.append(f"You said: {said}")
    if names:
        lines.append(f"To try a tool, say /tool NAME {{json}}. Tools: {', '.join(names)}.")
    lines.append("To find a model, run: remanence models detect")
    return "\n".join(lines)


def _report(request: ModelRequest) -> str:
    results: list[ToolResult] = []
    for message in reversed(request.messages):
        if message.role == "user":
            break
        results[:0] = [part for part in message.parts if isinstance(part, ToolResult)]
    told = [f"{result.name} {'failed' if result.error else 'returned'}: {text_of(result.parts)}" for result in results]
    return "\n".join(told or ["The tool calls were made; nothing came back."])


# --- scripts in files -------------------------------------------------------------------------------------------------


def load_script(path: Path) -> Script:
    """The script in a JSON or (by its ending) a TOML file. Raises `InvalidConfig`, naming the file and the place."""
    try:
        content = path.read_bytes().decode()
        value: Any = tomllib.loads(content) if path.suffix == ".toml" else json.loads(content)
        script = msgspec.convert(value, Script)
        for dialogue in script.dialogues:
            re.compile(dialogue.when)
    except OSError as error:
        raise InvalidConfig(f"The script {path} could not be read: {error.strerror}.") from None
    except (ValueError, re.error) as error:
        raise InvalidConfig(f"The script {path} cannot be followed: {error}. Nothing was run.") from None
    return script
