"""Lines to copy: every object of the console has a command, a curl line and Python, and each does what it says."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from a_server import KEY, Server, lay_down_again, lay_out, serving, surroundings

pytestmark = pytest.mark.timeout(300)

WAIT_S = 120
MEANT = {"hx-request": "true"}
TWICE = ("question_waiting", "in_doubt")
"""Sessions in which a line changes something; each way has one of its own."""
WAY = re.compile(r'<div class="way"><b>(CLI|curl|Python)</b><pre[^>]*>(.*?)</pre>', re.S)
SHEET = re.compile(r'<details class="ways.*?</details>', re.S)


class Lines(NamedTuple):
    """What one sheet offers."""

    command: str
    curl: str
    python: str


class Shop(NamedTuple):
    """A server of its own, somebody signed in, and its folder."""

    server: Server
    http: httpx2.Client
    folder: Path
    asked: list[str]
    paused: list[str]

    def sheets(self, path: str, after: str = "") -> list[Lines]:
        """The sheets of a page, from a place in it on."""
        page = self.http.get(path, headers={"accept": "text/html"}).text
        assert after in page, f"{path}: {after}"
        page = page[page.index(after) :]
        found = [dict(WAY.findall(sheet)) for sheet in SHEET.findall(page)]
        assert found, f"{path} has no line to copy"
        return [Lines(*(html.unescape(one[name]) for name in ("CLI", "curl", "Python"))) for one in found]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = lay_out(tmp_path_factory.mktemp("elsewhere") / "shop")
    lay_down_again(folder, TWICE, 2)
    with serving(folder) as server, httpx2.Client(base_url=server.url, timeout=60) as http:
        http.get(server.link)
        for scope in ("user:bob", "agent:shop"):
            fields = {"scope": scope, "unit": "usd_micros", "amount": "5", "act": "set"}
            http.post("/cost/budgets", data=fields, headers=MEANT)
        http.post("/views", data={"name": "Late", "query": "status=waiting"}, headers=MEANT)
        for number in range(3):
            http.post("/keys", data={"name": f"key{number}", "scopes": "read", "days": "0"}, headers=MEANT)
        yield Shop(server, http, folder, ask(http), pause(http))


def begun(http: httpx2.Client, text: str) -> str:
    """A session with the agent in which this was said."""
    known = http.get("/agents/shop.json").json()["number"]
    trial = {"agent": "shop", "version": str(known), "text": text, "model": ""}
    answer = http.post("/playground", data=trial, headers=MEANT)
    assert answer.status_code == 204, answer.text
    return answer.headers["hx-redirect"].rpartition("/")[2]


def once_there(http: httpx2.Client, session: str, act: str) -> None:
    """Wait until a session's page offers an act."""
    with http.stream("GET", f"/sessions/{session}/live?after=1", headers=MEANT) as stream:
        next(line for line in stream.iter_lines() if f"/sessions/{session}/{act}" in line)


def ask(http: httpx2.Client) -> list[str]:
    """Three sessions in which a refund waits for approval."""
    asked = [begun(http, "refund") for _ in range(3)]
    for session in asked:
        once_there(http, session, "calls/")
    return asked


def pause(http: httpx2.Client) -> list[str]:
    """Three sessions that wait for their budget."""
    paused = [begun(http, "hello") for _ in range(3)]
    for session in paused:
        budget = {"scope": f"session:{session}", "unit": "tokens", "amount": "1", "act": "set"}
        assert http.post("/cost/budgets", data=budget, headers=MEANT).status_code == 200
        http.post(f"/sessions/{session}/send", data={"text": "more", "if_busy": "queue"}, headers=MEANT)
    for session in paused:
        once_there(http, session, "raise")
    return paused


READING = {
    "home": ("/", ""),
    "sessions": ("/sessions?status=waiting&sort=cost&within=30d", ""),
    "sessions found": ("/sessions?q=refund", ""),
    "session": ("/sessions/one_tool", ""),
    "record": ("/sessions/one_tool/records/3", ""),
    "step": ("/sessions/one_tool/steps/3", ""),
    "verification": ("/sessions/one_tool/verify", ""),
    "inbox": ("/inbox", ""),
    "agents": ("/agents", ""),
    "agent": ("/agents/shop", ""),
    "agent and its diff": ("/agents/support", ""),
    "prompt": ("/sessions/one_tool/prompts/4", ""),
    "cost": ("/cost?by=model&days=7", ""),
    "saved view": ("/views", 'class="saved"'),
    "nothing here": ("/sessions/nobody", ""),
}
"""Objects whose lines look."""
ACTING = {
    "question": ("/sessions/question_waiting{}", 'id="waiting"'),
    "doubt": ("/sessions/in_doubt{}", 'id="waiting"'),
}


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**surroundings(), "PATH": path, "HOME": str(folder)}


def shell(shop: Shop, line: str) -> str:
    """A line as it is pasted, and what it printed."""
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=shop.folder,
        env=environment(shop.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def curl(shop: Shop, line: str) -> str:
    """A curl line, by curl itself; it fails for any answer that is a refusal."""
    assert shutil.which("curl"), "the lines of the console are tested with curl: install it"
    return shell(shop, "\n".join(each.replace("curl ", "curl -sSf ", 1) for each in line.split("\n")))


RUNNER = """
import sys, traceback
for name, text in eval(sys.stdin.read()):
    try:
        exec(compile(text, name, 'exec'), {'__name__': '__main__'})
    except SystemExit as end:
        if end.code:
            sys.exit(f'{name} ended with {end.code}')
    except BaseException:
        traceback.print_exc()
        sys.exit(f'{name}: {text}')
"""


def as_programs(lines: list[str]) -> list[tuple[str, str]]:
    """Command lines, split as a shell does, as programs: starting each as a process takes longer than what it does."""
    start = "import shlex, sys; sys.argv = shlex.split({!r}); from remanence.cli import main; main()"
    return [(line, start.format(line)) for several in lines for line in several.split("\n")]


def run_python(shop: Shop, programs: list[tuple[str, str]]) -> None:
    """Programs one after another in one process, as `python FILE` runs each."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=shop.folder,
        env=environment(shop.folder),
        input=repr(list(programs)),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr


def test_every_line_does_what_it_says(shop: Shop) -> None:
    """Those that look, those that act on three sessions each, those of budgets and keys."""
    found = {name: shop.sheets(*where)[0] for name, where in READING.items()}
    commands, curls, programs = (
        [getattr(lines, which) for lines in found.values()] for which in ("command", "curl", "python")
    )
    named = list(zip(found, programs, strict=True))
    for name, (path, after) in ACTING.items():
        commands.append(shop.sheets(path.format(""), after)[0].command)
        curls.append(shop.sheets(path.format("_1"), after)[0].curl)
        named.append((name, shop.sheets(path.format("_2"), after)[0].python))
    for name, sessions in (("approval", shop.asked), ("pause", shop.paused)):
        found = [shop.sheets(f"/sessions/{session}", 'id="waiting"')[0] for session in sessions]
        commands.append(found[0].command)
        curls.append(found[1].curl)
        named.append((name, found[2].python))
    keys = shop.sheets("/keys", 'id="keys-list"')
    assert len(keys) == 3
    budget = shop.sheets("/cost", 'id="budgets"')[0]
    create = shop.sheets("/keys")[0]
    playground = shop.sheets("/playground")[0]
    commands += [budget.command, create.command, keys[0].command, playground.command]
    curls += [budget.curl, create.curl, keys[1].curl, playground.curl, shop.sheets("/sign-in")[0].curl]
    named += [("budget", budget.python), ("key", create.python), ("revoke", keys[2].python)]
    named += [("playground", playground.python)]
    piped = [line for line in commands if "|" in line or line.startswith("remanence chat")]
    for line in piped:
        shell(shop, line)
    run_python(shop, as_programs([line for line in commands if line not in piped]))
    for line in curls:
        curl(shop, line)
    run_python(shop, named)
    assert_done(shop)


def assert_done(shop: Shop) -> None:
    """What the lines were to change is changed, each once by each of the three ways."""
    for end in ("", "_1", "_2"):
        kinds = {
            name: [record["kind"] for record in shop.http.get(f"/sessions/{name}{end}.json").json()["records"]]
            for name in TWICE
        }
        assert kinds["question_waiting"].count("InputReceived") > 1, end
        assert "ToolResolved" in kinds["in_doubt"], end
    for kind, sessions in (("ApprovalGiven", shop.asked), ("BudgetRaised", shop.paused)):
        for session in sessions:
            records = shop.http.get(f"/sessions/{session}.json").json()["records"]
            assert kind in [record["kind"] for record in records], session
    keys = shop.http.get("/keys.json").json()["keys"]
    assert [key["revoked_at"] is not None for key in keys if key["name"].startswith("key")] == [True] * 3
    assert sum(key["name"] == "NAME" for key in keys) == 3
    budgets = {one["scope"]: one["limit"] for one in shop.http.get("/cost.json").json()["budgets"]}
    assert 8_000_000 in budgets.values()


def test_signing_in_from_a_program(shop: Shop) -> None:
    lines = shop.sheets("/sign-in")[0]
    assert str(shop.folder) not in "".join(lines), "whoever is not signed in does not learn where the database is"
    run_python(shop, [("sign in", lines.python)])
    cookies = (shop.folder / "cookies.txt").read_text() if (shop.folder / "cookies.txt").exists() else ""
    assert KEY not in cookies


def test_whatever_is_one_of_many_has_lines_of_its_own(shop: Shop) -> None:
    """Each card of the inbox, budget, key and view, besides the page itself."""
    for path, each in (
        ("/inbox", '<article class="ask'),
        ("/cost", '<li class="budget'),
        ("/keys", "<tr data-row>"),
    ):
        page = shop.http.get(path, headers={"accept": "text/html"}).text
        assert page.count(each) > 1
        assert len(shop.sheets(path)) == 1 + page.count(each), path
    assert len(shop.sheets("/views")) == 1
