"""The playground: an agent, one of its versions, any model; talk, and see what happens beside it.

What is said here is a session like every other, with the tag `playground=yes`, so nothing about it is pretended.
Another model makes another version of the agent, marked as a trial: it is pinned by this session and never what the
agent's name stands for.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec.structs import replace

from remanence.commands import sessions, versions
from remanence.commands.sessions import Opening
from remanence.commands.shapes import VersionShape
from remanence.console.entry import Looking, Sent, Talking
from remanence.console.failures import ConsoleRoute, PollRoute
from remanence.console.frame import Frame
from remanence.console.known_agents import known_versions, version_of
from remanence.console.reading import ask, opened
from remanence.console.session import WINDOW, Places, Standing, Window, standing, window
from remanence.console.talk import Message, messages_of
from remanence.console.timeline import Row, Timeline
from remanence.console.ways import WAYS_OF, of_session, ways
from remanence.content import Text
from remanence.ports import Version
from remanence.screens import Opened, Versions

__all__ = ["PlaygroundData", "TrialData", "playground_router", "trial_router"]

playground_router = APIRouter(prefix="/playground", route_class=ConsoleRoute, include_in_schema=False)

TITLE_CHARS = 60
STEPS = 120


class _Gateway(Protocol):
    def names(self) -> list[str]: ...
    def resolve(self, model: str) -> object: ...


class PlaygroundData(msgspec.Struct, frozen=True):
    """What can be tried: agents by name, the versions of the chosen one (the newest first), and models by name."""

    agents: list[str]
    agent: str
    version: int
    versions: list[VersionShape]
    model: str
    models: list[str]


class TrialData(msgspec.Struct, frozen=True):
    """A session that is tried here: what was said in a window of it, and the steps beside."""

    session: str
    agent: str
    version: int
    model: str
    standing: Standing
    window: Window
    messages: list[Message]
    steps: list[Row]


@playground_router.get(".json")
@playground_router.get("")
async def playground(request: Request, frame: Looking, agent: str = "", version: str = "") -> Response:
    """Where a trial begins."""
    data = await _data(request, frame, agent, version)
    chosen = data.agent or "AGENT"
    lines = ways(frame, ["chat", chosen], "/admin/v1/sessions", f"await rt.open({chosen!r})", body={"agent": chosen})
    return frame.show("playground.html", "playground", data, ways=lines)


@playground_router.post("")
async def begin(request: Request, frame: Talking, fields: Sent) -> Response:
    """Open a session with what was chosen, say the first thing, and go there."""
    (registered,) = await ask(frame, Versions(frame.caller.project, fields.text("agent")))
    found = version_of(known_versions(frame, registered, fields.text("agent")), fields.text("version"))
    spec, text, model = found.spec, fields.text("text"), fields.text("model").strip()
    if model and model != spec.model:
        _gateway(request).resolve(model)
        spec = replace(spec, model=model, metadata={**spec.metadata, versions.TRIAL: "yes"})
    sessions.check_input(frame.caller, (Text(text),))  # before there is a session that nobody said anything in
    title = " ".join(text.split())[:TITLE_CHARS]
    opening = Opening(user=frame.visitor.name, title=title, metadata={"playground": "yes"})
    session = await sessions.open_session(frame.caller, spec, opening)
    await sessions.send(frame.caller, session, (Text(text),))
    return frame.go(f"/playground/{session}")


@playground_router.get("/{session}")
@playground_router.get("/{session}.json")  # the lower one is looked at first
async def trial(frame: Looking, session: str) -> Response:
    """A trial: the conversation, and its steps beside it."""
    found = await opened(frame, Opened(session, size=WINDOW))
    s, version = found.s, found.version
    records, shown = window(found, Places())
    rows, talk = Timeline(records).rows, messages_of(records)
    number, model, if_busy = (version.number, version.spec.model, version.spec.if_busy) if version else (0, "", "queue")
    data = TrialData(s.id, s.agent, number, model, standing(s, found.budgets), shown, talk, rows)
    page = {
        "s": s,
        "if_busy": if_busy,
        "talk": talk,
        "view": "conversation",
        "side": "",
        "ways_of": WAYS_OF,
        "rows": rows,
    }
    return frame.show("trial.html", "playground", data, ways=of_session(frame, session), **page)


trial_router = APIRouter(prefix="/playground", route_class=PollRoute, include_in_schema=False)


@trial_router.get("/{session}/steps")
async def steps(frame: Looking, session: str) -> Response:
    """The newest steps, for a page that is open."""
    found = await opened(frame, Opened(session, size=STEPS))
    return frame.page("_trace.html", s=found.s, rows=Timeline(found.records).rows)


def _gateway(request: Request) -> _Gateway:
    return request.app.state.runtime.gateway


async def _data(request: Request, frame: Frame, agent: str, version: str) -> PlaygroundData:
    (registered,) = await ask(frame, Versions(frame.caller.project))
    known = [one for one in known_versions(frame, registered) if not versions.is_trial(one)]
    names = sorted({one.agent for one in known})
    if not names:
        return PlaygroundData([], "", 0, [], "", [])
    chosen = agent if agent in names else max(known, key=_made).agent
    own = [one for one in known if one.agent == chosen]
    shown = next((one for one in own if str(one.number) == version), versions.newest(own))
    models = sorted({*_gateway(request).names(), *(one.spec.model for one in known)})
    listed = [VersionShape.of(one) for one in reversed(own)]
    return PlaygroundData(names, chosen, shown.number, listed, shown.spec.model, models)


def _made(version: Version) -> int:
    return version.at
