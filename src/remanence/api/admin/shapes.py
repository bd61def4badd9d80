"""Bodies and answers of `/admin/v1`.

Answers have the shapes of `commands/shapes.py`, which `-o json` prints as well. They are encoded by msgspec; `shown`
makes a pydantic model of each, for OpenAPI alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cache
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import msgspec
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from remanence.spec import IfBusy

__all__ = [
    "AnswerBody",
    "BudgetBody",
    "CancelBody",
    "DecisionBody",
    "ForkBody",
    "FreezeBody",
    "OpenBody",
    "ReasonBody",
    "ResolutionBody",
    "SendBody",
    "json_answer",
    "listed",
    "page_answer",
    "shown",
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Text = Annotated[str, Field(max_length=10_000)]


class ReasonBody(_Body):
    """Why; it is journaled."""

    reason: Text = ""


class CancelBody(ReasonBody):
    """Why the turn shall stop."""


class OpenBody(_Body):
    """A new session of an agent: of its newest version, or of the one with this digest."""

    agent: str
    version: str | None = None
    session: str | None = None
    user: str = ""
    title: Text = ""
    metadata: dict[str, str] = {}


class SendBody(_Body):
    """Something to say. `if_busy` is what it does while a turn runs; by default what the agent says. `answers` is the
    call of a question that it answers."""

    text: str
    if_busy: IfBusy | None = None
    answers: str | None = None


class ForkBody(_Body):
    """Where to fork: the end of a turn, or a position; neither: now."""

    turn: int | None = Field(default=None, ge=1)
    position: int | None = Field(default=None, ge=1)
    title: Text = ""


class FreezeBody(ReasonBody):
    """The kill switch: `all`, `project:NAME` or `agent:NAME`. `all` alone reaches beyond the key's project."""

    scope: str


class DecisionBody(_Body):
    """A yes or a no to one exact call, used once. `expires_s`: the yes is good for so long."""

    decision: Literal["approve", "deny"]
    note: Text = ""
    expires_s: float | None = Field(default=None, gt=0)


class ResolutionBody(_Body):
    """What became of an effect in doubt; `result` is what the agent reads when it happened."""

    outcome: Literal["happened", "run_again", "give_up"]
    result: Annotated[str, Field(max_length=1_000_000)] = ""
    note: Text = ""


class AnswerBody(_Body):
    """The answer to a question of the agent."""

    text: str


class BudgetBody(_Body):
    """A limit in micro-USD or tokens: `limit` sets it, `raise_by` and `raise_to` raise one that stands. Give one."""

    scope: str = Field(description="session:ID, agent:NAME, user:NAME or project:NAME.")
    unit: Literal["usd_micros", "tokens"]
    limit: int | None = Field(default=None, ge=0, lt=2**62)
    raise_by: int | None = Field(default=None, ge=0, lt=2**62)
    raise_to: int | None = Field(default=None, ge=0, lt=2**62)


# --- answers ----------------------------------------------------------------------------------------------------------


def json_answer(value: object, *, status: int = 200) -> Response:
    """A value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def page_answer(
    data: Sequence[object], *, following: str | None = None, unread: int | Sequence[str] | None = None
) -> Response:
    """A list; `next` is what to send as `after` for more, null at the end. `unread`: what could not be looked at."""
    page = {"object": "list", "data": data, "next": following}
    return json_answer({**page, "unread": unread} if unread else page)


@cache
def shown(shape: Any) -> type[BaseModel]:
    """A pydantic model with the fields of a struct."""
    fields: dict[str, Any] = {
        field.name: (_type(field.type), ... if field.required else field.default)
        for field in msgspec.structs.fields(shape)
    }
    return create_model(shape.__name__.removesuffix("Shape"), __doc__=shape.__doc__, **fields)


@cache
def listed(shape: Any) -> type[BaseModel]:
    """A pydantic model of a page of such structs."""
    one = shown(shape)
    fields: dict[str, Any] = {
        "object": (Literal["list"], "list"),
        "data": (GenericAlias(list, (one,)), ...),
        "next": (str | None, None),
    }
    words = "A list. `next` is what to send as `after` for more; null at the end."
    return create_model(f"{one.__name__}List", __doc__=words, **fields)


def _type(given: Any) -> Any:
    """The same type, with structs as models, also inside lists and unions."""
    if isinstance(given, type) and issubclass(given, msgspec.Struct):
        return shown(given)
    inner: tuple[Any, ...] = get_args(given)
    origin: Any = get_origin(given)
    if not inner or origin is Literal:
        return cast("Any", given)
    made = tuple(_type(one) for one in inner)
    if origin is UnionType:
        return functools.reduce(lambda a, b: a | b, made)
    return GenericAlias(origin, made)
