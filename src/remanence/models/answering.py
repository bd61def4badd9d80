"""One model call, whoever makes it: in time, and with nothing but failures of a call coming out of it.

The driver of a session and the meter of the calls that belong to none both ask here, so that a model cannot hold up the
one or the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from remanence.models.obedience import heard
from remanence.patience import STOP_GRACE_S, StillRunning, within
from remanence.ports import Model, ModelReply, ModelRequest, OnDelta

__all__ = ["answer", "too_late"]


async def answer(
    model: Model, request: ModelRequest, on_delta: OnDelta | None, answered: Callable[[], None] | None = None
) -> ModelReply:
    """What the model answers in time; `on_delta` hears of it what is to stand. Raises TimeoutError, and what the model
    raises; one that does not stop when it is cancelled is left to itself: a turn, a cancel and the end of the process
    do not wait for it. `answered` is called at once, before whoever waits here is woken."""
    work = _contained(model.reply(request, heard(request.settings, on_delta)), answered)
    return await within(work, request.timeout_s, STOP_GRACE_S, request.effect_key)


async def _contained(reply: Awaitable[ModelReply], answered: Callable[[], None] | None) -> ModelReply:
    """The reply. What would end the process, or passes for no `Exception`, is a failure of the model like any other."""
    try:
        made = await reply
    except (SystemExit, BaseExceptionGroup) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    if answered is not None:
        answered()
    return made


def too_late(request: ModelRequest, late: TimeoutError) -> str:
    """What to say of a model that did not answer in time."""
    stays = ", and it did not stop when it was told to" if isinstance(late, StillRunning) else ""
    return f"no reply within {request.timeout_s:g} s{stays}"
