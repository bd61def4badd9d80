"""What the runtime is given: the doors it may use and the times it keeps. Wired once, in `app.py`."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from remanence.ports import Clock, Database, Model, Tool, Toolbox
from remanence.runtime.live import Hub
from remanence.runtime.outage import Outage
from remanence.runtime.recall import Recollector

__all__ = ["Services", "Times"]


class Times(msgspec.Struct, frozen=True):
    """How long things take, in seconds.

    `lease_s` bounds how late a dead worker's sessions are taken over; `linger_s` is how long a worker keeps an idle
    session at hand, so that the next input needs no claim; `drain_s` is how long a shutdown waits for running effects.
    """

    lease_s: float = 30.0
    linger_s: float = 2.0
    drain_s: float = 20.0
    poll_s: float = 0.5
    retry_base_s: float = 0.5
    retry_cap_s: float = 60.0
    key_s: float = 86_400.0
    """How long an idempotency key is honoured."""
    held_s: float = 30.0
    """How soon a session that met a standing freeze looks again, should nobody tell it of the thaw."""


class Services(msgspec.Struct, frozen=True):
    """The runtime's surroundings."""

    database: Database
    model: Model
    tools: Toolbox
    live: Hub
    clock: Clock
    dice: random.Random
    worker: str
    times: Times = Times()
    sessions_max: int = 256
    """How many sessions this worker drives at once."""
    recollector: Recollector | None = None
    """Long-term memory, for the agents that have one."""
    builtins: Mapping[str, Tool] = {}
    """The runtime's own tools that run, by name."""
    outage: Outage = msgspec.field(default_factory=Outage)
