"""What every page has: who looks, in which language and theme, under which path; and how a page is answered.

**Where it is.** The console works at the root of a host and below a path of a proxy: `root_path` of the server, or the
header `X-Forwarded-Prefix`, is put before every link. **What it may do.** `POLICY` forbids a page everything it does
not need: scripts and styles come from this server's own files, none is written into a page, nothing is fetched from or
sent to another origin, and no other page may frame it.

A page is made from one value. `show` renders it with a template, or answers with the value itself when the path ends in
`.json`: what a page says and what its twin says cannot differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import version as version_of
from typing import Any, Literal, cast
from urllib.parse import quote

import msgspec
from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from remanence.commands.caller import Caller
from remanence.commands.keys import Principal, Scope
from remanence.console.static import digest_of_files
from remanence.console.wording import LANGUAGES, Wording, negotiated, wording
from remanence.content import parse_arguments
from remanence.core.state import Session, status_of
from remanence.errors import NotFound
from remanence.stores.refusals import no_session

__all__ = [
    "COOKIE",
    "HEADERS",
    "THEMES",
    "Frame",
    "Visitor",
    "cookie_name",
    "LONGEST",
    "owned",
    "path_of",
    "prefix_of",
    "pretty",
]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
}
COOKIE = "remanence"
LONGEST = 20_000
"""How much of one text a list of messages or records shows, in characters; the step it belongs to shows all."""
THEMES = ("system", "light", "dark")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Characters that turn the direction of a line, end it, or take no room: a call that waits for a yes could be made to
look like another. The joiners that scripts and emoji are written with are not among them."""
_IN_URLS = "/?#[]@!$&'()*+,;=:~%-._"
"""What stands for itself in the address of a page; anything else a header cannot carry."""

Tab = Literal["", "home", "sessions", "inbox", "playground", "agents", "cost", "keys", "memory"]


class Visitor(msgspec.Struct, frozen=True):
    """Who looks: a `Caller` of their key's project whose actor is the name that is journaled, and what they may do."""

    caller: Caller
    principal: Principal

    @property
    def name(self) -> str:
        return self.caller.actor

    def may(self, scope: Scope) -> bool:
        """Whether they may do what needs a scope. Whoever administers may do everything; `api` may look."""
        held = self.principal.scopes
        return scope in held or "admin" in held or (scope == "read" and "api" in held)


def prefix_of(request: Request) -> str:
    """What stands before every path of ours: empty at the root of a host."""
    told = request.scope.get("root_path", "") or request.headers.get("x-forwarded-prefix", "").rstrip("/")
    return told if _PREFIX.fullmatch(told) else ""


def path_of(request: Request) -> str:
    """The path that was asked for, without the prefix, as a link has to say it.

    A proxy that names its prefix in a header has taken it away; one that does not may have left it (`root_path`).
    """
    root, path = request.scope.get("root_path", ""), str(request.scope["path"])
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return quote(path or "/", safe="/:@!$&'()*+,;=~")


def cookie_name(request: Request, what: str) -> str:
    """The name of a cookie. Browsers give the cookies of a host to all its ports, so the port is part of it."""
    return f"{COOKIE}_{what}_{request.url.port or 0}"


class Frame:
    """One request of the console, and its answer."""

    def __init__(self, request: Request, visitor: Visitor | None = None) -> None:
        self.request = request
        self._visitor = visitor
        self.prefix = prefix_of(request)
        wish = request.cookies.get(cookie_name(request, "language"), "")
        language = wish if wish in LANGUAGES else negotiated(request.headers.get("accept-language", ""))
        self.words: Wording = wording(language)
        theme = request.cookies.get(cookie_name(request, "theme"), "")
        self.theme = theme if theme in THEMES else "system"
        self.as_json = request.url.path.endswith(".json")
        self.is_fragment = request.headers.get("hx-request") == "true"

    @property
    def visitor(self) -> Visitor:
        assert self._visitor is not None, "this page is for whoever is signed in"
        return self._visitor

    @property
    def signed_in(self) -> bool:
        return self._visitor is not None

    @property
    def caller(self) -> Caller:
        return self.visitor.caller

    @property
    def now(self) -> int:
        """Microseconds since 1970."""
        return self.caller.clock.now() if self._visitor else 0

    @property
    def here(self) -> str:
        """Where the reader is, for coming back."""
        query = self.request.url.query
        return path_of(self.request) + (f"?{query}" if query else "")

    @property
    def origin(self) -> str:
        """Where this server is, for lines to copy: scheme, host and prefix."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}{self.prefix}"

    def link(self, path: str) -> str:
        """A path of the console, as the browser has to ask for it."""
        return f"{self.prefix}{path}"

    # --- answers ------------------------------------------------------------------------------------------------------

    def show(self, template: str, tab: Tab, data: Any, **more: object) -> Response:
        """A page, or the value it is made from. `more` is what a template needs and a program does not."""
        if self.as_json:
            headers = {"cache-control": "no-store"}
            return Response(msgspec.json.encode(data), headers=headers, media_type="application/json")
        return self._page(template, 200, {"tab": tab, "data": data, **more})

    def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A template as a response. `values` are what it is filled with."""
        return self._page(template, status, values)

    def _page(self, template: str, status: int, values: dict[str, object]) -> Response:
        return Response(self.html(template, **values), status, HEADERS, "text/html; charset=utf-8")

    def html(self, template: str, **values: object) -> str:
        """A template, filled."""
        return (
            _environment()
            .get_template(template)
            .render(
                f=self,
                t=self.words,
                visitor=self._visitor,
                now=self.now,
                link=self.link,
                version=version_of("remanence"),
                files=digest_of_files(),
                ready=self.request.app.state.pages,
                languages=LANGUAGES,
                themes=THEMES,
                status_of=status_of,
                longest=LONGEST,
                **values,
            )
        )

    def said(self, key: str, **values: object) -> Response:
        """What was done, for the corner of the page that says so."""
        return self.page("_said.html", words=self.words.rich(key, **values), bad=False)

    def go(self, path: str) -> Response:
        """Let the browser go to a path of the console."""
        there = quote(self.link(path), safe=_IN_URLS)
        if self.is_fragment:
            return Response(status_code=204, headers={"hx-redirect": there, **HEADERS})
        return Response(status_code=303, headers={"location": there, **HEADERS})


def owned(frame: Frame, s: Session) -> Session:
    """A session of the visitor's project; one of another is not found, like one that is not."""
    if s.project != frame.caller.project:
        raise no_session(s.id)
    if s.deleted:
        raise NotFound(
            f"There is no session {s.id!r} in project {frame.caller.project}. It may have been removed."
        ).because("no_session", session=s.id)
    return s


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("remanence.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters = cast("dict[str, Callable[..., object]]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(pretty=pretty, plain=_plain, short=_short, ticks=_ticks, parsed=_parsed)
    return environment


def pretty(value: Any) -> str:
    """A value, or JSON text, as indented JSON; what is not JSON as it stands."""
    raw = value.encode(errors="surrogatepass") if isinstance(value, str) else msgspec.json.encode(value)
    try:
        return _plain(msgspec.json.format(raw, indent=2).decode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _plain(str(value))


def _plain(text: str) -> str:
    """What a person decides about, with nothing in it that hides or turns around what it says: such characters are
    written as JSON escapes them."""
    return _HIDDEN.sub(lambda found: _escaped(found[0]), text)


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[n] << 8 | units[n + 1]:04x}" for n in range(0, len(units), 2))


def _parsed(arguments: str) -> dict[str, Any]:
    """The arguments of a call by name; none when they are not what they should be."""
    try:
        return parse_arguments(arguments)
    except ValueError:
        return {}


def _ticks(text: str) -> Markup:
    """A sentence with `code` in it."""
    pieces = text.split("`")
    return Markup("").join(Markup("<code>{}</code>" if n % 2 else "{}").format(piece) for n, piece in enumerate(pieces))


def _short(text: str, length: int = 12) -> Markup:
    """A long id by its end, whole for whoever points at it."""
    if len(text) <= length:
        return Markup("{}").format(text)
    return Markup('<span title="{}">…{}</span>').format(text, text[-length + 1 :])
