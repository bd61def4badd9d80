"""`sessions`: list, read, say, cancel, fork. Freezing lies in `freezing`, export and import in `moving`."""

from __future__ import annotations

import asyncio
from typing import Literal, TypedDict, Unpack

import click

from remanence.cli.command import REMARK, Format, Group, Invocation, Whole, Words, asynchronous, leave, spelled
from remanence.cli.cost import Since
from remanence.cli.freezing import freeze, freezes, thaw
from remanence.cli.lines import Lines, call_words
from remanence.cli.moving import export, import_, verify
from remanence.cli.output import counted, facts, moment, note, say, shortened, show, table, usd
from remanence.cli.prompts import prompt
from remanence.cli.reach import Reach, Said
from remanence.cli.run import follow_answer, freeze_over, input_text, say_accepted
from remanence.cli.watching import Rest, Watch, hold_over, rest_of
from remanence.commands.lists import tag_of
from remanence.commands.shapes import PieceShape, RecordShape, SentShape, SessionRowShape, SessionShape
from remanence.core.ledger import usd_to_micros
from remanence.events import Recorded
from remanence.ports import SessionQuery
from remanence.spec import IfBusy

__all__ = ["sessions"]

STATUSES = ("idle", "queued", "in_progress", "waiting", "frozen", "budget_reached", "failed", "deleted")
WAITS = ("approval", "answer", "doubt", "budget", "thaw", "client", "timer")
PAGE_RECORDS = 500
BEGINS_CHARS = 50


@click.group(cls=Group)
def sessions() -> None:
    """List, read, steer, fork and move sessions.

    Where an ID is asked for, `last` stands for the session that changed last.
    """


sessions.add_command(freeze)
sessions.add_command(thaw)
sessions.add_command(freezes)
sessions.add_command(export)
sessions.add_command(import_)
sessions.add_command(verify)
sessions.add_command(prompt)


# --- looking ----------------------------------------------------------------------------------------------------------


class ListOptions(TypedDict):
    """The options of `sessions list`."""

    search: str
    agent: str | None
    version: str | None
    user: str | None
    status: str | None
    waiting_on: str | None
    tag: str | None
    doubt: bool
    since: int | None
    cost_min: str | None
    sort: Literal["changed", "cost", "turns"]
    limit: int
    output: Format


@sessions.command("list", shape=list[SessionRowShape])
@click.option(
    "--search",
    type=Words(1_000),
    metavar="WORDS",
    default="",
    help="Only those in which these words were said in one record.",
)
@click.option("--agent", metavar="NAME", help="Only those of this agent.")
@click.option("--version", metavar="DIGEST", help="Only those of this version of an agent.")
@click.option("--user", metavar="NAME", help="Only those for this user.")
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this status.")
@click.option("--waiting-on", type=click.Choice(WAITS), help="Only those that wait for this.")
@click.option("--tag", metavar="KEY=VALUE", help="Only those with this metadata.")
@click.option("--doubt", is_flag=True, help="Only those with an effect nobody can vouch for.")
@click.option("--since", type=Since(), metavar="WHEN", help="Only those that changed since: 7d, 24h, 2026-01-31.")
@click.option("--cost-min", metavar="USD", help="Only those that cost at least so much, like 2.50.")
@click.option(
    "--sort",
    type=click.Choice(["changed", "cost", "turns"]),
    default="changed",
    show_default=True,
    help="Which come first: the last changed, the dearest, those with most turns.",
)
@click.option("--limit", type=Whole(1, 1000), default=50, metavar="N", show_default=True, help="At most so many.")
@asynchronous
async def list_(call: Invocation, **options: Unpack[ListOptions]) -> None:
    """Sessions, those that changed last first; of a search, those that were opened last.

    The last word of a search may be the beginning of one, unless a space follows it.
    """
    query = SessionQuery(
        agent=options["agent"],
        version=options["version"],
        user=options["user"],
        status=options["status"],
        waiting_on=options["waiting_on"],
        tag=None if options["tag"] is None else tag_of(options["tag"]),
        doubt=options["doubt"],
        since=options["since"],
        usd_micros_min=None if options["cost_min"] is None else usd_to_micros(options["cost_min"]),
        sort=options["sort"],
        limit=options["limit"],
    )
    async with call.reach() as reach:
        found = await reach.journals.rows(query, text=options["search"])
    show(found.rows, options["output"], lambda: _list_table(found.rows))
    if found.unread:
        note(f"{counted(found.unread, 'session')} could not be searched in time; ask again in a moment.")


def _list_table(found: list[SessionRowShape]) -> None:
    rows = [
        (
            row.session,
            row.agent,
            row.user,
            _status(row),
            str(row.turns),
            usd(row.usd_micros),
            moment(row.updated_at),
            _title(row) if row.excerpt is None else _excerpt(row.excerpt),
        )
        for row in found
    ]
    what = "FOUND" if any(row.excerpt for row in found) else "TITLE"
    columns = ("SESSION", "AGENT", "USER", "STATUS", "TURNS", "COST", "CHANGED", what)
    table(columns, rows, empty="No session fits. Begin one with: remanence chat")
    for row in found:
        if row.unreadable:
            verify = spelled("sessions", "verify", row.session)
            note(f"The journal of {row.session} cannot be read, and nobody works in it: {row.unreadable}\n  {verify}")


def _status(row: SessionRowShape) -> str:
    if row.unreadable:
        return "unreadable"
    return row.status + (f": {row.waiting_on}" if row.waiting_on and row.status == "waiting" else "")


def _title(row: SessionRowShape) -> str:
    return row.title or (f'"{shortened(row.begins, BEGINS_CHARS)}"' if row.begins else "")


def _excerpt(pieces: list[PieceShape]) -> str:
    return " ".join("".join(piece.text for piece in pieces).split())


@sessions.command("get", shape=SessionShape)
@click.argument("session", metavar="ID")
@asynchronous
async def get(call: Invocation, session: str, *, output: Format) -> None:
    """A session as it stands: status, what it waits for, its window, what it used."""
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        shape = await reach.journals.get(await session_called(reach, session))
        rest = None
        if shape.turn is not None or shape.queued:  # one that rests waits for nobody
            s = await reach.journals.state(shape.session)
            rest = rest_of(s) or hold_over(s, await reach.journals.freezes(s.project))
            shape = SessionShape.of(s, list(rest.commands) if rest else [])
    show(shape, output, lambda: _print_session(shape, rest))


def _print_session(s: SessionShape, rest: Rest | None) -> None:
    cost = usd(s.usd_micros)
    if s.unpriced_calls:
        cost += f", and {counted(s.unpriced_calls, 'call')} without a known price"
    turn = f"{s.turns}, the last {s.last_turn}" if s.last_turn else str(s.turns)
    facts(
        [
            ("session", s.session),
            ("agent", f"{s.agent}@{s.version[:12]}"),
            ("user", s.user),
            ("title", s.title),
            ("project", s.project),
            ("metadata", ", ".join(f"{key}={value}" for key, value in s.metadata.items())),
            ("status", s.status),
            ("waits", rest.sentence if rest else s.waiting_on),
            ("turns", turn if s.turn_started_at is None else f"{s.turns}, open since {moment(s.turn_started_at)}"),
            ("queued", str(s.queued) if s.queued else ""),
            ("records", f"{s.head}, the last at {moment(s.at)}"),
            ("window", f"from turn {s.window_turn}, record {s.window_position}"),
            ("last effect", f"record {s.last_effect}" if s.last_effect else ""),
            ("model calls", f"{s.model_calls:,}: {s.input_tokens:,} tokens in, {s.output_tokens:,} out"),
            ("tool calls", f"{s.tool_calls:,}"),
            ("cost", cost),
            ("calls", "\n".join(f"{call_words(c.tool, c.arguments)}  {c.state}" for c in s.calls)),
            ("in doubt", "\n".join(f"{d.tool}  {d.effect_key}: {d.reason}" for d in s.doubts)),
            ("answer with", "\n".join(s.commands)),
        ]
    )


# --- the journal ------------------------------------------------------------------------------------------------------


class TailOptions(TypedDict):
    """The options of `sessions tail`."""

    follow_on: bool
    lines: int
    after: int | None
    raw: bool
    output: Format


@sessions.command("tail", shape=list[RecordShape])
@click.argument("session", metavar="ID")
@click.option("--follow", "-f", "follow_on", is_flag=True, help="Go on with what is written from now on.")
@click.option("--lines", "-n", type=Whole(0), default=50, metavar="N", show_default=True, help="So many last records.")
@click.option("--after", type=Whole(0), metavar="POSITION", help="All records after this one instead.")
@click.option("--raw", is_flag=True, help="Everything in the records, one JSON object a line; short for -o jsonl.")
@asynchronous
async def tail(call: Invocation, session: str, **options: Unpack[TailOptions]) -> None:
    """The journal of a session, as readable lines.

    With -o json --follow prints one object a line, because there is no end to close a list at.
    """
    from remanence.cli.choosing import session_called

    output: Format = "jsonl" if options["raw"] else options["output"]
    async with call.reach() as reach:
        found = await session_called(reach, session)
        head = (await reach.journals.row(found)).head
        after = max(head - options["lines"], 0) if options["after"] is None else options["after"]
        if not options["follow_on"]:
            await _print_records(reach, found, after, head, output)
            return
        try:
            await _follow_records(reach, found, after, "jsonl" if output == "json" else output)
        except asyncio.CancelledError:
            note(f"\nThe session goes on. See more with:\n  {spelled('sessions', 'tail', found, '--follow')}")
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
    leave(0)


async def _print_records(reach: Reach, session: str, after: int, head: int, output: Format) -> None:
    lines = Lines()
    kept: list[RecordShape] = []
    while after < head:
        records = await reach.journals.records(session, after=after, limit=min(PAGE_RECORDS, head - after))
        for record in records:
            after = record.position
            if output == "json":
                kept.append(RecordShape.of(record))
            else:
                _print_record(record, lines, output)
    if output == "json":
        show(kept, output, lambda: None)


async def _follow_records(reach: Reach, session: str, after: int, output: Format) -> None:
    lines = Lines()
    async for item in reach.journals.follow(session, after=after):
        if isinstance(item, Recorded):
            _print_record(item, lines, output)


def _print_record(record: Recorded, lines: Lines, output: Format) -> None:
    show(RecordShape.of(record), output, lambda: say(lines.line(record)))


# --- steering ---------------------------------------------------------------------------------------------------------


class SendOptions(TypedDict):
    """The options of `sessions send`."""

    answers: str | None
    if_busy: IfBusy | None
    idempotency_key: str | None
    wait: bool
    output: Format


@sessions.command("send", shape=SentShape)
@click.argument("session", metavar="ID")
@click.argument("text")
@click.option("--answers", metavar="CALL", help="It answers this question; needed only when several are open.")
@click.option(
    "--if-busy",
    type=click.Choice(["queue", "steer", "interrupt", "reject"]),
    help="What to do while a turn runs. Default: as the agent says.",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key again is the same input, not another.")
@click.option("--wait", is_flag=True, help="Do the session's work here and show the answer, as `run` does.")
@asynchronous
async def send(call: Invocation, session: str, text: str, **options: Unpack[SendOptions]) -> None:
    """Say something to a session. It is kept when this returns; a worker answers it.

    TEXT is what to say; - reads it from stdin.
    """
    from remanence.cli.choosing import agents_for, session_called
    from remanence.cli.opening import with_functions

    agents = with_functions(agents_for(call.configuration, None).values()) if options["wait"] else []
    async with call.reach(worker=options["wait"], agents=agents) as reach:
        found = await session_called(reach, session)
        watch = await Watch.of(reach, found)
        said = Said(input_text(text), options["if_busy"], options["answers"], options["idempotency_key"])
        shape = await reach.steering.send(found, said)
        if options["wait"]:
            if shape.replayed:
                watch = await Watch.before(reach, found, shape.position)
            come_back = spelled("attach", found)
            await follow_answer(watch, shape.position, call.person, options["output"], come_back)
        freeze = await freeze_over(reach, found) if options["output"] == "table" else None
    show(shape, options["output"], lambda: _print_sent(shape, freeze))


def _print_sent(shape: SentShape, freeze: Rest | None) -> None:
    words = "Was accepted before" if shape.replayed else "Accepted"
    say_accepted(f"{words} as record {shape.position} of {shape.session}", freeze, spelled("attach", shape.session))


@sessions.command("cancel", shape=SentShape)
@click.argument("session", metavar="ID")
@click.option("--reason", type=REMARK, default="", help="Why; it is journaled.")
@asynchronous
async def cancel(call: Invocation, session: str, *, reason: str, output: Format) -> None:
    """Ask the running turn to stop. What already happened is reported when it ends."""
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        found = await session_called(reach, session)
        shape = await reach.steering.cancel(found, reason)
    show(shape, output, lambda: say(f"Cancel of {found} asked for, as record {shape.position}."))


class ForkOptions(TypedDict):
    """The options of `sessions fork`."""

    turn: int | None
    position: int | None
    title: str
    output: Format


@sessions.command("fork", shape=SessionRowShape)
@click.argument("session", metavar="ID")
@click.option("--turn", type=Whole(1), metavar="N", help="From the end of this turn.")
@click.option("--position", type=Whole(1), metavar="N", help="From this record.")
@click.option("--title", type=REMARK, default="", help="A title for the fork.")
@asynchronous
async def fork(call: Invocation, session: str, **options: Unpack[ForkOptions]) -> None:
    """A new session with the same past, up to a turn or a record (default: to here). Nothing is copied."""
    from remanence.cli.choosing import session_called

    if options["turn"] is not None and options["position"] is not None:
        raise click.UsageError("Give --turn or --position, not both.")
    async with call.reach() as reach:
        source = await session_called(reach, session)
        where = {"turn": options["turn"], "position": options["position"]}
        shape = await reach.steering.fork(source, **where, title=options["title"])
    words = f"{shape.session} begins after record {shape.fork_position} of {source}. Talk to it with:"
    show(shape, options["output"], lambda: say(f"{words}\n  {spelled('chat', '--session', shape.session)}"))
