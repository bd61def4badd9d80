"""Asking a running server over `/admin/v1`, with the errors that the verbs themselves would raise.

An error of the server comes back as the error it was there: the same sentence, the same exit code. When the server does
not answer any more, what it acknowledged is kept; that is said, and nothing is tried a second time.

The HTTP library is loaded where it is used: most commands find no server, and it is a sixth of what they load.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from remanence.cli.server_file import Announced
from remanence.errors import BudgetExceeded, ModelError, RateLimited, RemanenceError, StoreUnavailable

if TYPE_CHECKING:
    import httpx2

__all__ = ["Client", "opened_client"]

CONNECT_S = 2.0
ANSWER_S = 600.0
"""How long an answer may take: a server verifies or sums up as long as the command itself would."""
PAGE = 200

T = TypeVar("T")


class Client:
    """One server, asked by one person in one project."""

    def __init__(self, http: httpx2.AsyncClient, url: str) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, kind: type[T], /, **query: Any) -> T:
        """A JSON answer. Raises what the server raised."""
        return await self._ask("GET", path, kind, query=query)

    async def text(self, path: str) -> str:
        """An answer that is not JSON."""
        async with self.stream(path) as answer:
            return (await answer.aread()).decode()

    async def post(self, path: str, kind: type[T], body: Any, /, *, key: str | None = None, **query: Any) -> T:
        """Do something."""
        return await self._ask("POST", path, kind, query=query, body=body, key=key)

    async def put(self, path: str, kind: type[T], body: Any, /, **query: Any) -> T:
        """Set something."""
        return await self._ask("PUT", path, kind, query=query, body=body)

    async def delete(self, path: str, kind: type[T], /, **query: Any) -> T:
        """Remove something."""
        return await self._ask("DELETE", path, kind, query=query)

    async def pages(self, path: str, kind: type[T], limit: int, /, **query: Any) -> tuple[list[T], Any]:
        """A list of at most `limit`, page by page; and what could not be looked at for it."""
        found: list[T] = []
        after: str | None = None
        while True:
            wanted = min(PAGE, limit - len(found))
            page = await self.get(path, _Page, **query, limit=wanted, after=after)
            found += msgspec.json.decode(page.data, type=list[kind])
            after = page.next
            if after is None or len(found) >= limit:
                return found, page.unread

    async def walk(self, path: str, kind: type[T], /, **query: Any) -> AsyncGenerator[T]:
        """All of a list, as its pages come."""
        after: str | None = None
        while True:
            page = await self.get(path, _Page, **query, limit=PAGE, after=after)
            for one in msgspec.json.decode(page.data, type=list[kind]):
                yield one
            after = page.next
            if after is None:
                return

    async def listed(self, path: str, kind: type[T], /, **query: Any) -> tuple[list[T], Any]:
        """A list that has no pages."""
        page = await self.get(path, _Page, **query)
        return msgspec.json.decode(page.data, type=list[kind]), page.unread

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> T:
        headers = {"content-type": "application/json"} if body is not None else {}
        if key is not None:
            headers["idempotency-key"] = key
        content = None if body is None else msgspec.json.encode(body)
        with self._reached():
            answer = await self._http.request(
                method, _path(path), params=_given(query), content=content, headers=headers
            )
        if answer.status_code >= 400:
            raise error_of(answer.status_code, answer.content)
        return msgspec.json.decode(answer.content, type=kind)

    @asynccontextmanager
    async def stream(self, path: str, **query: Any) -> AsyncGenerator[httpx2.Response]:
        """An answer as it comes."""
        with self._reached():
            async with self._http.stream("GET", _path(path), params=_given(query)) as answer:
                if answer.status_code >= 400:
                    raise error_of(answer.status_code, await answer.aread())
                yield answer

    async def upload(self, path: str, file: tuple[AsyncIterator[bytes], int], kind: type[T], **query: Any) -> T:
        """Send a file as it is read. `file` is its content and its size in bytes, so that one too large is not sent."""
        content, size = file
        headers = {"content-type": "application/zip", "content-length": str(size)}
        with self._reached():
            answer = await self._http.post(_path(path), params=_given(query), content=content, headers=headers)
        if answer.status_code >= 400:
            raise error_of(answer.status_code, answer.content)
        return msgspec.json.decode(answer.content, type=kind)

    def _reached(self) -> _Reached:
        return _Reached(self.url)


class _Page(msgspec.Struct):
    data: msgspec.Raw
    next: str | None = None
    unread: Any = None


class _Reached:
    """Says in a sentence that the server could not be reached."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import httpx2

        if isinstance(error, httpx2.TransportError):
            raise StoreUnavailable(
                f"The server at {self._url} did not answer ({_why(error)}). What it acknowledged is kept; "
                "whether it did this is not known here. Look at the session, or ask again; --direct asks the database "
                "itself."
            ) from None


def _why(error: httpx2.TransportError) -> str:
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return "it took too long"
    if isinstance(error, httpx2.ConnectError):
        return "nothing listens there, or no way leads to it"
    return "the connection broke"


def _path(path: str) -> str:
    return f"/admin/v1{path}"


def _given(query: dict[str, Any] | None) -> dict[str, Any]:
    """The query without what was not given."""
    given = {name: value for name, value in (query or {}).items() if value is not None and value is not False}
    return {name: "true" if value is True else value for name, value in given.items()}


@asynccontextmanager
async def opened_client(said: Announced, person: str, project: str) -> AsyncGenerator[Client]:
    """A client that speaks for a person, in a project."""
    import ssl

    import httpx2

    headers = {
        "authorization": f"Bearer {said.key}",
        "x-remanence-as": quote(person),
        "x-remanence-project": quote(project),
    }
    timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
    # Loopback, in clear: the proxies of the environment are for elsewhere, and so are the authorities of the system,
    # all of which would be read (20 ms). This trusts none.
    none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx2.AsyncClient(
        base_url=said.url, headers=headers, timeout=timeout, trust_env=False, verify=none
    ) as http:
        yield Client(http, said.url)


# --- errors -----------------------------------------------------------------------------------------------------------


class _Detail(msgspec.Struct):
    code: str = ""
    message: str = ""
    param: str | None = None


class _Failure(msgspec.Struct):
    error: _Detail


def error_of(status: int, content: bytes) -> RemanenceError:
    """The error that the server answered with."""
    try:
        said = msgspec.json.decode(content, type=_Failure).error
    except msgspec.MsgspecError:
        return StoreUnavailable(f"The server answered with status {status}, and not in a way this release knows.")
    if said.code == RateLimited.code:
        return RateLimited(said.message, retry_after_s=1)
    if said.code == ModelError.code:
        return ModelError(said.message, kind="server")
    if said.code == BudgetExceeded.code:
        return BudgetExceeded(said.message, scope="", unit="", limit=0, used=0, needed=0)
    known = {kind.code: kind for kind in _kinds(RemanenceError)}
    return known.get(said.code, RemanenceError)(said.message, param=said.param)


def _kinds(kind: type[RemanenceError]) -> Iterator[type[RemanenceError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _kinds(inner)
