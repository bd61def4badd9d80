"""Errors over HTTP: one shape, the right status, a sentence, never a traceback.

    {"error": {"type": "invalid_request_error", "code": "not_found", "message": "There is no session 's1'. ...",
               "param": null, "doc_url": "/docs#error-not_found", "request_id": "req_..."}}

It is the shape the vendors' clients read, so it serves every face. `code` is stable and machine-readable, `type` its
wide class; `message` says what happened, what was kept and what to do next; `param` is the path of the field that is
wrong (`tools[0].name`), when there is one. Those clients try some again by themselves: 409, which never helps here, and
what failed after it had begun, which without a key would be begun once more. The header `x-should-retry` tells them not
to.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from remanence.api.bodies import of_api, of_vendors
from remanence.api.bound_keys import free_key, is_begun_once
from remanence.api.complaints import complaint
from remanence.errors import InvalidInput, ModelError, RateLimited, RemanenceError

__all__ = [
    "BrokenOff",
    "REFUSALS",
    "ErrorAnswer",
    "ErrorDetail",
    "answer_failures",
    "deserved",
    "error_detail",
    "failure",
    "known",
    "refusal_shapes",
    "refused",
    "request_id_of",
    "unforeseen",
]

log = structlog.get_logger("remanence.http")

RETRY_AFTER_S = 1
PROVIDER_RETRY_AFTER_S = 2.0
"""When a provider that is busy did not say for how long."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ErrorDetail(BaseModel):
    """What went wrong."""

    type: str = Field(description="The wide class of the error: `invalid_request_error`, `server_error` and others.")
    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="What happened, what was kept, what to do next.")
    param: str | None = Field(description="The path of the field that is wrong, when there is one.")
    doc_url: str = Field(description="Where the code is explained, on this server.")
    request_id: str = Field(description="The id of this request, as in the header `x-request-id`.")


class ErrorAnswer(BaseModel):
    """The answer to a request that failed."""

    error: ErrorDetail


_SHAPES = "#/components/schemas/{model}"
_CONTENT = {"application/json": {"schema": {"$ref": _SHAPES.format(model=ErrorAnswer.__name__)}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": _CONTENT}
    for status, words in (
        (400, "The request is wrong; nothing was written."),
        (401, "No key, or one that is not accepted."),
        (402, "A budget would be overshot."),
        (403, "The key has not the scope that this needs."),
        (404, "There is no such thing in the key's project."),
        (409, "Something stands against it: somebody was first, it is done already, a freeze stands."),
        (413, "The body is too large."),
        (421, "The server does not answer for this host."),
        (424, "An MCP server that was named did not answer."),
        (429, "The key asks too often."),
        (500, "What is stored is damaged, or something happened that should not."),
        (502, "The model failed."),
        (503, "The database is away; ask again."),
        (507, "The database has no space left."),
    )
}
"""How any operation may be refused; the document names every status there is, and tests hold the server to it.

The shape is referred to, not given as a `model`: the framework would make a validator of it for each status of each
route, twice, some four thousand in all, which a server paid for when it started and each face when it was first asked.
"""


def refusal_shapes() -> dict[str, Any]:
    """What `REFUSALS` refers to: schemas for the OpenAPI document, by name."""
    schema = ErrorAnswer.model_json_schema(ref_template=_SHAPES)
    return {**schema.pop("$defs"), ErrorAnswer.__name__: schema}


def request_id_of(request: Request) -> str:
    """The id `guard` gave the request."""
    return request.scope.get("request_id", "")


def error_detail(status: int, code: str, message: str, *, request_id: str, param: str | None = None) -> dict[str, Any]:
    """What stands under `error`."""
    wide = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return {
        "type": _TYPES.get(status, wide),
        "code": code,
        "message": message,
        "param": param,
        "doc_url": f"/docs#error-{code}",
        "request_id": request_id,
    }


def failure(
    status: int, code: str, message: str, *, request_id: str, param: str | None = None, retry_after_s: float = 0
) -> Response:
    """An error as a response."""
    error = error_detail(status, code, message, request_id=request_id, param=param)
    headers: dict[str, str] = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE or retry_after_s:
        headers["retry-after"] = str(max(RETRY_AFTER_S, -int(-retry_after_s // 1)))
    if status == HTTPStatus.CONFLICT:
        headers["x-should-retry"] = "false"
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode({"error": error}), status, headers, "application/json")


def answer_failures(app: FastAPI) -> None:
    """Give every kind of error its answer. What nobody foresaw is logged by `guard`, which it reaches afterwards."""
    app.add_exception_handler(RemanenceError, known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)


class BrokenOff(Exception):
    """A stream met an error when its head had been sent: the connection is cut, which its reader notices."""


def unforeseen(request_id: str) -> Response:
    """The answer when something happened that nobody foresaw."""
    words = "Something happened that should not. What was acknowledged before is kept. Please report it, with the "
    words += "request id and what the server logged under it."
    return failure(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", words, request_id=request_id)


async def _unforeseen(request: Request, _: Exception) -> Response:
    return unforeseen(request_id_of(request))


async def known(request: Request, error: Exception) -> Response:
    """The answer to a refusal of ours."""
    assert isinstance(error, RemanenceError)
    if error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        await free_key(request)
    else:
        log.warning("a request failed", path=request.url.path, code=error.code, error=error.message)
    answer = refused(error, request_id=request_id_of(request))
    if is_begun_once(request.scope):
        answer.headers["x-should-retry"] = "false"
    return answer


def refused(error: RemanenceError, *, request_id: str) -> Response:
    """A refusal of ours as a response."""
    return failure(
        error.status,
        error.code,
        error.message,
        request_id=request_id,
        param=getattr(error, "param", None),
        retry_after_s=error.retry_after_s if isinstance(error, RateLimited) else 0,
    )


def deserved(error: ModelError) -> RemanenceError:
    """The refusal that the failure of a model is to whoever asked for its answer."""
    if error.kind in ("rate_limited", "overloaded"):
        return RateLimited(error.message, retry_after_s=error.retry_after_s or PROVIDER_RETRY_AFTER_S)
    return InvalidInput(error.message) if error.kind == "invalid_request" else error


async def _invalid(request: Request, error: Exception) -> Response:
    """What does not fit the declared shape of a request: the first complaint, with the path of the field."""
    assert isinstance(error, RequestValidationError)
    await free_key(request)
    first, code = error.errors()[0], InvalidInput.code
    if first["type"] == "json_invalid":
        message, param = _not_json(request, first.get("ctx", {}).get("error", ""))
    else:
        param, said, kind = complaint(error.errors(), error.body)
        code = kind.code if of_vendors(request) else code
        message = f"{param}: {said}. Nothing was written; {request.url.path} is described at /docs."
        if param == "body" and first["type"] != "missing" and "json" not in request.headers.get("content-type", ""):
            # What `curl -d` sends unless told otherwise.
            message = "The body was not read: it was not sent as JSON. Nothing was written; send it with the header "
            message += "`content-type: application/json`."
            code = InvalidInput.code
    return failure(InvalidInput.status, code, message, request_id=request_id_of(request), param=param)


def _not_json(request: Request, why: str) -> tuple[str, str]:
    """What is said of a body that is no JSON as it came, and of what."""
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        words = f"The body came compressed ({coding[:40]}); none is unpacked. Nothing was written; send it as it is."
        return words, "content-encoding"
    return f"The body is not valid JSON ({why}). Nothing was written.", "body"


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


async def _http(request: Request, error: Exception) -> Response:
    """What routing has to say: no such path, not with this method."""
    assert isinstance(error, HTTPException)
    lost = getattr(request.app.state, "lost", None)  # the console's page for people, where there is a console
    page: Response | None = await lost(request, error) if lost is not None else None
    if page is not None:
        return page
    path, method = request.url.path, request.method
    code, message = {
        HTTPStatus.NOT_FOUND: ("not_found", f"There is nothing at {path}. {_meant(request)}"),
        HTTPStatus.BAD_REQUEST: (InvalidInput.code, f"{error.detail}. Nothing was written."),
        HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", f"{path} does not take {method}. See /docs."),
    }.get(HTTPStatus(error.status_code), ("http_error", str(error.detail)))
    answer = failure(error.status_code, code, message, request_id=request_id_of(request))
    answer.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["allow"] = ", ".join(_allowed(request))
    return answer


def _meant(request: Request) -> str:
    """What to do about a path that is none: most often its beginning is missing."""
    for mount, hint in (("/v1", "a client's base URL ends in /v1"), ("/admin/v1", "it wants a key of the scope admin")):
        scope = {**request.scope, "path": f"{mount}{request.url.path}"}
        if any(one.matches(scope)[0] is Match.FULL for one in request.app.router.routes):
            return f"There is {scope['path']}: {hint}."
    return "See /docs for what there is."


def _allowed(request: Request) -> list[str]:
    """The methods that this path takes: routing names those of the first route that it found."""
    routes = request.app.router.routes
    asked = {method: {**request.scope, "method": method} for method in _METHODS}
    taken = {name for name, scope in asked.items() if any(one.matches(scope)[0] is Match.FULL for one in routes)}
    if "GET" in taken and of_api(request.url.path):
        taken.add("HEAD")  # which `guard` makes of it
    return [method for method in _METHODS if method in taken]
