"""Errors over HTTP: one shape, the right status, a sentence, never a traceback.

    {"error": {"code": "not_found", "message": "There is no session 's1'. ...", "param": null, "request_id": "req_..."}}

`code` is stable and machine-readable; `message` says what happened, what was kept and what to do next; `param` is the
path of the field that is wrong, when there is one.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from remanence.errors import InvalidInput, RemanenceError

__all__ = ["ErrorAnswer", "ErrorDetail", "answer_failures", "failure", "request_id_of"]

log = structlog.get_logger("remanence.http")

RETRY_AFTER_S = 1


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable and machine-readable.")
    message: str = Field(description="What happened, what was kept, what to do next.")
    param: str | None = Field(description="The path of the field that is wrong, when there is one.")
    request_id: str = Field(description="The id of this request, as in the header `x-request-id`.")


class ErrorAnswer(BaseModel):
    """The answer to a request that failed."""

    error: ErrorDetail


def request_id_of(request: Request) -> str:
    """The id `guard` gave the request."""
    return request.scope.get("request_id", "")


def failure(status: int, code: str, message: str, *, request_id: str, param: str | None = None) -> Response:
    """An error as a response."""
    error = {"code": code, "message": message, "param": param, "request_id": request_id}
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(msgspec.json.encode({"error": error}), status, headers, "application/json")


def answer_failures(app: FastAPI) -> None:
    """Give every kind of error its answer. What nobody foresaw is answered by `guard`."""
    app.add_exception_handler(RemanenceError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, RemanenceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("a request failed", path=request.url.path, code=error.code, error=error.message)
    return failure(
        error.status, error.code, error.message, request_id=request_id_of(request), param=getattr(error, "param", None)
    )


async def _invalid(request: Request, error: Exception) -> Response:
    """What does not fit the declared shape of a request: the first complaint, with the path of the field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        why = first.get("ctx", {}).get("error", "")
        message, param = f"The body is not valid JSON ({why}). Nothing was written.", "body"
    else:
        param = ".".join(str(step) for step in first["loc"][1:]) or str(first["loc"][0])
        message = f"{param}: {first['msg']}. Nothing was written; {request.url.path} is described at /docs."
    return failure(InvalidInput.status, InvalidInput.code, message, request_id=request_id_of(request), param=param)


async def _http(request: Request, error: Exception) -> Response:
    """What routing has to say: no such path, not with this method."""
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    code, message = {
        HTTPStatus.NOT_FOUND: ("not_found", f"There is nothing at {path}. See /docs for what there is."),
        HTTPStatus.BAD_REQUEST: (InvalidInput.code, f"{error.detail}. Nothing was written."),
        HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", f"{path} does not take {method}. See /docs."),
    }.get(HTTPStatus(error.status_code), ("http_error", str(error.detail)))
    answer = failure(error.status_code, code, message, request_id=request_id_of(request))
    answer.headers.update(error.headers or {})
    return answer
