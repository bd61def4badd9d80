"""Asking the person at the terminal for what a session waits for, and journaling the answer under their name.

Each question returns whether an answer was given; with none, the session goes on waiting and nothing was written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

from remanence.cli.background import Background
from remanence.cli.output import bold, clean, facts, say
from remanence.cli.watching import Rest
from remanence.commands.approvals import Resolution, Ruling
from remanence.core.ledger import usd_to_micros
from remanence.core.state import Call, Session
from remanence.errors import RemanenceError

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["Desk", "answered"]


class Desk(NamedTuple):
    """Where somebody sits: the loop, whoever answers, and the name that answers are journaled under."""

    loop: Background
    reach: Reach
    person: str


def answered(desk: Desk, s: Session, rest: Rest) -> bool:
    """Ask for what is waited for, if it can be answered here by more than a line of text."""
    say(bold(rest.sentence))
    try:
        match rest.word:
            case "approval" if rest.call is not None:
                return _approval(desk, s, rest.call)
            case "doubt" if rest.call is not None:
                return _doubt(desk, s, rest.call)
            case "budget":
                return _budget(desk, s)
            case "thaw":
                return _thaw(desk, s)
            case _:
                return False
    except RemanenceError as error:
        say(error.message)
        return False


def _ask(question: str) -> str:
    """One line from the person; empty at the end of the input."""
    try:
        return input(f"{question} ").strip()
    except EOFError:
        say()
        return ""


def _approval(desk: Desk, s: Session, call: Call) -> bool:
    question = f"Approve as {desk.person}? [y]es, [n]o, [d]etails, Enter: later"
    while (word := _ask(question).lower()) not in ("", "l", "later"):
        if word in ("y", "yes"):
            desk.loop.call(desk.reach.people.decide(s.id, call.call, Ruling()))
            return True
        if word in ("n", "no"):
            why = _ask("Why? The agent reads it. Enter: no reason")
            desk.loop.call(desk.reach.people.decide(s.id, call.call, Ruling("deny", why)))
            return True
        if word in ("d", "details"):
            _details(call)
    return False


def _details(call: Call) -> None:
    facts(
        [
            ("tool", call.name),
            ("arguments", _pretty(call.arguments)),
            ("digest", call.digest),
            ("rule", call.reason),
            ("approvers", ", ".join(call.approvers) or "anyone"),
            ("promise", f"replay={call.replay}" if call.attempt else ""),
            ("call", call.call),
        ]
    )


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return arguments


def _doubt(desk: Desk, s: Session, call: Call) -> bool:
    outcomes: dict[str, Literal["happened", "run_again", "give_up"]] = {
        "h": "happened",
        "r": "run_again",
        "g": "give_up",
    }
    say("Look outside whether it did, under this key:\n  " + clean(f"{s.id}:{s.turns}:{call.call}"))
    question = "It [h]appened, [r]un it again, [g]ive up, [d]etails, Enter: later"
    while (word := _ask(question).lower()[:1]) not in ("", "l"):
        if word in outcomes:
            result = _ask("What came of it? The agent reads it.") if word == "h" else ""
            desk.loop.call(desk.reach.people.resolve(s.id, call.call, Resolution(outcomes[word], result)))
            return True
        if word == "d":
            _details(call)
    return False


def _budget(desk: Desk, s: Session) -> bool:
    pause = s.pause
    if pause is None:
        return False
    tokens = pause.unit == "tokens"
    amount = _ask(f"Raise it by how {'many tokens' if tokens else 'much (such as 0.50)'}? Enter: not now")
    if not amount:
        return False
    if tokens and not amount.isdigit():
        say(f"{clean(amount)!r} is not a number of tokens.")
        return False
    if tokens:
        desk.loop.call(desk.reach.money.raise_budget(pause.scope, "tokens", by=int(amount)))
    else:
        desk.loop.call(desk.reach.money.raise_budget(pause.scope, "usd_micros", by=usd_to_micros(amount)))
    return True


def _thaw(desk: Desk, s: Session) -> bool:
    if s.frozen is None or _ask(f"Thaw it as {desk.person}? [y]es, Enter: no").lower() not in ("y", "yes"):
        return False
    desk.loop.call(desk.reach.steering.thaw(s.id, ""))
    return True
