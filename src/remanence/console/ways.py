"""The same thing elsewhere: for what a page shows, the command, the curl line and the Python that do it.

Every object of the console says how a program gets at it. Each works as it is pasted: lines are for a POSIX shell, the
Python is a whole program, and the key is never written into them, but taken from `REMANENCE_API_KEY`. A word in
capitals (`NAME`, `ANSWER`) stands for what only the reader knows.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from remanence.console.frame import Frame
from remanence.core.ledger import usd_to_micros
from remanence.errors import InvalidInput

__all__ = [
    "WAYS_OF",
    "Ways",
    "all_waiting",
    "joined",
    "listing",
    "moment_of",
    "of_approval",
    "of_budget",
    "of_doubt",
    "of_key",
    "of_prompt",
    "of_question",
    "of_record",
    "of_session",
    "of_sign_in",
    "of_view",
    "ways",
]

_COMES_FROM = {
    "Options": "remanence.app",
    "SessionQuery": "remanence.ports",
    "Text": "remanence.content",
    "UsageQuery": "remanence.ports",
    "answer": "remanence.commands.approvals",
    "create_key": "remanence.commands.keys",
    "doubts": "remanence.commands.approvals",
    "find_version": "remanence.commands.versions",
    "difference": "remanence.commands.versions",
    "past_prompt": "remanence.commands.prompts",
    "raise_budget": "remanence.commands.controls",
    "revoke_key": "remanence.commands.keys",
    "search": "remanence.commands.search",
    "usage": "remanence.commands.usage",
    "verify_session": "remanence.commands.verification",
    "versions_of": "remanence.commands.versions",
    "waiting": "remanence.commands.approvals",
}
"""Where what a line of Python names is imported from."""
_HEAD = "import asyncio\n{imports}\n\n\nasync def main() -> None:\n    async with {opened} as rt:\n"
_TAIL = "\n\n\nasyncio.run(main())"


class Ways(msgspec.Struct, frozen=True):
    """One object or act, said three times. `does` are the expressions that the Python prints."""

    command: str
    curl: str
    python: str
    does: tuple[str, ...] = ()


def ways(frame: Frame, words: Sequence[str], path: str, python: str, *, body: object = None, method: str = "") -> Ways:
    """A command of the CLI, a path of the API (with a JSON body: a POST), and an expression inside an open runtime."""
    pieces = ["curl", "-H", '"authorization: Bearer $REMANENCE_API_KEY"']
    if method:
        pieces += ["-X", method]
    if body is not None:
        pieces += ["-H", "'content-type: application/json'", "-d", shlex.quote(msgspec.json.encode(body).decode())]
    return Ways(
        " ".join(["remanence", *(shlex.quote(word) for word in words)]),
        " ".join([*pieces, shlex.quote(frame.origin + path)]),
        _program(frame, (python,)),
        (python,),
    )


def joined(frame: Frame, *several: Ways) -> Ways:
    """Several in a row."""
    does = tuple(each for one in several for each in one.does)
    lines = ("\n".join(one.command for one in several), "\n".join(one.curl for one in several))
    return Ways(*lines, _program(frame, does), does)


def _program(frame: Frame, does: Sequence[str]) -> str:
    """Python that opens the database of this server beside it, without a worker, and prints what is asked."""
    caller = frame.caller
    options = "" if caller.project == "default" else f", options=Options(project={caller.project!r})"
    opened = f"Remanence({caller.database.url!r}, worker=False{options})"
    used = {name for text in (opened, *does) for name in re.findall(r"(?<![.\w'\"])[A-Za-z_]\w*", text)}
    found = sorted((_COMES_FROM[name], name) for name in used & _COMES_FROM.keys())
    imports = "\n".join(
        ["", "from remanence import Remanence", *(f"from {room} import {name}" for room, name in found)]
    )
    lines = "\n".join(f"        print({each})" for each in does)
    return _HEAD.format(imports=imports, opened=opened) + lines + _TAIL


# --- sessions and what is in them -------------------------------------------------------------------------------------


def of_session(frame: Frame, session: str) -> Ways:
    """One session."""
    path = f"/admin/v1/sessions/{_in_path(session)}"
    return ways(frame, ["sessions", "get", session], path, f"await (await rt.get({session!r})).state()")


def of_record(frame: Frame, session: str, position: int) -> Ways:
    """One record of a journal."""
    lines = ways(
        frame,
        ["sessions", "tail", session, "--after", str(position - 1), "-o", "jsonl"],
        f"/admin/v1/sessions/{_in_path(session)}/records?after={position - 1}&limit=1",
        f"await rt.database.store.read({session!r}, after={position - 1}, limit=1)",
    )
    return msgspec.structs.replace(lines, command=f"{lines.command} | head -n 1")


def of_prompt(frame: Frame, session: str, position: int) -> Ways:
    """What a model call was sent, by the position of its intent."""
    return ways(
        frame,
        ["sessions", "prompt", session, str(position)],
        f"/admin/v1/sessions/{_in_path(session)}/prompts/{position}",
        f"await past_prompt(rt.caller, {session!r}, '{position}')",
    )


def all_waiting(frame: Frame) -> tuple[Ways, Ways]:
    """Everything that waits for a person."""
    return (
        ways(frame, ["approvals", "list"], "/admin/v1/approvals", "await waiting(rt.caller)"),
        ways(frame, ["doubts", "list"], "/admin/v1/doubts", "await doubts(rt.caller)"),
    )


def of_approval(frame: Frame, session: str, call: str) -> Ways:
    """Saying yes to one exact call."""
    return ways(
        frame,
        ["approvals", "approve", session, call],
        f"/admin/v1/approvals/{_in_path(session)}/{_in_path(call)}",
        f"await (await rt.get({session!r})).approve({call!r}, by={frame.visitor.name!r})",
        body={"decision": "approve"},
    )


def of_question(frame: Frame, session: str, call: str) -> Ways:
    """Answering what an agent asked."""
    return ways(
        frame,
        ["approvals", "answer", session, "ANSWER", "--call", call],
        f"/admin/v1/questions/{_in_path(session)}/{_in_path(call)}",
        f"await answer(rt.caller, {session!r}, {call!r}, (Text('ANSWER'),))",
        body={"text": "ANSWER"},
    )


def of_doubt(frame: Frame, session: str, call: str) -> Ways:
    """Saying that an effect happened."""
    by, done = f"by={frame.visitor.name!r}", "outcome='happened', result='RESULT'"
    return ways(
        frame,
        ["doubts", "resolve", session, call, "--happened", "RESULT"],
        f"/admin/v1/doubts/{_in_path(session)}/{_in_path(call)}",
        f"await (await rt.get({session!r})).resolve({call!r}, {by}, {done})",
        body={"outcome": "happened", "result": "RESULT"},
    )


# --- money, keys ------------------------------------------------------------------------------------------------------


def of_budget(frame: Frame, scope: str, unit: str) -> Ways:
    """Raising a budget: by a dollar, or by ten thousand tokens."""
    by, option, amount = (1_000_000, "--usd", "1.00") if unit == "usd_micros" else (10_000, "--tokens", "10000")
    return ways(
        frame,
        ["budgets", "raise", scope, option, amount],
        "/admin/v1/budgets",
        f"await raise_budget(rt.caller, {scope!r}, {unit!r}, by={by})",
        body={"scope": scope, "unit": unit, "raise_by": by},
        method="PUT",
    )


def of_key(frame: Frame, key: str) -> Ways:
    """Letting a key open nothing any more."""
    path, python = f"/admin/v1/keys/{_in_path(key)}", f"await revoke_key(rt.caller, {key!r})"
    return ways(frame, ["keys", "revoke", key], path, python, method="DELETE")


def of_sign_in(frame: Frame) -> Ways:
    """A key, and what this page does with it: exchange it for a cookie. Nothing here says where the database is."""
    there = frame.origin + "/sign-in"
    return Ways(
        "remanence keys create NAME --scope admin",
        f'curl -c cookies.txt --data-urlencode "key=$REMANENCE_API_KEY" {shlex.quote(there)}',
        "import os\nfrom http.cookiejar import CookieJar\nfrom urllib.parse import urlencode\n"
        "from urllib.request import HTTPCookieProcessor, build_opener\n\n"
        "browser = build_opener(HTTPCookieProcessor(CookieJar()))\n"
        'form = urlencode({"key": os.environ["REMANENCE_API_KEY"], "to": "/sign-in.json"}).encode()\n'
        f"print(browser.open({there!r}, form).read().decode())",
    )


# --- lists ------------------------------------------------------------------------------------------------------------

_SAME = ("agent", "status", "user", "waiting_on")
"""Filters of a list of sessions that have the same name everywhere."""
_DAY_US = 86_400_000_000


def listing(frame: Frame, filters: Mapping[str, str]) -> Ways:
    """The sessions that fit, by what command, API and Python know of the filters."""
    options: list[str] = []
    asked: dict[str, object] = {}
    for name in _SAME:
        if filters.get(name):
            options += [f"--{name.replace('_', '-')}", filters[name]]
            asked[name] = filters[name]
    for more, fields in (each(frame, filters) for each in (_by_time, _by_cost, _by_kind)):
        options += more
        asked |= fields
    words, tag = filters.get("q", ""), filters.get("tag", "")
    named = [f"{name}={value!r}" for name, value in asked.items()]
    named += [f"tag={tuple(tag.split('=', 1))!r}"] if "=" in tag else []
    query = f"SessionQuery({', '.join(['project=rt.caller.project', *named])})"
    python = f"await search(rt.caller, {words!r}, {query})" if words else f"await rt.database.views.sessions({query})"
    options += ["--tag", tag] if tag else []
    options += ["--search", words] if words else []
    in_url = {name: "true" if value is True else value for name, value in asked.items()}
    in_url |= ({"tag": tag} if tag else {}) | ({"q": words} if words else {})
    path = f"/admin/v1/sessions?{urlencode(in_url)}".removesuffix("?")
    return ways(frame, ["sessions", "list", *options], path, python)


def _by_time(frame: Frame, filters: Mapping[str, str]) -> tuple[list[str], dict[str, object]]:
    since = filters.get("within") or filters.get("since", "")
    moment = moment_of(since, frame.now)
    return (["--since", since], {"since": moment}) if moment is not None else ([], {})


def _by_cost(_: Frame, filters: Mapping[str, str]) -> tuple[list[str], dict[str, object]]:
    least = filters.get("cost_min", "").replace(",", ".")
    try:
        return ["--cost-min", least], {"usd_micros_min": usd_to_micros(least)}
    except InvalidInput:
        return [], {}


def _by_kind(_: Frame, filters: Mapping[str, str]) -> tuple[list[str], dict[str, object]]:
    options = ["--doubt"] if filters.get("doubt") else []
    asked: dict[str, object] = {"doubt": True} if filters.get("doubt") else {}
    sort = filters.get("sort", "changed")
    return (options, asked) if sort == "changed" else ([*options, "--sort", sort], {**asked, "sort": sort})


def moment_of(text: str, now: int) -> int | None:
    """A day (`2026-11-22`, its beginning in UTC) or a stretch before now (`24h`, `7d`) in microseconds; else None."""
    if stretch := re.fullmatch(r"(\d{1,4})([hd])", text):
        return now - int(stretch[1]) * (_DAY_US if stretch[2] == "d" else _DAY_US // 24)
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError:
        return None


def of_view(frame: Frame, query: str) -> Ways:
    """A list that somebody gave a name."""
    return listing(frame, dict(parse_qsl(query)))


def _in_path(name: str) -> str:
    return quote(name, safe="")


WAYS_OF = {
    "approval": of_approval,
    "answer": of_question,
    "doubt": of_doubt,
    "budget": of_budget,
    "key": of_key,
    "record": of_record,
    "view": of_view,
}
"""For what a page shows many of, by its kind."""
