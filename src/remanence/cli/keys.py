"""`keys`: who may use the HTTP server."""

from __future__ import annotations

import re
import time

import click

from remanence.cli.command import Format, Group, Invocation, asynchronous
from remanence.cli.output import bold, moment, say, show, table
from remanence.commands.keys import SCOPES, CreatedKey, Key

__all__ = ["keys"]

_UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@click.group(cls=Group)
def keys() -> None:
    """Who may use the HTTP server.

    A key belongs to a project and sees nothing of another. Only a hash of it is kept: its text is shown once.
    """


@keys.command("create", shape=CreatedKey)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=("api",),
    show_default=True,
    help="What it opens; may be given several times.",
)
@click.option("--expires", metavar="TIME", help="Good for so long: 30m, 12h, 90d, 4w. Default: until it is revoked.")
@asynchronous
async def create(call: Invocation, name: str, *, scopes: tuple[str, ...], expires: str | None, output: Format) -> None:
    """Make a key. NAME is for people, and is journaled with what the key does.

    The scope `api` is everything under /v1, `read` only reading there, `admin` everything under /admin/v1.
    """
    async with call.reach(create=True) as reach:
        made = await reach.keys.create(name, scopes, _seconds(expires))
    show(made, output, lambda: _say_created(made.key, made.text))


def _say_created(made: Key, text: str) -> None:
    say(f"{bold(text)}")
    until = f", until {moment(made.expires_at)}" if made.expires_at else ""
    say(f"Key {made.id} of project {made.project}: {', '.join(made.scopes)}{until}. It is not shown again.")


@keys.command("list", shape=list[Key])
@asynchronous
async def list_(call: Invocation, *, output: Format) -> None:
    """Keys, without their secrets: when they were made and last used, and whether they still open anything."""
    async with call.reach() as reach:
        found = await reach.keys.list()
    now = time.time_ns() // 1_000
    rows = [
        (
            key.prefix,
            key.name,
            ", ".join(key.scopes),
            moment(key.created_at),
            moment(key.last_used_at) if key.last_used_at else "never",
            _standing(key, now),
        )
        for key in found
    ]
    columns = ("KEY", "NAME", "SCOPES", "MADE", "LAST USED", "STATE")
    show(found, output, lambda: table(columns, rows, empty="There is no key. Make one: remanence keys create NAME"))


@keys.command("revoke", shape=Key)
@click.argument("key")
@asynchronous
async def revoke(call: Invocation, key: str, *, output: Format) -> None:
    """Let a key open nothing any more. KEY is its id, how it begins, or its name when no other has it."""
    async with call.reach() as reach:
        found = await reach.keys.revoke(key)
    show(found, output, lambda: say(f"Key {found.id} ({found.name}) opens nothing any more, within five seconds."))


def _standing(key: Key, now: int) -> str:
    if key.revoked_at is not None:
        return f"revoked {moment(key.revoked_at)}"
    if key.expires_at is None:
        return "good"
    return f"expired {moment(key.expires_at)}" if now >= key.expires_at else f"good until {moment(key.expires_at)}"


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([mhdw])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time such as 30m, 12h, 90d or 4w.", param_hint="--expires")
    return int(found[1]) * _UNITS[found[2]]
