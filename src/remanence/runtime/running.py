"""What a worker has running, for whoever must say what an end cuts off."""

from __future__ import annotations

import msgspec

from remanence.spec import Replay

__all__ = ["Running"]


class Running(msgspec.Struct, frozen=True):
    """A tool call that was started here and has not come back."""

    session: str
    tool: str
    effect_key: str
    replay: Replay
