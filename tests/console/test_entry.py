"""Coming in: keys, links and cookies; what each key may do; what a page of another site cannot make a browser do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from msgspec.structs import replace

from remanence import Remanence
from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.app import Options
from remanence.commands.keys import create_key, revoke_key
from remanence.commands.sessions import Opening, open_session
from remanence.commands.signins import SIGNED_IN_S
from remanence.console.entry import Doors
from remanence.console.router import ROOMS, open_console
from remanence.spec import AgentSpec
from remanence.testing.clock import FakeClock

HOME = "http://127.0.0.1:7410"
LINK = "the_link_that_was_printed"
HTML = {"accept": "text/html"}
MEANT = {"hx-request": "true"}


@asynccontextmanager
async def client(tmp_path: Path, **options: object) -> AsyncIterator[tuple[httpx2.AsyncClient, Remanence]]:
    """A browser without cookies, before a console over a real database with one session."""
    clock = FakeClock()
    async with Remanence(f"sqlite:///{tmp_path}/a.db", worker=False, options=Options(clock=clock)) as rt:
        principal = development_principal("default")
        app = build_app(
            rt,
            faces=ROOMS,
            access=Access(rt.caller, own={"rmn_development_key": principal}),
            hosts=["x.y"],
        )
        open_console(app, Doors({LINK: principal}, "ada", "scripted"))
        if "root_path" in options:
            app.root_path = str(options["root_path"])
        await open_session(rt.caller, AgentSpec("shop", "scripted"), Opening(session="s1", title="Kettles"))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=HOME) as http:
            yield http, rt


async def key_of(rt: Remanence, name: str, *scopes: str) -> tuple[str, str]:
    """The id and the text of a new key."""
    key, text = await create_key(rt.caller, name, scopes=scopes)
    return key.id, text


async def come_in(http: httpx2.AsyncClient, text: str) -> httpx2.Response:
    return await http.post("/sign-in", data={"key": text, "to": "/sessions"})


async def test_a_link_is_exchanged_for_a_cookie(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        answer = await http.get(f"/?token={LINK}&x=1", headers=HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert f"Max-Age={SIGNED_IN_S}" in cookie
        assert LINK not in cookie
        assert (await http.get("/", headers=HTML)).status_code == 200


async def test_a_link_of_an_earlier_run_says_so(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        answer = await http.get("/?token=old", headers=HTML)
        assert answer.status_code == 401
        assert "earlier run" in answer.text
        assert "set-cookie" not in answer.headers


async def test_over_https_the_cookie_stays_there(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        answer = await http.get(f"/?token={LINK}", headers={"x-forwarded-proto": "https"})
        assert "Secure" in answer.headers["set-cookie"]


async def test_whoever_is_not_signed_in_is_shown_where_to(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        page = await http.get("/sessions?q=kettle", headers=HTML)
        assert (page.status_code, page.headers["location"]) == (303, "/sign-in?to=/sessions%3Fq%3Dkettle")
        assert (await http.get("/sessions.json")).status_code == 401
        part = await http.get("/home/parts", headers=MEANT)
        assert (part.status_code, part.headers["hx-trigger"]) == (204, "shut-out")
        assert (await http.post("/sessions/s1/freeze", headers=MEANT)).status_code == 401


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_signing_in_leads_nowhere_else(tmp_path: Path, to: str) -> None:
    async with client(tmp_path) as (http, rt):
        _, text = await key_of(rt, "eve", "read")
        answer = await http.post("/sign-in", data={"key": text, "to": to})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_session_ends_with_its_key_and_after_twelve_hours(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, rt):
        identity, text = await key_of(rt, "eve", "read")
        await come_in(http, text)
        assert (await http.get("/sessions.json")).status_code == 200
        await revoke_key(rt.caller, identity)
        clock = rt.options.clock
        assert isinstance(clock, FakeClock)
        clock.advance(6)
        assert (await http.get("/sessions.json")).status_code == 401
        _, text = await key_of(rt, "ida", "read")
        await come_in(http, text)
        clock.advance(SIGNED_IN_S - 10)
        assert (await http.get("/sessions.json")).status_code == 200
        clock.advance(11)
        answer = await http.get("/sessions.json")
        assert answer.status_code == 401
        assert "twelve hours" in answer.json()["error"]["message"]


async def test_signing_out_ends_the_session_itself(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        await http.get(f"/?token={LINK}")
        stolen = dict(http.cookies)
        await http.post("/sign-out")
        http.cookies.update(stolen)
        assert (await http.get("/sessions.json")).status_code == 401


async def test_a_development_session_opens_nothing_but_a_development_server(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, rt):
        await http.get(f"/?token={LINK}")
        cookies = dict(http.cookies)
        app = build_app(rt, faces=ROOMS)
        open_console(app, Doors())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=HOME, cookies=cookies) as other:
            assert (await other.get("/sessions.json")).status_code == 401


async def test_scopes_decide_what_a_person_may_do(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, rt):
        acts = (("/sessions/s1/send", {"text": "Hello", "if_busy": "queue"}), ("/sessions/s1/freeze", {}))
        for scope, expected in (("read", (403, 403)), ("api", (200, 403)), ("admin", (200, 200))):
            _, text = await key_of(rt, f"with-{scope}", scope)
            await come_in(http, text)
            assert (await http.get("/sessions/s1", headers=HTML)).status_code == 200
            got = [(await http.post(path, data=data, headers=MEANT)).status_code for path, data in acts]
            assert tuple(got) == expected, scope
        said = [r for r in await rt.database.store.read("s1") if type(r.event).__name__ == "InputReceived"]
        assert [record.actor for record in said] == ["key:with-api", "key:with-admin"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"hx-request": "true", "origin": "https://evil.example"},
        {"hx-request": "true", "origin": "null"},
        {"hx-request": "true", "sec-fetch-site": "cross-site"},
        {"hx-request": "true", "sec-fetch-site": "same-site"},
    ],
)
async def test_a_forged_request_changes_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with client(tmp_path) as (http, rt):
        await http.get(f"/?token={LINK}")
        answer = await http.post("/sessions/s1/freeze", headers=headers)
        assert answer.status_code == 403
        assert len(await rt.database.store.read("s1")) == 1
        if headers:
            answer = await http.post("/sign-in", data={"key": "x"}, headers=headers)
            assert answer.status_code == 403


async def test_another_project_is_not_there(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, rt):
        caller = replace(rt.caller, project="other")
        _, text = await create_key(caller, "eve", scopes=("admin",))
        await come_in(http, text)
        assert (await http.get("/sessions.json")).json()["sessions"] == []
        for path in (
            "/sessions/s1",
            "/sessions/s1/steps/1",
            "/sessions/s1/verify",
            "/sessions/s1/export",
            "/sessions/s1/live",
        ):
            assert (await http.get(path)).status_code == 404, path
        assert (await http.post("/sessions/s1/freeze", headers=MEANT)).status_code == 404


async def test_every_page_forbids_itself_what_it_does_not_need(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        await http.get(f"/?token={LINK}")
        for path in ("/", "/sessions", "/sessions/s1", "/sign-in", "/nothing"):
            answer = await http.get(path, headers=HTML)
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert not re.search(r"<script(?![^>]* src=)|\son[a-z]+=|\sstyle=|<style|javascript:", answer.text), path
            assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", answer.text), path


@pytest.mark.parametrize("way", ["header", "stripped", "kept"])
async def test_below_a_path_of_a_proxy(tmp_path: Path, way: str) -> None:
    """A proxy that says which path it took away, one that took it away, and one that hands it on whole."""
    options = {} if way == "header" else {"root_path": "/agents/ui"}
    async with client(tmp_path, **options) as (http, _):
        http.headers.update({"x-forwarded-prefix": "/agents/ui"} if way == "header" else {})
        under = "/agents/ui" if way == "kept" else ""
        answer = await http.get(f"{under}/?token={LINK}", headers=HTML)
        assert answer.headers["location"] == "/agents/ui/"
        assert "Path=/agents/ui/" in answer.headers["set-cookie"]
        cookie = answer.headers["set-cookie"].partition(";")[0]
        page = await http.get(f"{under}/sessions/s1", headers={**HTML, "cookie": cookie})
        assert page.status_code == 200
        for link in re.findall(r'(?:href|src|action|hx-get|hx-post|hx-sse:connect)="(/[^"]*)"', page.text):
            assert link.startswith("/agents/ui/"), link


async def test_a_prefix_cannot_be_anything(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        for prefix in ('"><script>', "//evil.example", "https://evil.example"):
            answer = await http.get("/sign-in", headers={"x-forwarded-prefix": prefix})
            assert "evil" not in answer.text
            assert 'action="/sign-in"' in answer.text


async def test_nothing_here_is_said_in_the_asker_s_way(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        page = await http.get("/nothing", headers={"accept": "text/html", "accept-language": "fr"})
        assert (page.status_code, "Il n’y a rien ici" in page.text) == (404, True)
        program = await http.get("/nothing")
        assert program.json()["error"]["code"] == "not_found"


async def test_where_nothing_is_there_are_ways_to_elsewhere_for_whoever_is_signed_in(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        stranger = await http.get("/sesions", headers=HTML)
        assert (stranger.status_code, "<nav" in stranger.text) == (404, False)
        await http.get(f"/?token={LINK}", headers=HTML)
        page = await http.get("/sesions", headers=HTML)
        assert page.status_code == 404
        assert "<nav" in page.text
        assert "remanence sessions list" in page.text


async def test_static_files_may_be_kept_for_ever_under_their_own_name(tmp_path: Path) -> None:
    async with client(tmp_path) as (http, _):
        page = await http.get("/sign-in")
        name = re.search(r'"(/static/console\.css\?v=\w+)"', page.text)
        assert name
        kept = await http.get(name[1])
        assert "immutable" in kept.headers["cache-control"]
        assert (await http.get("/static/console.css")).headers["cache-control"] == "no-cache"
        assert (await http.get("/static/htmx.LICENSE")).status_code == 404
        assert (await http.get("/static/..%2frouter.py")).status_code == 404


def test_scripts_are_light_and_have_their_licences() -> None:
    """Under 150 KB compressed, all of them together."""
    import gzip

    import remanence.console

    static = Path(str(remanence.console.__file__)).parent / "static"
    scripts = [path for path in static.iterdir() if path.suffix == ".js"]
    assert sum(len(gzip.compress(path.read_bytes())) for path in scripts) < 150_000
    assert {path.name for path in static.glob("*.LICENSE")} == {"htmx.LICENSE", "uplot.LICENSE"}
