"""Who comes in: signing in by a key or by the link that `dev` prints, the cookie, and what a mutation must prove.

**Cookies.** Signing in exchanges the key for a session (`commands/signins.py`) in a cookie that no script can read,
that ends after twelve hours and is not sent along by forms and images of other sites (`SameSite=Lax`: a link to a
session, followed from a chat, still opens). Behind https it is sent over https only.

**Forged requests.** A page of another site can make this browser send a form here, cookie or not. It cannot set a
header of its own without asking this server first, which answers no such question. So everything that changes something
needs the header `HX-Request`, which the console's own script sends, and, as browsers tell where a request comes from
(`Sec-Fetch-Site`, `Origin`), that has to be here. Plain forms (signing in and out, language and theme) are held to the
second rule alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Protocol
from urllib.parse import parse_qs, urlencode

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.keys import Keyring, Principal, Scope
from remanence.commands.signins import SIGNED_IN_S, sign_in, sign_out, signed_in
from remanence.console.attempts import Attempts
from remanence.console.failures import ConsoleRoute, told
from remanence.console.frame import THEMES, Frame, Visitor, cookie_name, path_of
from remanence.console.ways import of_sign_in
from remanence.console.wording import LANGUAGES
from remanence.errors import AccessDenied, InvalidInput, RateLimited, RemanenceError, Unauthenticated

__all__ = [
    "Deciding",
    "Doors",
    "Fields",
    "Looking",
    "Talking",
    "Sent",
    "by_link",
    "entry_router",
    "fields_of",
    "keyring_of",
    "looking",
    "visitor_of",
]

entry_router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)


class Doors(msgspec.Struct, frozen=True):
    """How people come in. `links`: texts that sign in whoever shows them, and as whom; `person` is the name of whoever
    comes by one of them, as the command line knows it."""

    links: Mapping[str, Principal] = {}
    person: str = ""
    model: str = ""
    """What answers here, in words."""


class _Admission(Protocol):
    @property
    def keyring(self) -> Keyring: ...


class _Running(Protocol):
    @property
    def caller(self) -> Caller: ...


def _doors(request: Request) -> Doors:
    return request.app.state.doors


def keyring_of(request: Request) -> Keyring:
    """What checks the keys of this process."""
    admission: _Admission = request.app.state.access
    return admission.keyring


def _caller(request: Request) -> Caller:
    running: _Running = request.app.state.runtime
    return running.caller


# --- who looks --------------------------------------------------------------------------------------------------------


async def visitor_of(request: Request) -> Visitor:
    """Who looks, by their cookie. Raises Unauthenticated."""
    token = request.cookies.get(cookie_name(request, "session"), "")
    if not token:
        raise Unauthenticated("You are not signed in. Nothing was done; sign in first.").because("signed_out")
    caller, doors = _caller(request), _doors(request)
    principal = await signed_in(caller, keyring_of(request), token)
    own = doors.person and any(principal.key == known.key for known in doors.links.values())
    actor = doors.person if own else principal.actor
    visitor = Visitor(replace(caller, actor=actor, project=principal.project), principal)
    request.state.visitor = visitor  # for the page of an error
    return visitor


def _allowed(scope: Scope) -> Callable[[Request], Awaitable[Frame]]:
    async def allowed(request: Request) -> Frame:
        if request.method != "GET":
            _check_meant(request)
        frame = Frame(request, await visitor_of(request))
        if not frame.visitor.may(scope):
            held = ", ".join(sorted(frame.visitor.principal.scopes))
            raise AccessDenied(f"This needs a key with the scope {scope}; yours has {held}. Nothing was done.").because(
                "scope", scope=scope, held=held
            )
        return frame

    return allowed


looking = _allowed("read")
Looking = Annotated[Frame, Depends(looking)]
"""A page for whoever may look."""
Talking = Annotated[Frame, Depends(_allowed("api"))]
"""Something that whoever may use sessions may do."""
Deciding = Annotated[Frame, Depends(_allowed("admin"))]
"""Something that needs the scope `admin`: approvals, freezes, budgets, keys."""


def _check_meant(request: Request, *, header: bool = True) -> None:
    """Refuse what a page of another site made this browser send."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    foreign = origin is not None and origin.partition("://")[2] not in (host, request.headers.get("host"))
    if foreign or site not in ("same-origin", "none") or (header and request.headers.get("hx-request") != "true"):
        raise AccessDenied("This was not asked for by a page of the console. Nothing was done.").because("not_meant")


# --- forms ------------------------------------------------------------------------------------------------------------


class Fields:
    """What a form sent, by name."""

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """A field; the default when it was not sent."""
        return self._values.get(name, [default])[-1]

    def texts(self, name: str) -> list[str]:
        """A field that may be sent more than once."""
        return self._values.get(name, [])

    def one_of(self, name: str, choices: tuple[str, ...]) -> Any:
        """A field with few values. Raises InvalidInput."""
        value = self.text(name)
        if value not in choices:
            raise InvalidInput(
                f"{name}: {value[:40]!r} is none of {', '.join(choices)}. Nothing was done.", param=name
            ).because("not_a_choice", field=name, value=value[:40])
        return value


async def fields_of(request: Request) -> Fields:
    """The form in a request's body. Raises InvalidInput."""
    body = await request.body()
    try:
        return Fields(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1_000, errors="strict"))
    except ValueError as error:
        raise InvalidInput(f"The form cannot be read ({error}). Nothing was done.").because("bad_form") from None


Sent = Annotated[Fields, Depends(fields_of)]


# --- coming and going -------------------------------------------------------------------------------------------------


class SignInData(msgspec.Struct, frozen=True):
    """How one comes in here: with a `key`, and in development by the `link` that was printed. `to` is where it leads,
    `ends_after_s` how long it lasts."""

    by: list[str]
    to: str
    ends_after_s: int = SIGNED_IN_S


@entry_router.get("/sign-in.json")
@entry_router.get("/sign-in")
async def sign_in_page(request: Request, to: str = "/") -> Response:
    """Where a key is asked for."""
    return _door(Frame(request), to)


@entry_router.post("/sign-in")
async def sign_in_with_key(request: Request, fields: Sent) -> Response:
    """Exchange a key for a session."""
    _check_meant(request, header=False)
    frame, to = Frame(request), fields.text("to", "/")
    try:
        with _trying(request):
            principal = await keyring_of(request).check(fields.text("key").strip())
    except (Unauthenticated, RateLimited) as error:
        return _door(frame, to, error)
    return await _welcome(frame, principal, _here(to))


@contextmanager
def _trying(request: Request) -> Generator[None]:
    """Count a try of the address that asks, unless it goes well. Raises RateLimited."""
    attempts: Attempts = request.app.state.attempts
    address, now = request.client.host if request.client else "", _caller(request).clock.now()
    attempts.take(address, now)
    yield
    attempts.give_back(address, now)


def _door(frame: Frame, to: str, error: RemanenceError | None = None) -> Response:
    """The page that asks for a key, with what was wrong with the last one."""
    links = bool(_doors(frame.request).links)
    data = SignInData(["key", "link"] if links else ["key"], _here(to))
    if error is None:
        return frame.show("sign_in.html", "", data, failure="", ways=of_sign_in(frame))
    answer = frame.page(
        "sign_in.html", status=error.status, tab="", data=data, failure=told(frame.words, error), ways=of_sign_in(frame)
    )
    if isinstance(error, RateLimited):
        answer.headers["retry-after"] = str(int(error.retry_after_s))
    return answer


@entry_router.post("/sign-out")
async def leave(request: Request) -> Response:
    """End the session."""
    _check_meant(request, header=False)
    name = cookie_name(request, "session")
    await sign_out(_caller(request), request.cookies.get(name, ""))
    answer = Frame(request).go("/sign-in")
    answer.delete_cookie(name, path=Frame(request).link("/"))
    return answer


@entry_router.post("/preferences")
async def prefer(request: Request, fields: Sent) -> Response:
    """Choose a language or a theme; this browser keeps it."""
    _check_meant(request, header=False)
    frame = Frame(request)
    answer = frame.go(_here(fields.text("to", "/")))
    for name, choices in (("language", tuple(LANGUAGES)), ("theme", THEMES)):
        if fields.text(name) in choices:
            answer.set_cookie(
                cookie_name(request, name),
                fields.text(name),
                max_age=400 * 86_400,
                path=frame.link("/"),
                samesite="lax",
            )
    return answer


async def by_link(request: Request) -> Response | None:
    """Exchange the `token` of a link for a session, and go to the same page without it. None: there is none."""
    token = request.query_params.get("token")
    if token is None:
        return None
    frame = Frame(request)
    rest = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "token"])
    to = path_of(request) + (f"?{rest}" if rest else "")
    try:
        with _trying(request):
            principal = _doors(request).links.get(token)
            if principal is None:
                raise Unauthenticated(
                    "This link belongs to an earlier run of the server. Nothing is lost: open the newest one that it "
                    "printed, or paste a key."
                ).because("old_link")
    except (Unauthenticated, RateLimited) as error:
        return _door(frame, to, error)
    return await _welcome(frame, principal, to or "/")


async def _welcome(frame: Frame, principal: Principal, to: str) -> Response:
    token = await sign_in(_caller(frame.request), principal)
    answer = frame.go(to)
    answer.set_cookie(
        cookie_name(frame.request, "session"),
        token,
        max_age=SIGNED_IN_S,
        path=frame.link("/"),
        httponly=True,
        samesite="lax",
        secure=_is_https(frame.request),
    )
    return answer


def _is_https(request: Request) -> bool:
    return request.headers.get("x-forwarded-proto", request.url.scheme) == "https"


def _here(to: str) -> str:
    """A path of the console to go to; anything else is its first page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
