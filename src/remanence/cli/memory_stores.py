"""`memory stores`, `attach`, `detach`, `attachments`, `grant`, `revoke`, `grants`: what is kept apart, who sees it."""

from __future__ import annotations

import click

from remanence.cli.command import Command, Format, Group, Invocation, Words, asynchronous
from remanence.cli.output import moment, say, show, table
from remanence.commands.memory_attachments import Access
from remanence.commands.memory_shapes import AttachedShape, AttachmentShape, GrantShape, StoreShape
from remanence.core.memory.grants import SCOPES
from remanence.spec import MemoryScope

__all__ = ["attach", "attachments", "detach", "grant", "grants", "revoke", "stores"]


@click.group("stores", cls=Group)
def stores() -> None:
    """Memory stores. What lies in one is not found in another."""


@stores.command("list", shape=list[StoreShape])
@asynchronous
async def list_(call: Invocation, *, output: Format) -> None:
    """The stores of the project. `declared` ones were named by an agent before anybody made them."""
    async with call.reach() as reach:
        found = list(await reach.memory.stores())
    rows = [(s.store, "declared" if s.declared else s.by, moment(s.created_at), s.description) for s in found]
    show(found, output, lambda: table(("STORE", "BY", "MADE", "DESCRIPTION"), rows, empty="There is no store yet."))


@stores.command("create", shape=StoreShape)
@click.argument("name")
@click.option("--description", type=Words(1_000), default="", metavar="TEXT", help="What it is for.")
@asynchronous
async def create(call: Invocation, name: str, *, description: str, output: Format) -> None:
    """Make a store. Agents see it once it is granted to them, or when their version names it."""
    async with call.reach(create=True) as reach:
        found = await reach.memory.create_store(name, description)
    show(found, output, lambda: say(f"Store {found.store} is there."))


@click.command("attach", cls=Command, shape=AttachedShape)
@click.argument("store")
@click.argument("to", metavar="WHO")
@click.option(
    "--access", type=click.Choice(["write", "read"]), default="write", show_default=True, help="What WHO may do."
)
@asynchronous
async def attach(call: Invocation, store: str, to: str, *, access: Access, output: Format) -> None:
    """Attach STORE to WHO (agent:NAME or session:ID).

    An agent that was saved over the Agents API gets a memory by it, in sessions that are opened from then on. One in
    code has it by `memory=`. Single scopes are granted with: remanence memory grant.
    """
    async with call.reach() as reach:
        found = await reach.memory.attach(to, access, store)
    show(found, output, lambda: say(_attached(found)))


@click.command("detach", cls=Command, shape=AttachedShape)
@click.argument("store")
@click.argument("to", metavar="WHO")
@asynchronous
async def detach(call: Invocation, store: str, to: str, *, output: Format) -> None:
    """Detach STORE from WHO (agent:NAME or session:ID), from its next call on. What was kept stays in the store."""
    async with call.reach() as reach:
        found = await reach.memory.attach(to, "off", store)
    show(found, output, lambda: say(_attached(found)))


def _attached(found: AttachedShape) -> str:
    if found.access == "off":
        return f"{found.to} is detached from store {found.store}, from its next call on. What was kept stays there."
    may = "reads and writes" if found.access == "write" else "reads"
    return f"{found.to} {may} store {found.store}, from its next call on."


@click.command("attachments", cls=Command, shape=list[AttachmentShape])
@click.option("--store", metavar="NAME", help="Only of this store.")
@click.option("--to", metavar="WHO", help="Only of agent:NAME or session:ID.")
@asynchronous
async def attachments(call: Invocation, *, store: str | None, to: str | None, output: Format) -> None:
    """Which agents and sessions are attached to which stores, and who said so: their version, or somebody's grant."""
    async with call.reach() as reach:
        found = list(await reach.memory.attachments(store, to))
    rows = [(a.store, a.to, ", ".join(a.reads) or "-", ", ".join(a.writes) or "-", a.by, moment(a.at)) for a in found]
    empty = "No agent has a memory yet: give it memory=True, or attach it: remanence memory attach."
    show(found, output, lambda: table(("STORE", "TO", "READS", "WRITES", "BY", "SINCE"), rows, empty=empty))


@click.command("grants", cls=Command, shape=list[GrantShape])
@click.option("--store", metavar="NAME", help="Only of this store.")
@click.option("--to", metavar="WHO", help="Only to agent:NAME or session:ID.")
@asynchronous
async def grants(call: Invocation, *, store: str | None, to: str | None, output: Format) -> None:
    """Who may read and write what. A grant to a session comes before one to its agent, that before its version."""
    async with call.reach() as reach:
        found = list(await reach.memory.grants(store, to))
    rows = [(g.store, g.to, ", ".join(g.reads) or "-", ", ".join(g.writes) or "-", g.by, moment(g.at)) for g in found]
    columns = ("STORE", "TO", "READS", "WRITES", "BY", "SINCE")
    empty = "Nothing was granted or taken away: each agent has what its version says."
    show(found, output, lambda: table(columns, rows, empty=empty))


@click.command("grant", cls=Command, shape=GrantShape)
@click.argument("store")
@click.argument("to", metavar="WHO")
@click.option("--read", "reads", multiple=True, type=click.Choice(SCOPES), help="It may read this kind of scope.")
@click.option("--write", "writes", multiple=True, type=click.Choice(SCOPES), help="It may write this kind of scope.")
@asynchronous
async def grant(
    call: Invocation,
    store: str,
    to: str,
    *,
    reads: tuple[MemoryScope, ...],
    writes: tuple[MemoryScope, ...],
    output: Format,
) -> None:
    """Say what WHO (agent:NAME or session:ID) may do with a store from its next call on.

    This replaces what was granted before. The user scope is that of the session's own user, never of another.
    """
    if not reads and not writes:
        raise click.UsageError("Grant something: --read or --write. To take everything away: remanence memory revoke.")
    async with call.reach() as reach:
        found = await reach.memory.grant(store, to, reads, writes)
    show(found, output, lambda: say(_words(found)))


@click.command("revoke", cls=Command, shape=GrantShape)
@click.argument("store")
@click.argument("to", metavar="WHO")
@asynchronous
async def revoke(call: Invocation, store: str, to: str, *, output: Format) -> None:
    """Take every right of WHO on a store away, also the one its agent's version gives it."""
    async with call.reach() as reach:
        found = await reach.memory.grant(store, to, (), ())
    show(found, output, lambda: say(_words(found)))


def _words(found: GrantShape) -> str:
    reads, writes = ", ".join(found.reads) or "nothing", ", ".join(found.writes) or "nothing"
    return f"{found.to} reads {reads} and writes {writes} of store {found.store}, from its next call on."
