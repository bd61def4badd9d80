"""What becomes of a session as a whole: it is opened, forked, upgraded, annotated, held, paid for, erased, deleted."""

from __future__ import annotations

from typing import Any, Literal

from remanence.events.fact import Fact

__all__ = [
    "BudgetRaised",
    "BudgetReached",
    "Redacted",
    "SessionAnnotated",
    "SessionDeleted",
    "SessionForked",
    "SessionFrozen",
    "SessionOpened",
    "SessionThawed",
    "SessionUpgraded",
]


class SessionOpened(Fact, frozen=True):
    """A session began. It pins the version and the policy it will keep until somebody asks for an upgrade.

    `face` is what the wire format that opened it wants to see again and the runtime does not act on.
    """

    agent: str
    version: str
    policy: str
    project: str = "default"
    user: str = ""
    title: str = ""
    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}


class SessionForked(Fact, frozen=True):
    """A session began as a copy of `source` up to and including `position`; nothing was copied."""

    source: str
    position: int
    title: str = ""
    user: str = ""
    metadata: dict[str, str] = {}


class SessionUpgraded(Fact, frozen=True):
    """Somebody asked this session to go on with another version or policy of its agent."""

    version: str
    policy: str
    by: str = ""


class SessionAnnotated(Fact, frozen=True):
    """Somebody changed what the session carries along: `metadata` and `face` replace what was there, whole."""

    metadata: dict[str, str] = {}
    face: dict[str, Any] = {}
    by: str = ""


class SessionDeleted(Fact, frozen=True):
    """Somebody removed the session: its turn ends, nothing starts in it any more, and no face shows it."""

    by: str
    reason: str = ""


class SessionFrozen(Fact, frozen=True):
    """No new effect starts in this session until it is thawed. Inputs are still accepted and kept."""

    by: str
    reason: str = ""


class SessionThawed(Fact, frozen=True):
    """The freeze of this session was lifted."""

    by: str
    reason: str = ""


class BudgetReached(Fact, frozen=True):
    """A reservation would have overshot `limit`; the session pauses. Amounts in `unit` (`usd_micros` or `tokens`).

    `reason` says so when the call could not be reserved at all, because no price is known for its model.
    """

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    used: int
    needed: int
    reason: str = ""


class BudgetRaised(Fact, frozen=True):
    """A budget this session waited for was raised; it may go on."""

    scope: str
    unit: Literal["usd_micros", "tokens"]
    limit: int
    by: str


class Redacted(Fact, frozen=True):
    """The content of the record at `position` was erased; its digest stays, so the chain still verifies.

    `seal` (64 hexadecimal digits) stands for all that is left there: see `events/sealing.py`.
    """

    position: int
    by: str
    reason: str = ""
    seal: str = ""
