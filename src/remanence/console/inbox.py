"""The inbox: everything that waits for a person, in one place, to be read exactly and answered by hand or by key.

The arguments of a call are a table of names and values, flattened, because a decision is about values: what a card
says differently from the one above it of the same tool is marked. Every decision is one journaled event in the name of
whoever is signed in, also when several are made at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import msgspec
from fastapi import APIRouter, Response
from markupsafe import Markup

from remanence.commands import approvals
from remanence.commands.caller import state_of
from remanence.commands.shapes import ApprovalShape, DoubtShape
from remanence.console.entry import Deciding, Fields, Looking, Sent, Talking
from remanence.console.failures import ConsoleRoute, told
from remanence.console.frame import Frame, owned
from remanence.console.reading import ask, state_from
from remanence.console.ways import WAYS_OF, all_waiting, joined
from remanence.content import Text
from remanence.core.state import Session
from remanence.errors import Conflict, InvalidInput, NotFound
from remanence.ports import SessionQuery
from remanence.screens import Waiting

__all__ = ["InboxData", "inbox_router"]

inbox_router = APIRouter(prefix="/inbox", route_class=ConsoleRoute, include_in_schema=False)

SESSIONS_MAX = 50
CHOSEN_MAX = 200


class Argument(msgspec.Struct, frozen=True):
    """One value in a call's arguments. `differs`: the card above says something else here."""

    path: str
    value: str
    differs: bool = False


class Asked(msgspec.Struct, frozen=True):
    """A call that waits, and whether the reader may answer it: `yes`, or why not. `begins`: of a session without a
    title, what was first said to it."""

    approval: ApprovalShape
    title: str
    begins: str
    arguments: list[Argument]
    may: Literal["yes", "scope", "not_you", "said_yes"]


class Doubted(msgspec.Struct, frozen=True):
    """An effect nobody can vouch for. `open`: its turn still runs, so that the call can run again."""

    doubt: DoubtShape
    agent: str
    title: str
    begins: str
    arguments: list[Argument]
    open: bool


class InboxData(msgspec.Struct, frozen=True):
    """What waits, by kind; approvals of the same tool beside each other."""

    approvals: list[Asked]
    questions: list[Asked]
    doubts: list[Doubted]

    @property
    def count(self) -> int:
        return len(self.approvals) + len(self.questions) + len(self.doubts)


@inbox_router.get(".json")
@inbox_router.get("")
async def inbox(frame: Looking) -> Response:
    """The page."""
    data = await _data(frame)
    return frame.show("inbox.html", "inbox", data, ways=joined(frame, *all_waiting(frame)), ways_of=WAYS_OF)


@inbox_router.get("/parts")
async def parts(frame: Looking) -> Response:
    """The same without the frame, for a page that is open."""
    return frame.page("_inbox.html", data=await _data(frame), ways_of=WAYS_OF)


@inbox_router.get("/count")
async def count(frame: Looking) -> Response:
    """How many wait, for the navigation; nothing when nobody does."""
    seen = await frame.caller.database.screens.overview(frame.caller.project, since=frame.now)
    waiting = sum(many for (_, waits), many in seen.counts.items() if waits in ("approval", "answer"))
    many = waiting + seen.in_doubt
    return frame.page("_words.html", words=frame.words.number(many) if many else "")


# --- answers ----------------------------------------------------------------------------------------------------------


@inbox_router.post("/decide")
async def decide(frame: Deciding, fields: Sent) -> Response:
    """Approve or deny the calls that were chosen, each on its own, in the name of whoever is signed in."""
    decision = fields.one_of("decision", ("approve", "deny"))
    done, failures = 0, list[str | Markup]()
    for session, call in _chosen(fields):
        try:
            owned(frame, await state_of(frame.caller, session))
            await approvals.approve(frame.caller, session, call, decision=decision, note=fields.text("note"))
            done += 1
        except (Conflict, InvalidInput, NotFound) as error:
            failures.append(told(frame.words, error))
    key = "inbox.approved" if decision == "approve" else "inbox.denied"
    return await _answer(frame, frame.words.rich(key, count=done, name=frame.visitor.name), failures)


@inbox_router.post("/answer")
async def answer(frame: Talking, fields: Sent) -> Response:
    """Answer a question."""
    session, call = _one(fields)
    owned(frame, await state_of(frame.caller, session))
    given = await approvals.answer(frame.caller, session, call, (Text(fields.text("text")),))
    return await _answer(frame, frame.words.rich("did.answered", position=given.head), [])


@inbox_router.post("/settle")
async def settle(frame: Deciding, fields: Sent) -> Response:
    """Say what became of an effect."""
    session, call = _one(fields)
    owned(frame, await state_of(frame.caller, session))
    outcome = fields.one_of("outcome", ("happened", "run_again", "give_up"))
    resolution = approvals.Resolution(outcome, fields.text("result"), fields.text("note"))
    await approvals.resolve(frame.caller, session, call, resolution)
    return await _answer(frame, frame.words.rich("did.resolved", outcome=frame.words(f"act.{outcome}")), [])


async def _answer(frame: Frame, words: object, failures: Sequence[str | Markup]) -> Response:
    """What was done, and the inbox as it is now."""
    data = await _data(frame)
    return frame.page("_inbox_after.html", data=data, words=words, failures=failures, ways_of=WAYS_OF)


def _chosen(fields: Fields) -> list[tuple[str, str]]:
    chosen = [tuple(one.split(" ", 1)) for one in fields.texts("choose")]
    found = [(one[0], one[1]) for one in chosen if len(one) == 2]
    if not found or len(found) > CHOSEN_MAX:
        raise InvalidInput(
            f"Choose between one and {CHOSEN_MAX} calls; {len(found)} were chosen. Nothing was done.", param="choose"
        ).because("choose_some", most=CHOSEN_MAX, many=len(found))
    return found


def _one(fields: Fields) -> tuple[str, str]:
    chosen = _chosen(fields)
    if len(chosen) > 1:
        raise InvalidInput(
            f"This is said of one call; {len(chosen)} were chosen. Nothing was done.", param="choose"
        ).because("choose_one", many=len(chosen))
    return chosen[0]


# --- what waits -------------------------------------------------------------------------------------------------------


async def _data(frame: Frame) -> InboxData:
    queries = [
        SessionQuery(project=frame.caller.project, waiting_on=word, limit=SESSIONS_MAX, begins=True)
        for word in ("approval", "answer")
    ]
    # One that is frozen, or waits for a budget, is in doubt all the same.
    queries.append(SessionQuery(project=frame.caller.project, doubt=True, limit=SESSIONS_MAX, begins=True))
    approving, answering, doubting = await ask(frame, *(Waiting(query) for query in queries))
    waiting = (*approving, *answering, *doubting)
    states = [await state_from(frame, row.session, loaded) for row, loaded in waiting]
    begins = {row.session: row.begins for row, _ in waiting}
    asked = [ApprovalShape.of(one) for s in states for one in approvals.waiting_in(s)]
    titles = {s.id: s.title for s in states}
    cards: list[Asked] = []
    above: dict[tuple[str, str], dict[str, str]] = {}
    for one in _grouped(asked):
        rows = dict(flattened(one.arguments))
        last = above.get((one.agent, one.tool))
        arguments = [Argument(path, value, _differs(last, path, value)) for path, value in rows.items()]
        above[one.agent, one.tool] = rows
        cards.append(Asked(one, titles[one.session], begins[one.session], arguments, _may(frame, one)))
    return InboxData(
        [card for card in cards if card.approval.kind == "approval"],
        [card for card in cards if card.approval.kind == "answer"],
        [_doubted(s, begins[s.id], DoubtShape.of(s.id, doubt)) for s in states[-len(doubting) :] for doubt in s.doubts]
        if doubting
        else [],
    )


def _differs(last: dict[str, str] | None, path: str, value: str) -> bool:
    return last is not None and last.get(path) != value


def _grouped(asked: Sequence[ApprovalShape]) -> list[ApprovalShape]:
    """Those of the same tool beside each other, in the order in which the tools come."""
    order = {key: number for number, key in reversed(list(enumerate((one.agent, one.tool) for one in asked)))}
    return sorted(asked, key=lambda one: order[one.agent, one.tool])


def _may(frame: Frame, one: ApprovalShape) -> Literal["yes", "scope", "not_you", "said_yes"]:
    if not frame.visitor.may("admin" if one.kind == "approval" else "api"):
        return "scope"
    if one.approvers and frame.visitor.name not in one.approvers:
        return "not_you"
    return "said_yes" if frame.visitor.name in one.approved_by else "yes"


def _doubted(s: Session, begins: str, doubt: DoubtShape) -> Doubted:
    call = s.call(doubt.call)
    arguments = [Argument(*each) for each in flattened(call.arguments)] if call is not None else []
    return Doubted(doubt, s.agent, s.title, begins, arguments, call is not None)


# --- arguments --------------------------------------------------------------------------------------------------------


def flattened(arguments: str) -> list[tuple[str, str]]:
    """The values in JSON text, each with its path; text that is no JSON is one value without a path."""
    try:
        return list(_leaves("", msgspec.json.decode(arguments)))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return [("", arguments)]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    inner: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        inner = [(f"{path}.{key}" if path else key, each) for key, each in named.items()]
    elif isinstance(value, list):
        numbered = cast("list[Any]", value)
        inner = [(f"{path}[{number}]", each) for number, each in enumerate(numbered)]
    if inner:
        for name, each in inner:
            yield from _leaves(name, each)
    else:
        yield path, value if isinstance(value, str) else msgspec.json.encode(value).decode()
