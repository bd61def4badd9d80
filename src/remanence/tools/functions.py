"""Python functions as tools: `@tool` reads the signature, checks the calls, and contains what goes wrong.

A declaration that cannot mean what it says is refused at import (`InvalidSpec`). After that nothing raises: a call the
function would not take becomes an outcome that tells the model which argument to correct, and whatever the function
raises becomes an outcome with the exception's type and text. The traceback goes to the log, never to the model.

A plain function runs in a thread and never blocks the loop; an `async` one runs on the loop and should not block it.
How long a call may take is not decided here: the runtime cuts it, because only it knows what a cut means.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from msgspec.structs import replace

from remanence.content import ToolCall
from remanence.errors import EffectInDoubt, InvalidSpec, ToolError
from remanence.ports import ToolCallContext, ToolOutcome
from remanence.spec import AskRule, ToolSpec
from remanence.tools.declaration import ToolOptions, approval_of, check_reconcile, function_of, spec_of
from remanence.tools.results import failure, outcome_of, refusal
from remanence.tools.signature import read_signature
from remanence.tools.threads import Threads
from remanence.values import NOT_STARTED

__all__ = ["NOT_HAPPENED", "FunctionTool", "ToolOptions", "tool"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[[str], Any])

NOT_HAPPENED: Final = "not_happened"
"""What a `reconcile` function returns when it knows that the effect did not happen. `False` says the same."""

THREADS_MAX: Final = 64
TRACEBACK_MAX: Final = 16_000
_threads: Final = Threads(THREADS_MAX)


@overload
def tool(function: Callable[P, R], /) -> FunctionTool[P, R]: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Unpack[ToolOptions]) -> Any:
    """Make a Python function, sync or async, a tool; bare or with options (see `ToolOptions`).

    The signature and the docstring become the JSON Schema the model reads. `effect_key: str` and a parameter annotated
    `ToolCallContext` are given by the runtime and not shown. Raises `InvalidSpec` when the declaration has no meaning.
    """
    frame = inspect.currentframe()
    namespace = dict(frame.f_back.f_locals) if frame and frame.f_back else {}

    def declare(declared: Callable[..., Any]) -> FunctionTool[..., Any]:
        return FunctionTool(declared, options, namespace)

    return declare if function is None else declare(function)


class FunctionTool(Generic[P, R]):
    """A Python function as a `remanence.ports.Tool`. Calling it calls the function, as if it were not decorated."""

    __name__: str

    def __init__(self, function: Callable[P, R], options: ToolOptions, namespace: Mapping[str, Any]) -> None:
        where, name = function_of(function, options)
        self._function = function
        self._blocking = not inspect.iscoroutinefunction(function)
        self._signature = read_signature(function, where, namespace)
        self._spec = spec_of(name, self._signature, options, where)
        self._approval = approval_of(self._spec, options, where)
        self._reconcile = options.get("reconcile")
        functools.update_wrapper(cast("Any", self), function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self._spec.name}>"

    @property
    def spec(self) -> ToolSpec:
        """The tool as the model and the policy see it."""
        return self._spec

    @property
    def approval(self) -> AskRule | None:
        """The rule that its `approval=` stands for, if it has one."""
        return self._approval

    async def run(self, call: ToolCall, context: ToolCallContext) -> ToolOutcome:
        """Perform one call. Raises nothing but cancellation from outside, and `EffectInDoubt` when the tool does."""
        try:
            arguments = self._signature.bind(call.arguments)
        except Exception as error:  # noqa: BLE001 - a dataclass may run code of its own when it is made
            return refusal(f"The arguments of {self._spec.name} are not valid, so it was not run: {_said(error)}")
        arguments |= self._signature.hidden(_reporting_on_loop(context) if self._blocking else context)
        action = functools.partial(_in_time, functools.partial(self._function, **arguments), context.may_start)
        value, error = await _attempt(action, self._blocking)
        if value is NOT_STARTED:
            return NOT_STARTED
        if error is None:
            return outcome_of(value)
        if isinstance(error, EffectInDoubt):
            raise error
        if isinstance(error, ToolError):
            return failure(str(error) or f"{self._spec.name} refused")
        _log_raised("A tool raised; the model was told.", error, self._spec.name, context.effect_key)
        return failure(f"{self._spec.name} failed: {_named(error)}")

    @overload
    def reconcile(self, effect_key: str) -> CoroutineType[Any, Any, ToolOutcome | Literal["not_happened"] | None]: ...
    @overload
    def reconcile(self, effect_key: F) -> F: ...
    def reconcile(self, effect_key: str | Callable[[str], Any]) -> Any:
        """What became of an effect: its outcome, `not_happened`, or None when the tool cannot tell. Raises what its
        function raises: then it may be asked again.

        As a decorator (`@refund.reconcile`), makes a function of the effect key the one that knows.
        """
        if isinstance(effect_key, str):
            return self._reconciled(effect_key)
        check_reconcile(effect_key, self._spec.name)
        if self._reconcile is not None:
            raise InvalidSpec(f"Tool {self._spec.name}: it already has a `reconcile` function.")
        self._reconcile = effect_key
        self._spec = replace(self._spec, reconciles=True)
        return effect_key

    async def _reconciled(self, effect_key: str) -> ToolOutcome | Literal["not_happened"] | None:
        if self._reconcile is None:
            return None
        blocking = not inspect.iscoroutinefunction(self._reconcile)
        value, error = await _attempt(functools.partial(self._reconcile, effect_key), blocking)
        if error is not None:
            raise error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}") from error
        if value is None:
            return None
        if value is False or (isinstance(value, str) and value == NOT_HAPPENED):
            return NOT_HAPPENED
        return outcome_of(None if value is True else value)


# --- containment ------------------------------------------------------------------------------------------------------


async def _attempt(action: Callable[[], Any], blocking: bool) -> tuple[Any, BaseException | None]:
    """The value or the exception of `action`. Raises only what is meant for the worker: cancellation, interruption.

    `SystemExit` is the tool's own: what it calls may be a command at heart, and the worker has other sessions.
    """
    try:
        if blocking:
            value, error = await _threads.run(functools.partial(_caught, action))
            if error is not None:
                return None, error
        else:
            value = action()
        return (await value if inspect.isawaitable(value) else value), None
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this call: something inside the tool was, and let it out.
        return None, error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a tool may raise anything, and the worker must live
        return None, error


def _in_time(action: Callable[[], Any], may_start: Callable[[], bool] | None) -> Any:
    """Begin, unless the wait for a thread outlasted the right to."""
    return action() if may_start is None or may_start() else NOT_STARTED


def _caught(action: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """In a thread nothing is meant for the worker: signals arrive elsewhere, so even `SystemExit` is the tool's own."""
    try:
        return action(), None
    except BaseException as error:  # noqa: BLE001 - see above
        return None, error


def _reporting_on_loop(context: ToolCallContext) -> ToolCallContext:
    """The context for a thread: progress is reported on the loop that the reader of it lives on."""
    report, loop = context.on_progress, asyncio.get_running_loop()
    if report is None:
        return context

    def on_progress(text: str) -> None:
        loop.call_soon_threadsafe(report, text)

    return replace(context, on_progress=on_progress)


def _said(error: BaseException) -> str:
    return str(error) if type(error) is ValueError else _named(error)


def _named(error: BaseException) -> str:
    """The exception's type and text, without a traceback."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception may be broken itself
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _log_raised(event: str, error: BaseException, tool: str, effect_key: str) -> None:
    # Imported here: `import remanence` and a worker whose tools behave never need it.
    import structlog

    # Formatted here, plain and bounded: a renderer may take seconds over a long message, or show local variables.
    text = "".join(traceback.format_exception(error))[-TRACEBACK_MAX:]
    structlog.get_logger("remanence.tools").warning(event, tool=tool, effect_key=effect_key, exception=text)
