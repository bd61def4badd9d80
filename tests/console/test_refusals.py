"""What the console says when it refuses: in the reader's language, once, and no more often than is good for anybody."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest
from fastapi.routing import APIRoute
from test_rooms import CAREFUL, HOME, MEANT, SUPPORT, choice, is_over, room

import remanence
from remanence.console.attempts import PAUSE_S, TRIES, Attempts
from remanence.console.failures import told
from remanence.console.wording import LANGUAGES, catalogue, wording
from remanence.errors import Conflict, Frozen, RateLimited, StoreUnavailable

FRENCH = {"accept-language": "fr"}
SOURCES = {path: path.read_text() for path in Path(remanence.__file__).parent.rglob("*.py")}
SECOND = 1_000_000


# --- in the reader's language -----------------------------------------------------------------------------------------


def test_every_named_sentence_is_in_the_catalogues_and_is_said_somewhere() -> None:
    named = {name for text in SOURCES.values() for name in re.findall(r"\.because\(\s*\"(\w+)\"", text)}
    codes = {name for text in SOURCES.values() for name in re.findall(r"^    code = \"(\w+)\"", text, re.M)}
    for language in LANGUAGES:
        known = {key.partition(".")[2] for key in catalogue(language) if key.startswith("refused.")}
        assert named <= known
        assert known <= named | codes


def test_an_error_without_a_sentence_is_said_in_english_and_marked() -> None:
    error = Conflict("Something <odd> happened. Nothing was kept.")
    assert told(wording("en"), error) == error.message
    assert str(told(wording("fr"), error)) == '<span lang="en">Something &lt;odd&gt; happened. Nothing was kept.</span>'
    for kind in (Frozen, StoreUnavailable):
        assert "lang=" not in str(told(wording("fr"), kind("In English.")))


async def test_what_people_are_refused_most_is_french_on_french_pages(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.asked(CAREFUL, order="1", cents=9_000)
        here.http.headers.update(FRENCH)
        at = f"/sessions/{session.id}"
        assert "un jour s’écrit 2026-11-22" in await here.look("/sessions?since=yesterday", 400)
        assert "Il n’y a pas de session nobody" in await here.look("/sessions/nobody", 404)
        assert "Aucun agent ne s’appelle nobody" in await here.look("/agents/nobody", 404)
        assert "Il n’y a rien à l’adresse" in await here.look("/nothing", 404)
        assert "Le message est vide" in await here.act(f"{at}/send", 400, text=" ", if_busy="queue")
        assert "est occupée" in await here.act(f"{at}/send", 409, text="now", if_busy="reject")
        assert "n’est plus une question" in await here.act(f"{at}/calls/call_1_1_1/answer", 409, text="yes")
        assert "n’attend plus de budget" in await here.act(f"{at}/raise", 409, amount="1")
        await here.act(f"{at}/calls/call_1_1_1", decision="approve")
        again = await here.act("/inbox/decide", decision="approve", choose=choice(session))
        assert "a déjà approuvé cet appel" in again
        await here.act(f"{at}/freeze")
        assert "est déjà gelée" in await here.act(f"{at}/freeze", 409)
        await here.act(f"{at}/thaw")
        await here.act(f"{at}/cancel")
        while (await session.state()).turn:
            await here.rt.caller.clock.sleep(0.01)
        assert "rien à annuler" in await here.act(f"{at}/cancel", 409)
        assert "n’a pas d’appel" in await here.act(f"{at}/calls/call_1_1_1", 404, decision="approve")
        async with here.somebody("reader", "read") as reader:
            reader.http.headers.update(FRENCH)
            assert "Il faut une clé de portée api" in await reader.act(f"{at}/send", 403, text="x", if_busy="queue")
            assert "Il faut une clé de portée admin" in await reader.look("/keys", 403)


# --- whoever is shut out ----------------------------------------------------------------------------------------------


async def test_what_an_open_page_asks_by_itself_ends_it_without_an_error(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.waiting(SUPPORT, "hello", is_over)
        asked_by_itself = ("/home/parts", "/inbox/parts", "/inbox/count", "/health-line", "/sessions-rows")
        stream = {**MEANT, "accept": "text/html, text/event-stream"}
        gone = await here.http.get("/playground/nobody/steps", headers=MEANT)
        assert (gone.status_code, gone.headers["hx-trigger"]) == (204, "gone")
        gone = await here.http.get("/sessions/nobody/live", headers=stream)
        assert (gone.status_code, gone.text) == (200, "event: gone\n\n")
        assert (await here.http.get("/sessions/nobody/live")).status_code == 404
        await here.http.post("/sign-out")
        for path in (*asked_by_itself, f"/playground/{session.id}/steps", f"/sessions/{session.id}/window"):
            answer = await here.http.get(path, headers=MEANT)
            assert (answer.status_code, answer.headers.get("hx-trigger"), answer.text) == (204, "shut-out", ""), path
        over = await here.http.get(f"/sessions/{session.id}/live", headers=stream)
        assert (over.status_code, over.text) == (200, "event: shut-out\n\n")
        assert over.headers["content-type"].startswith("text/event-stream")
        assert (await here.http.post(f"/sessions/{session.id}/freeze", headers=MEANT)).status_code == 401


# --- how often somebody may try ---------------------------------------------------------------------------------------


def test_tries_come_back_one_by_one() -> None:
    attempts = Attempts()
    for _ in range(TRIES):
        attempts.take("10.0.0.1", 0)
    with pytest.raises(RateLimited) as refused:
        attempts.take("10.0.0.1", SECOND)
    assert refused.value.retry_after_s == PAUSE_S - 1
    attempts.take("10.0.0.2", SECOND)
    attempts.take("10.0.0.1", PAUSE_S * SECOND)
    with pytest.raises(RateLimited):
        attempts.take("10.0.0.1", PAUSE_S * SECOND)
    attempts.give_back("10.0.0.1", PAUSE_S * SECOND)
    attempts.take("10.0.0.1", PAUSE_S * SECOND)


def test_the_addresses_of_one_network_count_as_one() -> None:
    attempts = Attempts()
    for number in range(TRIES):
        attempts.take(f"2001:db8::{number:x}", 0)
    with pytest.raises(RateLimited):
        attempts.take("2001:db8::ffff", 0)
    attempts.take("2001:db8:0:1::1", 0)
    attempts.take("not an address", 0)


@pytest.mark.parametrize(("language", "words"), [("en", "too many attempts"), ("fr", "Trop d’essais")])
async def test_after_many_wrong_keys_an_address_has_to_wait(tmp_path: Path, language: str, words: str) -> None:
    async with room(tmp_path) as here:
        transport = here.http._transport  # pyright: ignore[reportPrivateUsage]
        head = {"accept-language": language}
        async with httpx2.AsyncClient(transport=transport, base_url=HOME, headers=head) as http:
            for _ in range(TRIES + 5):
                right = await http.post("/sign-in", data={"key": "rmn_own"})
                assert right.status_code == 303, "one that is right costs nothing"
            for number in range(TRIES):
                wrong = (
                    await http.post("/sign-in", data={"key": "rmn_no_key"}) if number else await http.get("/?token=x")
                )
                assert wrong.status_code == 401
            for answer in (await http.post("/sign-in", data={"key": "rmn_own"}), await http.get("/?token=x")):
                assert answer.status_code == 429
                assert 0 < int(answer.headers["retry-after"]) <= PAUSE_S
                assert words in answer.text
                assert "set-cookie" not in answer.headers


# --- twins ------------------------------------------------------------------------------------------------------------

FRAGMENTS = {
    *("/home/parts", "/inbox/parts", "/inbox/count", "/sessions-rows", "/sessions/{session}/window"),
    *("/playground/{session}/steps", "/sessions/{session}/live", "/sessions/{session}/export", "/static/{name}"),
}
"""What is no page: parts of one, streams and files."""


def test_every_page_has_a_twin() -> None:
    from remanence.console.router import ROOMS

    routes = [route for each in ROOMS for route in each.routes if isinstance(route, APIRoute)]
    paths = {route.path for route in routes if "GET" in (route.methods or ())}
    pages = {path for path in paths if not path.endswith(".json")} - FRAGMENTS
    twins = {"/home.json" if path == "/" else f"{path}.json" for path in pages}
    assert twins <= paths


async def test_twins_of_the_playground_and_of_signing_in(tmp_path: Path) -> None:
    async with room(tmp_path) as here:
        session = await here.waiting(SUPPORT, "hello", is_over)
        trial = await here.twin(f"/playground/{session.id}.json")
        assert [message["role"] for message in trial["messages"]] == ["user", "assistant"]
        assert (trial["agent"], trial["version"], trial["model"]) == ("support", 1, "test")
        assert trial["steps"]
        door = await here.twin("/sign-in.json?to=/inbox")
        assert door == {"by": ["key", "link"], "to": "/inbox", "ends_after_s": 12 * 3600}
