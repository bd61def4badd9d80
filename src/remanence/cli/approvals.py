"""`approvals`: what waits for a person, and answering it under one's own name."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import click

from remanence.cli.command import REMARK, Format, Group, Invocation, Number, Whole, asynchronous, leave, spelled
from remanence.cli.lines import call_words, question_words
from remanence.cli.output import bold, clean, facts, moment, note, say, show, table
from remanence.commands.approvals import Ruling
from remanence.commands.shapes import ApprovalShape, SentShape, SettledShape
from remanence.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from remanence.cli.reach import Reach

__all__ = ["approvals"]

POLL_S = 0.5
LIMIT = 1_000


@click.group(cls=Group)
def approvals() -> None:
    """Answer calls that wait for a person.

    An answer is bound to the exact arguments, to you (--as NAME), and to the policy that asked; it is used once.
    """


@approvals.command("list", shape=list[ApprovalShape])
@click.option("--session", metavar="ID", help="Only those of this session (or `last`).")
@click.option(
    "--limit",
    type=Whole(1, 1000),
    default=100,
    metavar="N",
    show_default=True,
    help="At most so many sessions.",
)
@asynchronous
async def list_(call: Invocation, *, session: str | None, limit: int, output: Format) -> None:
    """Calls that wait for a yes or no, and questions that wait for an answer."""
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        only = await session_called(reach, session) if session else None
        found = await reach.people.waiting(only, limit)
    show(found, output, lambda: _list_table(found))


def _list_table(found: list[ApprovalShape]) -> None:
    rows = [
        (
            waiting.session,
            waiting.call,
            waiting.agent,
            _what(waiting),
            _who(waiting),
            "ran out" if _ran_out(waiting) else moment(waiting.expires_at),
        )
        for waiting in found
    ]
    table(("SESSION", "CALL", "AGENT", "WHAT", "WHO", "UNTIL"), rows, empty="Nothing waits for an answer.")
    first = next((waiting for waiting in found if not _ran_out(waiting)), None)
    if first is not None:
        note(f"Answer with, for example:\n  {_command(first)}")


def _ran_out(waiting: ApprovalShape) -> bool:
    """Nobody may answer any more: it is refused as soon as a worker looks, which none does while nobody works."""
    return waiting.expires_at is not None and waiting.expires_at <= time.time_ns() // 1_000


def _what(waiting: ApprovalShape) -> str:
    words = question_words if waiting.kind == "answer" else call_words
    return words(waiting.tool, waiting.arguments)


def _who(waiting: ApprovalShape) -> str:
    count = f" ({len(waiting.approved_by)}/{waiting.needed})" if waiting.needed > 1 else ""
    return (", ".join(waiting.approvers) or "anyone") + count


def _command(waiting: ApprovalShape) -> str:
    if waiting.kind == "answer":
        return spelled("approvals", "answer", waiting.session, "YOUR ANSWER", "--call", waiting.call)
    by = ("--as", waiting.approvers[0]) if waiting.approvers else ()
    return spelled("approvals", "approve", waiting.session, waiting.call, *by)


# --- answering --------------------------------------------------------------------------------------------------------


class AnswerOptions(TypedDict, total=False):
    """The options of `approve` and `deny`."""

    note: str
    expires_s: float | None
    yes: bool
    output: Format


@approvals.command("approve", shape=SettledShape)
@click.argument("session", metavar="ID")
@click.argument("called", metavar="[CALL]", required=False)
@click.option("--note", "--reason", "note", type=REMARK, default="", help="A remark; it is journaled.")
@click.option(
    "--expires-s",
    type=Number(0, min_open=True),
    metavar="SECONDS",
    help="The approval runs out after this many seconds.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask back when CALL is left out.")
@asynchronous
async def approve(call: Invocation, session: str, called: str | None, **options: Unpack[AnswerOptions]) -> None:
    """Let one exact call run.

    CALL can be left out when only one call of the session waits; then it is shown first, and you are asked.
    """
    await _answer(call, session, called, "approve", options)


@approvals.command("deny", shape=SettledShape)
@click.argument("session", metavar="ID")
@click.argument("called", metavar="[CALL]", required=False)
@click.option("--note", "--reason", "note", type=REMARK, default="", help="Why; the agent reads it.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask back when CALL is left out.")
@asynchronous
async def deny(call: Invocation, session: str, called: str | None, **options: Unpack[AnswerOptions]) -> None:
    """Refuse one exact call; the agent is told."""
    await _answer(call, session, called, "deny", options)


@approvals.command("answer", shape=SentShape)
@click.argument("session", metavar="ID")
@click.argument("text")
@click.option("--call", "called", metavar="CALL", help="This question; needed only when several are open.")
@asynchronous
async def answer(call: Invocation, session: str, text: str, *, called: str | None, output: Format) -> None:
    """Answer what the agent asked. The session goes on with it.

    TEXT is the answer; - reads it from stdin. Where no question waits, nothing is said.
    """
    from remanence.cli.choosing import session_called
    from remanence.cli.run import freeze_over, input_text, say_accepted

    said = input_text(text)
    async with call.reach() as reach:
        found = await session_called(reach, session)
        meant = called or (await _only(reach, found, "answer")).call
        shape = await reach.people.answer(found, meant, said)
        freeze = await freeze_over(reach, found) if output == "table" else None
    words = f"Accepted as record {shape.position} of {shape.session}"
    show(shape, output, lambda: say_accepted(words, freeze, spelled("attach", shape.session)))


async def _answer(
    call: Invocation, session: str, called: str | None, decision: Literal["approve", "deny"], options: AnswerOptions
) -> None:
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        found = await session_called(reach, session)
        waiting = await _meant(reach, found, called)
        if called is None and not options.get("yes"):
            _confirm(waiting, decision, reach.person)
        ruling = Ruling(decision, options.get("note", ""), options.get("expires_s"))
        shape = await reach.people.decide(found, waiting.call, ruling)
    word = "Approved" if decision == "approve" else "Denied"
    told = f"{word} by {shape.by}: {call_words(waiting.tool, waiting.arguments)}"
    show(shape, options.get("output", "table"), lambda: say(told))


async def _meant(reach: Reach, session: str, called: str | None) -> ApprovalShape:
    """The call that is answered. Raises NotFound and InvalidInput, saying which there are."""
    if called is None:
        return await _only(reach, session, "approval")
    for waiting in await _waiting(reach, session, "approval"):
        if waiting.call == called:
            return waiting
    raise await _not_waiting(reach, session, called)


async def _waiting(reach: Reach, session: str, kind: Literal["approval", "answer"]) -> list[ApprovalShape]:
    return [waiting for waiting in await reach.people.waiting(session, LIMIT) if waiting.kind == kind]


async def _only(reach: Reach, session: str, kind: Literal["approval", "answer"]) -> ApprovalShape:
    """The one call of a session that waits for this. Raises NotFound and InvalidInput, saying which there are."""
    found = await _waiting(reach, session, kind)
    if not found:
        raise NotFound(f"No call of session {session} waits for an {kind}. Nothing was recorded.", param="call")
    if len(found) > 1:
        calls = ", ".join(f"{waiting.call} ({waiting.tool})" for waiting in found)
        raise InvalidInput(f"Several calls wait: {calls}. Nothing was recorded; name one.", param="call")
    return found[0]


async def _not_waiting(reach: Reach, session: str, called: str) -> NotFound | Conflict:
    known = (await reach.journals.state(session)).call(called)
    if known is None:
        return NotFound(
            f"Session {session} has no open call {called}; its turn may have ended. Nothing was recorded.", param="call"
        )
    return Conflict(f"Call {called} does not wait for an approval (it is {known.state}). Nothing was recorded.")


def _confirm(waiting: ApprovalShape, decision: str, person: str) -> None:
    """Show the exact call and ask. Without a terminal nobody can be asked, so nothing is answered."""
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"{_what(waiting)} waits. Nothing was recorded: name the call ({waiting.call}) or say --yes.", param="call"
        )
    say(bold(_what(waiting)))
    facts(
        [
            ("arguments", _pretty(waiting.arguments)),
            ("rule", waiting.rule),
            ("agent", waiting.agent),
            ("for", waiting.user),
            ("digest", waiting.arguments_digest),
        ]
    )
    click.confirm(f"{decision.capitalize()} it as {person}?", abort=True)


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return clean(arguments)


# --- watching ---------------------------------------------------------------------------------------------------------


@approvals.command("watch", shape=list[ApprovalShape])
@click.option(
    "--timeout-s",
    type=Number(0),
    metavar="SECONDS",
    help="Stop after this many seconds. Default: Ctrl-C stops it.",
)
@asynchronous
async def watch(call: Invocation, *, timeout_s: float | None, output: Format) -> None:
    """Print what comes to wait for an answer, as it comes. -o json prints one object a line."""
    seen: set[tuple[str, str]] = set()
    async with call.reach() as reach:
        try:
            await _print_unseen(reach, seen, output)  # once in any case, however short the time
            async with asyncio.timeout(timeout_s):
                while True:
                    await asyncio.sleep(POLL_S)
                    await _print_unseen(reach, seen, output)
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
    leave(0)


async def _print_unseen(reach: Reach, seen: set[tuple[str, str]], output: Format) -> None:
    for waiting in await reach.people.waiting(None, LIMIT):
        if (waiting.session, waiting.call) not in seen and not _ran_out(waiting):
            seen.add((waiting.session, waiting.call))
            _print_waiting(waiting, output)


def _print_waiting(waiting: ApprovalShape, output: Format) -> None:
    def told() -> None:
        say(f"{bold(_what(waiting))}  {waiting.rule}\n  {_command(waiting)}")

    show(waiting, "jsonl" if output == "json" else output, told)
