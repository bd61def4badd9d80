"""`memory erase`, `redact`, `receipts`, `verify-erasure`, `hold`, `unhold`, `holds`: erasing for good, unless held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict, Unpack

import click
import msgspec

from remanence.cli.command import Command, Format, Invocation, Words, asynchronous, leave, spelled
from remanence.cli.output import counted, moment, note, say, show, sure, table
from remanence.commands.erasure import LegalHold
from remanence.commands.proof import Check
from remanence.commands.receipts import Receipt, What, read_receipt

__all__ = ["erase", "hold", "holds", "receipts", "redact", "unhold", "verify_erasure"]

_REASON = click.option(
    "--reason",
    type=Words(1_000, shortest=1),
    required=True,
    metavar="TEXT",
    help="Why. It stays in the journal and the receipt.",
)


class Order(TypedDict):
    """The options of `erase` and `redact`."""

    reason: str
    file: Path | None
    yes: bool
    output: Format


def _ordering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an order."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--receipt", "file", type=path, metavar="FILE", help="Write the receipt there, too."),
        _REASON,
    ):
        function = option(function)
    return function


@click.command("erase", cls=Command, shape=Receipt)
@click.argument("what", type=click.Choice(["memory", "session", "subject", "user"]))
@click.argument("name")
@_ordering
@asynchronous
async def erase(call: Invocation, what: What, name: str, **order: Unpack[Order]) -> None:
    """Erase a memory, a session, a subject or a user for good, wherever it has gone.

    What was said becomes a skeleton whose digest still fits the chain; notes learned from it, summaries, indexes, blobs
    and the pages of the files go with it. There is no way back. A legal hold over any of it refuses the whole order.
    """
    if not order["yes"]:
        sure(f"Erase {what} {name} for good?", otherwise="Nothing was erased")
    async with call.reach(indexed=True) as reach:
        receipt = await reach.memory.erase(what, name, order["reason"])
    _write(receipt, order["file"])
    show(receipt, order["output"], lambda: _print_receipt(receipt, order["file"]))


@click.command("redact", cls=Command, shape=Receipt)
@click.argument("memory_id", metavar="ID")
@_ordering
@asynchronous
async def redact(call: Invocation, memory_id: str, **order: Unpack[Order]) -> None:
    """Erase one memory for good, all its versions and what was learned from it: short for `erase memory ID`.

    `forget` keeps the history; this does not. There is no way back, and a legal hold refuses it.
    """
    if not order["yes"]:
        sure(f"Erase memory {memory_id} for good?", otherwise="Nothing was erased")
    async with call.reach(indexed=True) as reach:
        receipt = await reach.memory.redact(memory_id, order["reason"])
    _write(receipt, order["file"])
    show(receipt, order["output"], lambda: _print_receipt(receipt, order["file"]))


def _write(receipt: Receipt, file: Path | None) -> None:
    if file is not None:
        file.write_bytes(msgspec.json.encode(receipt))


def _print_receipt(receipt: Receipt, file: Path | None) -> None:
    memories = counted(len(receipt.memories), "memory", "memories")
    sessions = {record.session for record in receipt.records}
    say(
        f"Erased {counted(len(receipt.records), 'record')} of {counted(len(sessions), 'session')} and {memories}. "
        f"The receipt is {receipt.order.id}."
    )
    for beyond in receipt.beyond:
        note(f"Not reached: {beyond}.")
    shown = str(file) if file is not None else receipt.order.id
    say(f"To prove that nothing is left:\n  {spelled('memory', 'verify-erasure', shown)}")


@click.command("receipts", cls=Command, shape=list[Receipt])
@asynchronous
async def receipts(call: Invocation, *, output: Format) -> None:
    """What was erased, when and by whose order."""
    async with call.reach(indexed=True) as reach:
        found = list(await reach.memory.receipts())
    rows = [
        (r.order.id, r.order.what, r.order.name, r.order.by, moment(r.order.at), str(len(r.records)), r.order.reason)
        for r in found
    ]
    columns = ("ERASURE", "WHAT", "NAME", "BY", "AT", "RECORDS", "REASON")
    show(found, output, lambda: table(columns, rows, empty="Nothing was erased."))


@click.command("verify-erasure", cls=Command, shape=list[Check])
@click.argument("receipt")
@click.option("--name", default="", metavar="NAME", help="The user, subject or block it is about: checked as well.")
@asynchronous
async def verify_erasure(call: Invocation, receipt: str, *, name: str, output: Format) -> None:
    """Prove that nothing is left of what RECEIPT, a file or an id, says was erased.

    Checks the signature, looks up every record and memory, and searches the bytes of the database's files. A receipt
    does not say who was erased; with NAME it is checked that it is about them, and that no record from before names
    them.
    """
    async with call.reach(indexed=True) as reach:
        whole = _read(Path(receipt)) or await reach.memory.receipt(receipt)
        found = list(await reach.memory.verify(whole, name))
    rows = [("holds" if check.holds else "FAILS", check.what, check.found) for check in found]
    show(found, output, lambda: table(("", "CHECK", "FOUND"), rows))
    if not all(check.holds for check in found):
        leave(1)


def _read(path: Path) -> Receipt | None:
    return read_receipt(path.read_bytes()) if path.is_file() else None


@click.command("holds", cls=Command, shape=list[LegalHold])
@asynchronous
async def holds(call: Invocation, *, output: Format) -> None:
    """Legal holds: what may not be erased."""
    async with call.reach(indexed=True) as reach:
        found = list(await reach.memory.holds())
    rows = [(one.scope, one.by, moment(one.at), one.reason) for one in found]
    show(found, output, lambda: table(("SCOPE", "BY", "SINCE", "REASON"), rows, empty="Nothing is held."))


@click.command("hold", cls=Command, shape=LegalHold)
@click.argument("scope")
@_REASON
@asynchronous
async def hold(call: Invocation, scope: str, *, reason: str, output: Format) -> None:
    """Keep everything under SCOPE from being erased: project, user:ID, session:ID, subject:NAME or memory:ID."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.hold(scope, reason)
    show(found, output, lambda: say(f"Nothing under {scope} is erased until: {spelled('memory', 'unhold', scope)}"))


@click.command("unhold", cls=Command, shape=LegalHold)
@click.argument("scope")
@asynchronous
async def unhold(call: Invocation, scope: str, *, output: Format) -> None:
    """Lift a legal hold."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.unhold(scope)
    show(found, output, lambda: say(f"{scope} may be erased again."))
