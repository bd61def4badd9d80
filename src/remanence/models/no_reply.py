"""Answers that are no reply: a page of a proxy, an error under the status of a success, a redirect, an empty object.

The provider library takes whatever comes with status 200 for a reply, and then fails over what is missing in it: a page
becomes "list index out of range", an error where a stream was asked for becomes a stream without content. Here an
answer is looked at as it arrives, before the library reads it, and what it says is kept. What may be a reply is left to
the library. The HTTP library is imported at the top: import this module lazily.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx2
import msgspec

from remanence.errors import ModelErrorKind

__all__ = ["NoReply", "look_at", "plain_words"]

LOOKED_AT_MAX: Final = 65_536
"""How much of an answer is read that cannot be a reply."""
SHOWN_MAX: Final = 200
_MEMBERS: Final = {"/chat/completions": "choices", "/responses": "output", "/messages": "content"}
_STREAMS: Final = (b'"stream":true', b'"stream": true')
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_NOT_TEXT: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_KINDS: Final[dict[str, ModelErrorKind]] = {
    "401": "authentication",
    "402": "authentication",
    "403": "authentication",
    "authentication_error": "authentication",
    "permission_error": "authentication",
    "400": "invalid_request",
    "404": "invalid_request",
    "413": "invalid_request",
    "422": "invalid_request",
    "invalid_request_error": "invalid_request",
    "not_found_error": "invalid_request",
    "model_not_found": "invalid_request",
    "408": "timeout",
    "429": "rate_limited",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "503": "overloaded",
    "529": "overloaded",
    "overloaded_error": "overloaded",
}


class NoReply(Exception):
    """What came is no reply. `what` goes on from the model's name; `then` is what to do, empty for what is usual."""

    def __init__(self, kind: ModelErrorKind, what: str, then: str = "") -> None:
        super().__init__(what)
        self.kind: ModelErrorKind = kind
        self.then = then


async def look_at(response: httpx2.Response) -> None:
    """A hook of the HTTP client. Raises `NoReply`; what may be a reply is left as it came."""
    status, path = response.status_code, response.request.url.path
    member = next((name for ending, name in _MEMBERS.items() if path.endswith(ending)), "")
    if not member or status >= 400:
        return
    if status >= 300:
        raise _redirected(response)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    streams = any(mark in response.request.content for mark in _STREAMS)
    if kind == "text/html" or (kind == "application/json" and streams):
        raise _instead(await _beginning(response), streams)
    if kind == "application/json":
        await response.aread()
        _check(response.content, member)


def plain_words(text: str) -> str:
    """The text on one line; of a page its title, or what a reader would see."""
    if text.lstrip()[:1] == "<":
        title = _TITLE.search(text)
        text = html.unescape(title.group(1) if title else _NOT_TEXT.sub(" ", text))
    return " ".join(text.split())


def _redirected(response: httpx2.Response) -> NoReply:
    place = response.headers.get("location", "").partition("?")[0]
    return NoReply(
        "invalid_request",
        f"answered ({response.status_code}) that it is to be found elsewhere: {place or 'it does not say where'}",
        "No redirect is followed, because the key would go along: set `base_url` to the right address.",
    )


async def _beginning(response: httpx2.Response) -> bytes:
    content = b""
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) >= LOOKED_AT_MAX:
            break
    return content


def _instead(content: bytes, streams: bool) -> NoReply:
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        found = None
    if isinstance(found, dict) and (told := _told(cast("dict[str, Any]", found))):
        return told
    words = plain_words(content.decode(errors="replace"))
    asked = "a stream" if streams else "a reply"
    return NoReply("server", f"sent something else in place of {asked}: {_cut(words) or 'nothing'}")


def _check(content: bytes, member: str) -> None:
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        # Half a reply, perhaps: the library says where it ends.
        return
    if not isinstance(found, dict):
        raise NoReply("server", f"sent something else in place of a reply: {_cut(content.decode(errors='replace'))}")
    answer = cast("dict[str, Any]", found)
    items = answer.get(member)
    if isinstance(items, list) and (items or member != "choices"):
        return
    if told := _told(answer):
        raise told
    raise NoReply("server", f"sent a reply without `{member}`: {_cut(content.decode(errors='replace'))}")


def _told(answer: Mapping[str, Any]) -> NoReply | None:
    """The error that an answer holds, if it holds one."""
    error = answer.get("error")
    if not error:
        return None
    members = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": error}
    marks = [str(members.get(name, "")) for name in ("code", "type", "status")]
    known: list[ModelErrorKind] = [_KINDS[mark] for mark in marks if mark in _KINDS]
    words = members.get("message")
    return NoReply(
        known[0] if known else "server",
        f"failed: {_cut(plain_words(str(words or msgspec.json.encode(error).decode())))}",
    )


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_MAX else f"{line[:SHOWN_MAX]}…"
