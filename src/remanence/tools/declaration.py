"""What may be said when a function is declared a tool, and what it comes to: a `ToolSpec` and perhaps an `AskRule`.

Everything that can be wrong is wrong at import, with a message that names the function, its file and its line.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, Final, NoReturn, TypedDict, cast, get_args

from remanence.core.condition import ConditionError, parse, unknown_names
from remanence.errors import InvalidSpec
from remanence.spec import AskRule, Replay, ToolSpec
from remanence.tools.signature import EFFECT_KEY, Signature

__all__ = ["ToolOptions", "approval_of", "check_reconcile", "function_of", "spec_of"]

TIMEOUT_S: Final = 60.0
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ToolOptions(TypedDict, total=False):
    """The options of `@tool`, all with a default.

    - `replay`: what the tool promises about running twice, `"never"` (default), `"keyed"` or `"safe"`.
    - `approval`: a condition on the arguments, such as `"cents > 5000"`, under which a person is asked; `True`: always.
      It reads what the model wrote: an argument left to its default is unknown to it, so a person is asked.
    - `approvers`, `needed`, `expires_s`: who may answer (empty: anyone allowed in), how many must, and for how long the
      question stands, in seconds (`None`: for ever).
    - `name`: what the model calls it; default: the function's name.
    - `timeout_s`: seconds before the runtime stops waiting for a call; default 60.
    - `reconcile`: a function of the effect key that knows what became of an effect: its result, `NOT_HAPPENED`, or
      `None` when it cannot tell.
    - `untrusted`: strangers may have written what it returns, such as a web page or a mail: default `False`.
    """

    replay: Replay
    approval: str | bool
    approvers: Sequence[str]
    needed: int
    expires_s: float | None
    name: str | None
    timeout_s: float
    reconcile: Callable[[str], Any] | None
    untrusted: bool


def function_of(function: object, options: ToolOptions) -> tuple[str, str]:
    """Where the function stands, in words for errors, and the name of its tool. Raises `InvalidSpec`."""
    if not inspect.isroutine(function) or not callable(function):
        raise InvalidSpec(_not_a_function(function))
    name = cast("object", options.get("name")) or function.__name__
    code = getattr(inspect.unwrap(function), "__code__", None)
    where = f"`{name}` ({PurePath(code.co_filename).name}, line {code.co_firstlineno})" if code else f"`{name}`"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidSpec(
            f"Tool {where}: a name has 1 to 64 letters, digits, `_` or `-`; give one with @tool(name=...).",
            param="name",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidSpec(f"Tool {where}: a tool returns one result; it cannot `yield`.")
    unknown = sorted(options.keys() - ToolOptions.__annotations__.keys())
    if unknown:
        known = ", ".join(ToolOptions.__annotations__)
        raise InvalidSpec(
            f"Tool {where}: no such option: {', '.join(unknown)}. The options are {known}.", param=unknown[0]
        )
    return where, name


def _not_a_function(function: object) -> str:
    if isinstance(function, classmethod | staticmethod):
        return (
            "@tool goes on a function, not on a method that has no class yet; make it one later: tool(TheClass.method)."
        )
    if callable(function):
        return (
            f"@tool goes on a function, not on {function!r}. Write one that calls it: "
            "its parameters are what a model is told."
        )
    return f"@tool goes on a function, not on {function!r}; options are given by name, as in @tool(name=...)."


def spec_of(name: str, signature: Signature, options: ToolOptions, where: str) -> ToolSpec:
    """The tool as the model and the policy see it. Raises `InvalidSpec`."""
    replay, timeout_s, reconcile = (
        options.get("replay", "never"),
        options.get("timeout_s", TIMEOUT_S),
        options.get("reconcile"),
    )
    if replay not in get_args(Replay):
        _refuse(where, "replay", f"replay={replay!r} is not one of 'safe', 'keyed', 'never'")
    if replay == "keyed" and not (signature.takes_effect_key or signature.contexts):
        words = f"replay='keyed' promises to use the effect key: take `{EFFECT_KEY}: str`"
        _refuse(where, "replay", f"{words}, or say 'safe' if it may run twice")
    untrusted = cast("object", options.get("untrusted", False))
    if not isinstance(untrusted, bool):
        _refuse(where, "untrusted", f"untrusted={untrusted!r} is neither True nor False")
    if not _is_duration(timeout_s):
        _refuse(where, "timeout_s", f"timeout_s={timeout_s!r} is not a number of seconds over 0")
    if reconcile is not None:
        check_reconcile(reconcile, where)
    return ToolSpec(
        name=name,
        description=signature.description,
        parameters=signature.parameters,
        replay=replay,
        reconciles=reconcile is not None,
        timeout_s=float(timeout_s),
        untrusted=untrusted,
    )


def approval_of(spec: ToolSpec, options: ToolOptions, where: str) -> AskRule | None:
    """The rule that `approval=` stands for, or None. Raises `InvalidSpec`."""
    approval, approvers = options.get("approval", False), options.get("approvers", ())
    needed, expires_s = options.get("needed", 1), options.get("expires_s")
    if approval is False:
        alone = [name for name in ("approvers", "needed", "expires_s") if name in options]
        if alone:
            _refuse(where, alone[0], f"{alone[0]}= says nothing without approval=; give a condition, or approval=True")
        return None
    if isinstance(approvers, str) or not all(
        isinstance(name, str) and name for name in cast("Sequence[object]", approvers)
    ):
        _refuse(where, "approvers", f"approvers={approvers!r} is not a sequence of names")
    if isinstance(needed, bool) or not isinstance(cast("object", needed), int) or needed < 1:
        _refuse(where, "needed", f"needed={needed!r} is not a number of people, 1 or more")
    if approvers and needed > len(set(approvers)):
        _refuse(where, "needed", f"needed={needed} people, but only {len(set(approvers))} may answer")
    if expires_s is not None and not _is_duration(expires_s):
        _refuse(where, "expires_s", f"expires_s={expires_s!r} is not a number of seconds over 0, nor None")
    if approval is not True and not isinstance(cast("object", approval), str):
        _refuse(where, "approval", f"approval={approval!r} is neither a condition, such as 'cents > 5000', nor a bool")
    when = "" if approval is True else _condition(spec, approval, where)
    return AskRule(spec.name, when, tuple(approvers), needed, None if expires_s is None else float(expires_s))


def check_reconcile(reconcile: object, where: str) -> None:
    """Raises `InvalidSpec` when it cannot be called with an effect key."""
    if not callable(reconcile):
        _refuse(where, "reconcile", f"reconcile={reconcile!r} is not a function")
    try:
        inspect.signature(cast("Callable[..., Any]", reconcile)).bind("session:turn:call")
    except TypeError as error:
        _refuse(where, "reconcile", f"`reconcile` is called with the effect key alone: {error}")
    except ValueError:
        # Some functions written in C have no signature to look at; they are taken at their word.
        return


def _condition(spec: ToolSpec, text: str, where: str) -> str:
    try:
        condition = parse(text)
    except ConditionError as error:
        _refuse(where, "approval", f"approval={text!r}: {error}")
    unknown = unknown_names(condition, spec.parameters)
    if unknown:
        known = ", ".join(spec.parameters["properties"]) or "none"
        _refuse(
            where, "approval", f"approval={text!r} names `{unknown[0]}`, which is not an argument; they are: {known}"
        )
    return text


def _is_duration(seconds: object) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf


def _refuse(where: str, param: str, words: str) -> NoReturn:
    raise InvalidSpec(f"Tool {where}: {words}.", param=param)
