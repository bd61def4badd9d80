"""What somebody sends who means harm, or has bad luck: nothing breaks, nothing is shown to whoever was shut out."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from test_rooms import HOME, MEANT, SUPPORT, Room, choice, is_asked, is_over, room

from remanence.api.app import build_app
from remanence.api.auth import Access, development_principal
from remanence.api.faces import faces
from remanence.commands import keys

HTML = {"accept": "text/html"}
FAR = "9" * 5_000
OWNER = development_principal("default")


class Stream:
    """What an open page is sent, piece by piece, as it is sent: the client of these tests waits for the whole."""

    def __init__(self, who: Room, path: str, headers: dict[str, str] | None = None) -> None:
        self.status = 0
        self.text = ""
        self._news = asyncio.Event()
        request = who.http.build_request("GET", path, headers=headers)
        scope = {
            "type": "http",
            "method": "GET",
            "http_version": "1.1",
            "scheme": "http",
            "path": request.url.path,
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        transport: Any = who.http._transport  # pyright: ignore[reportPrivateUsage]
        self._whole = asyncio.create_task(transport.app(scope, self._stays, self._sent))

    async def until(self, words: str) -> None:
        """Wait until this was sent."""
        async with asyncio.timeout(60):
            while words not in self.text:
                self._news.clear()
                await self._news.wait()

    async def whole(self) -> str:
        """All of it, once it has ended."""
        async with asyncio.timeout(60):
            await self._whole
        return self.text

    async def _stays(self) -> Any:
        await asyncio.Event().wait()

    async def _sent(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"").decode()
        self._news.set()


# --- whoever was shut out ---------------------------------------------------------------------------------------------


async def _signs_out(who: Room, _: Room) -> None:
    await who.http.post("/sign-out")


async def _is_revoked(who: Room, owner: Room) -> None:
    (key,) = (await owner.twin("/keys.json"))["keys"]
    await owner.act(f"/keys/{key['id']}/revoke")


@pytest.mark.parametrize("shut_out", [_signs_out, _is_revoked])
async def test_an_open_page_shows_nothing_more_to_whoever_was_shut_out(
    tmp_path: Path, shut_out: Callable[[Room, Room], Awaitable[None]]
) -> None:
    async with room(tmp_path) as here, here.somebody("carol", "read") as carol:
        session = await here.asked(SUPPORT, order="1", cents=9_000)
        looking = Stream(carol, f"/sessions/{session.id}/live?view=conversation")
        await session.submit("seen by carol")
        await looking.until("seen by carol")
        await shut_out(carol, here)
        await here.rt.caller.clock.sleep(1.1)  # what is sent within a second of the last look is sent
        await session.submit("a secret")
        stream = await looking.whole()
        assert "a secret" not in stream
        last = stream.rstrip().rpartition("\n\n")[2]
        assert last == "event: shut-out", "it ends the page"
        assert "id:" not in last, "whoever comes back must be sent what was held back"


async def test_the_line_to_copy_makes_a_key_like_the_page(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        page = html.unescape(await here.look("/keys"))
        found = re.search(r"-d '([^']*)' (http://\S+)</pre>", page)
        assert found is not None
        head = {"authorization": "Bearer rmn_own", "content-type": "application/json"}
        app = build_app(here.rt, faces=faces(), access=Access(here.rt.caller, own={"rmn_own": OWNER}))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http:
            made = await http.post(found[2], content=found[1], headers=head)
        assert made.status_code == 201, made.text
        assert [one["name"] for one in (await here.twin("/keys.json"))["keys"]] == ["NAME"]


# --- where a page leads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/agents/日本", "/sessions?q=日本", "/agents/é", "/sessions/a%20b"])
async def test_signing_in_leads_to_a_page_of_any_name(tmp_path: Path, path: str) -> None:
    async with room(tmp_path) as here:
        _, text = await keys.create_key(here.rt.caller, "ada", scopes=("read",))
        async with httpx2.AsyncClient(transport=here.http._transport, base_url=HOME) as http:  # pyright: ignore[reportPrivateUsage]
            asked = await http.get(path, headers=HTML)
            to = httpx2.URL(asked.headers["location"]).params["to"]
            answer = await http.post("/sign-in", data={"key": text, "to": to})
            assert answer.status_code == 303
            assert httpx2.URL(HOME + answer.headers["location"]) == httpx2.URL(HOME + path)
            raw = await http.post("/preferences", data={"language": "fr", "to": path})
            assert raw.headers["location"].isascii()


@pytest.mark.parametrize(
    ("prefix", "path"), [("/agents", "/agents/support"), ("/s", "/sessions"), ("/inbox", "/inbox")]
)
async def test_a_prefix_that_a_path_begins_with_is_not_taken_from_it(tmp_path: Path, prefix: str, path: str) -> None:
    async with room(tmp_path) as here, httpx2.AsyncClient(transport=here.http._transport, base_url=HOME) as http:  # pyright: ignore[reportPrivateUsage]
        answer = await http.get(path, headers={**HTML, "x-forwarded-prefix": prefix})
        assert answer.headers["location"] == f"{prefix}/sign-in?to={path}"


# --- what nobody would type -------------------------------------------------------------------------------------------


async def test_numbers_that_no_database_holds_are_refused(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        for amount in ("1e30", "1e999999", "9e999999"):
            await here.look(f"/sessions?cost_min={amount}", 400)
            for unit in ("usd_micros", "tokens"):
                await here.act("/cost/budgets", 400, scope="user:bob", unit=unit, amount=amount, act="set")
        await here.act("/keys", 400, name="far", scopes="api", days="999999999")
        await here.look("/keys")


async def test_a_stream_is_resumed_from_no_place_at_all(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.asked(SUPPORT, order="1", cents=9_000)
        head = {**MEANT, "last-event-id": FAR}
        looking = Stream(here, f"/sessions/{session.id}/live", head)
        await looking.until("id: ")
        await here.rt.caller.clock.sleep(1.1)
        await here.http.post("/sign-out")
        await session.submit("more")
        await looking.whole()
        assert looking.status == 200


async def test_what_is_said_of_one_call_is_not_said_of_two(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.asked(SUPPORT, order="1", cents=9_000)
        both = [choice(session), choice(session, "call_1_1_2")]
        await here.act("/inbox/answer", 400, choose=both, text="yes")
        await here.act("/inbox/settle", 400, choose=both, outcome="happened")
        assert is_asked(await session.state())


async def test_a_trial_nobody_said_anything_in_is_not_begun(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.waiting(SUPPORT, "hello", lambda s: s.turns)
        await here.act("/playground", 400, agent="support", version="1", text="", model="")
        await here.act("/playground", 413, agent="support", version="1", text="x" * 4_200_000, model="")
        assert len((await here.twin("/sessions.json"))["sessions"]) == 1


async def test_a_failing_twin_is_kept_by_nobody(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        answer = await here.http.get(f"/sessions/{quote('nope')}.json")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


async def test_a_call_cannot_be_made_to_look_like_another(tmp_path: Path) -> None:
    """Characters that turn a line around or take no room are written out wherever a person decides."""
    async with room(tmp_path) as here:
        session = await here.asked(SUPPORT, order="\u202e0527\u2066\u200b\U000e0041", cents=9_000)
        for path in ("/", "/inbox", f"/sessions/{session.id}"):
            page = await here.look(path)
            assert "\\u202e0527\\u2066\\u200b\\udb40\\udc41" in page, path
        assert "שלום 👩‍👧" in await here.look("/sessions?q=" + quote("שלום 👩‍👧"))


async def test_what_was_first_said_stands_for_a_title_and_turns_nothing_around(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        await here.waiting(SUPPORT, "\u202etxt.exe\nplease <b>", is_over, "")
        for path in ("/", "/sessions"):
            assert "<q><bdi>\u202etxt.exe please &lt;b&gt;</bdi></q>" in await here.look(path), path
        call = json.dumps({"order": "\u202e0527", "cents": 9_000}, ensure_ascii=False)
        await here.waiting(SUPPORT, f"refund {call}", is_asked, "")
        inbox = await here.look("/inbox")
        assert "<q>refund {&#34;order&#34;: &#34;\\u202e0527&#34;" in inbox
        assert "\u202e" not in inbox


async def test_a_long_text_is_shown_in_part(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.waiting(SUPPORT, "word " * 100_000, lambda s: s.turns and s.turn is None)
        at = f"/sessions/{session.id}"
        position = next(r.position for r in await session.history() if type(r.event).__name__ == "InputReceived")
        pages = [f"{at}?view=conversation", f"{at}?view=journal", at, f"{at}/steps/{position}", f"{at}/prompts/4"]
        for path in (*pages, f"/playground/{session.id}", "/"):
            assert len(await here.look(path)) < 200_000, path
        for path in (pages[0], pages[3], pages[4]):
            assert "These are the first 20,000 of " in await here.look(path)


async def test_the_rest_of_a_long_record_comes_page_by_page(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        said = " ".join(f"word{number}" for number in range(20_000))
        session = await here.waiting(SUPPORT, said, is_over)
        at = f"/sessions/{session.id}/records/2"
        text, more = "", at
        while more:
            piece = await here.look(more)
            assert len(piece) < 60_000
            text += html.unescape("".join(re.findall(r"<pre[^>]*>(.*?)</pre>", piece, re.S)[:1]))
            found = re.search(r'hx-get="([^"]+begin=[^"]+)"', piece)
            more = found[1] if found else ""
        assert said in text
        twin = await here.twin(f"{at}.json")
        assert twin["event"]["parts"][0]["text"] == said
        await here.look(f"/sessions/{session.id}/records/999", 404)
        await here.look(f"/sessions/{session.id}/records/0", 404)


async def test_the_twin_of_a_session_comes_page_by_page(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.waiting(SUPPORT, "x" * 700_000, is_over)
        for number in (2, 3):
            await session.submit("y" * 700_000)
            while (await session.state()).turns < number or (await session.state()).turn:
                await here.rt.caller.clock.sleep(0.01)
        head, before = (await session.state()).head, ""
        seen: list[int] = []
        while True:
            answer = await here.http.get(f"/sessions/{session.id}.json{before}")
            assert len(answer.content) < 2_000_000
            found = answer.json()
            seen[:0] = [record["position"] for record in found["records"]]
            if not found["window"]["earlier"]:
                break
            before = f"?before={found['window']['first']}"
        assert seen == list(range(1, head + 1))
        after = (await here.twin(f"/sessions/{session.id}.json?after=2"))["records"]
        assert after[0]["position"] == 3
