"""`memory`: what agents remember, searched, read, edited and withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import click

from remanence.cli.command import Format, Group, Invocation, Whole, Words, asynchronous, spelled
from remanence.cli.erasure import erase, hold, holds, receipts, redact, unhold, verify_erasure
from remanence.cli.memory_stores import attach, attachments, detach, grant, grants, revoke, stores
from remanence.cli.output import clean, counted, dim, facts, moment, note, say, show, table
from remanence.commands.memory import Dates, Looking, Writing
from remanence.commands.memory_shapes import BegunShape, HitShape, MemoryShape, RebuiltShape, SourceShape
from remanence.commands.memory_stores import DEFAULT_STORE
from remanence.recollections import MemoryKind, Place
from remanence.tools.memory import moment_of

__all__ = ["memory"]


@click.group(cls=Group)
def memory() -> None:
    """What agents remember: search, read, edit, forget.

    A memory is an episode (what was said), a note (a fact somebody wrote) or a block (always in view), and points at
    the record it came from. A SCOPE is project, agent:NAME, user:ID or session:ID.
    """


for _commands in (
    (stores, attach, detach, attachments, grants, grant, revoke),
    (erase, redact, receipts, verify_erasure, hold, unhold, holds),
):
    for _command in _commands:
        memory.add_command(_command)


class WhereOptions(TypedDict):
    """Which memories."""

    store: tuple[str, ...]
    scope: tuple[str, ...]
    kind: tuple[MemoryKind, ...]
    believed: str | None
    valid: str | None
    limit: int
    output: Format


def _where(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which memories are meant."""
    for option in (
        click.option("--store", multiple=True, metavar="NAME", help="Only in this store; may be given several times."),
        click.option("--scope", multiple=True, metavar="SCOPE", help="Only in this scope, such as user:ada."),
        click.option("--kind", multiple=True, type=click.Choice(["episode", "note", "block"]), help="Only such ones."),
        click.option("--believed", metavar="DATE", help="What was believed then: 2031-03-01, without a zone UTC."),
        click.option("--valid", metavar="DATE", help="What was true then."),
        click.option("--limit", type=Whole(1, 1_000), default=20, show_default=True, help="At most so many."),
    ):
        function = option(function)
    return function


def _looking(options: WhereOptions, *, closed: bool = False) -> Looking:
    return Looking(
        options["store"],
        options["scope"],
        options["kind"],
        believed_at=_at(options["believed"], "--believed"),
        valid_at=_at(options["valid"], "--valid"),
        closed=closed,
        limit=options["limit"],
    )


def _at(text: str | None, option: str) -> int | None:
    try:
        return moment_of({"date": text}, "date")
    except ValueError:
        raise click.BadParameter(f"{text!r} is no date such as 2031-03-01.", param_hint=option) from None


# --- looking ----------------------------------------------------------------------------------------------------------


@memory.command("search", shape=list[HitShape])
@click.argument("text", type=Words(4_000), required=False)
@_where
@asynchronous
async def search(call: Invocation, text: str | None, **options: Unpack[WhereOptions]) -> None:
    """Find memories. TEXT is a question or a few words; without it they are listed, newest first."""
    async with call.reach(indexed=True) as reach:
        if text is None:
            found = [HitShape(one, 0.0, []) for one in await reach.memory.list(_looking(options))]
        else:
            found = await reach.memory.search(text, _looking(options))
    show(found, options["output"], lambda: _print_hits(found))


def _print_hits(found: list[HitShape]) -> None:
    if not found:
        note("Nothing is remembered that fits.")
    for hit in found:
        say(_line(hit.memory))
        if hit.why:
            say(dim(f"    because of {clean('; '.join(hit.why))}"))


def _line(one: MemoryShape) -> str:
    marks = " (untrusted)" if one.label == "untrusted" else ""
    marks += f" (until {moment(one.closed_at)})" if one.closed_at is not None else ""
    who = one.speaker or one.author
    head = f"{one.memory}  {moment(one.recorded_at)}  {one.kind} in {one.store}/{one.scope} by {who}{marks}"
    return f"{dim(clean(head))}\n  {clean(one.text)}"


@memory.command("show", shape=MemoryShape)
@click.argument("memory_id", metavar="ID")
@click.option("--version", type=Whole(1), metavar="N", help="This version. Default: the newest.")
@asynchronous
async def show_(call: Invocation, memory_id: str, *, version: int | None, output: Format) -> None:
    """A memory whole: its text, its validity, and the record it was learned from."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.get(memory_id, version)
        source = await reach.memory.source(memory_id, version)
    show(found, output, lambda: _print(found, source))


def _print(found: MemoryShape, source: SourceShape) -> None:
    facts(
        [
            ("memory", f"{found.memory}, version {found.version}, {found.kind}, {found.label}"),
            ("text", found.text),
            ("place", f"{found.store}/{found.scope}"),
            ("by", f"{found.author}, {moment(found.recorded_at)}"),
            ("about", ", ".join(found.subjects)),
            ("true from", moment(found.valid_from) if found.valid_from is not None else ""),
            ("true until", moment(found.valid_to) if found.valid_to is not None else ""),
            ("expires", moment(found.expires_at) if found.expires_at is not None else ""),
            ("closed", moment(found.closed_at) if found.closed_at is not None else ""),
            ("learned from", f"record {source.position} of session {source.session}"),
        ]
    )
    say(dim(f"  {spelled('sessions', 'tail', source.session)}"))


@memory.command("history", shape=list[MemoryShape])
@click.argument("memory_id", metavar="ID")
@asynchronous
async def history(call: Invocation, memory_id: str, *, output: Format) -> None:
    """Every version of a memory, oldest first: what was believed when, and who wrote it."""
    async with call.reach(indexed=True) as reach:
        found = list(await reach.memory.history(memory_id))
    rows = [(str(one.version), moment(one.recorded_at), moment(one.closed_at), one.author, one.text) for one in found]
    show(found, output, lambda: table(("VERSION", "SINCE", "UNTIL", "BY", "TEXT"), rows))


@memory.command("export", shape=list[MemoryShape])
@_where
@asynchronous
async def export(call: Invocation, **options: Unpack[WhereOptions]) -> None:
    """Every version of every memory that fits, the closed ones, too. With -o jsonl as they come; --limit is not looked
    at."""
    output, found = options["output"], list[MemoryShape]()
    async with call.reach(indexed=True) as reach:
        async for shape in reach.memory.export(_looking(options)):
            if output == "json":
                found.append(shape)
            else:
                show(shape, output, lambda shape=shape: say(_line(shape)))
    if output == "json":
        show(found, output, lambda: None)


# --- changing ---------------------------------------------------------------------------------------------------------


class KeepOptions(TypedDict):
    """A note to write."""

    scope: str
    store: str
    about: tuple[str, ...]
    block: str | None
    since: str | None
    until: str | None
    expires: str | None
    output: Format


@memory.command("keep", shape=MemoryShape)
@click.argument("text")
@click.option("--scope", required=True, metavar="SCOPE", help="project, agent:NAME, user:ID or session:ID.")
@click.option("--store", default=DEFAULT_STORE, show_default=True, metavar="NAME", help="Which store.")
@click.option("--about", multiple=True, metavar="SUBJECT", help="Whom or what it is about.")
@click.option("--block", metavar="NAME", help="Set the block of this name instead of writing a note.")
@click.option("--since", metavar="DATE", help="True from then on.")
@click.option("--until", metavar="DATE", help="True until then.")
@click.option("--expires", metavar="DATE", help="Recalled until then.")
@asynchronous
async def keep(call: Invocation, text: str, **options: Unpack[KeepOptions]) -> None:
    """Write a note, or set a block. You vouch for it: agents take a block for an instruction."""
    place = Place(options["store"], options["scope"])
    dates = Dates(
        _at(options["since"], "--since"), _at(options["until"], "--until"), _at(options["expires"], "--expires")
    )
    async with call.reach(create=True, indexed=True) as reach:
        if options["block"] is not None:
            found = await reach.memory.set_block(place, options["block"], text)
        else:
            found = await reach.memory.keep(Writing(text, place, options["about"], dates))
    show(found, options["output"], lambda: say(_line(found)))


@memory.command("edit", shape=MemoryShape)
@click.argument("memory_id", metavar="ID")
@click.argument("text")
@click.option("--seen", type=Whole(1), metavar="N", help="Only when its newest version is still this one.")
@asynchronous
async def edit(call: Invocation, memory_id: str, text: str, *, seen: int | None, output: Format) -> None:
    """Give a note or a block a new text. The old one stays in the history."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.edit(memory_id, text, seen)
    show(found, output, lambda: say(_line(found)))


@memory.command("forget", shape=MemoryShape)
@click.argument("memory_id", metavar="ID")
@click.option("--reason", type=Words(1_000), default="", metavar="TEXT", help="Why; it is journaled.")
@asynchronous
async def forget(call: Invocation, memory_id: str, *, reason: str, output: Format) -> None:
    """Withdraw a memory: it is recalled no more. The journal keeps it, and so does the history."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.forget(memory_id, reason)
    show(found, output, lambda: say(f"{clean(found.memory)} is recalled no more."))


@memory.command("undo", shape=MemoryShape)
@click.argument("memory_id", metavar="ID")
@asynchronous
async def undo(call: Invocation, memory_id: str, *, output: Format) -> None:
    """Take back the last change of a note or a block, whoever made it: an agent, the consolidation, a person."""
    async with call.reach(indexed=True) as reach:
        found = await reach.memory.undo(memory_id)
    words = f"{clean(found.memory)} is recalled no more." if found.closed_at is not None else _line(found)
    show(found, output, lambda: say(words))


@memory.command("consolidate", shape=list[BegunShape])
@click.option("--model", default="", metavar="MODEL", help="Which model. Default: the setting memory.consolidate.")
@asynchronous
async def consolidate(call: Invocation, *, model: str, output: Format) -> None:
    """Take notes of what was said since last time, now. Prints the sessions that do it, for a worker to drive."""
    from remanence.cli.opening import consolidating_of

    how = consolidating_of(call.configuration.settings, model)
    if how is None:
        raise click.UsageError("Name a model: --model, or `consolidate` under [memory] in remanence.toml.")
    async with call.reach(indexed=True) as reach:
        begun = list(await reach.memory.consolidate(how))
    show(begun, output, lambda: _print_begun(begun))


def _print_begun(begun: list[BegunShape]) -> None:
    if not begun:
        note("There is nothing new to take notes of.")
    for one in begun:
        say(spelled("attach", one.session))


@memory.command("rebuild", shape=RebuiltShape)
@asynchronous
async def rebuild(call: Invocation, *, output: Format) -> None:
    """Throw the index away and make it again from the journals. Until it is done, recall finds less."""
    async with call.reach(indexed=True) as reach:
        made = await reach.memory.rebuild()
    again = "It is made again in idle time." if made.sessions is None else ""
    show(made, output, lambda: say(again or f"Made again from {counted(made.sessions or 0, 'session')}."))
