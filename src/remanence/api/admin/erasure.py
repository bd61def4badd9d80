"""`/admin/v1/memory/erasures` and `.../holds`: erasing for good, the receipts, their proof, legal holds.

An order under an `Idempotency-Key` has its id from the key. So the same request again is answered with the receipt of
that order, whoever carried it out, and goes on with it when whoever did is dead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from remanence.api.admin.access import REFUSALS, Admin
from remanence.api.admin.shapes import json_answer, listed, page_answer, shown
from remanence.api.bodies import JsonRoute
from remanence.api.once import IdempotencyKey, digest_of_request, once, only_once
from remanence.api.router import Face
from remanence.commands import erasure
from remanence.commands.caller import Caller
from remanence.commands.erasure import LegalHold
from remanence.commands.proof import Check, check_receipt
from remanence.commands.receipts import Receipt, What, read_receipt, tracer_of
from remanence.content import digest_of
from remanence.errors import Conflict, KeyReused, NotFound

__all__ = ["erasure_router", "ordered"]

erasure_router = Face(prefix="/memory", tags=["memory"], route_class=JsonRoute, responses=REFUSALS)

_Word = Annotated[str, Field(min_length=1, max_length=500)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ErasureBody(_Body):
    """What to erase for good: a memory, a session, a subject or a user, by id or name. `reason` is journaled."""

    what: What
    name: _Word
    reason: Annotated[str, Field(min_length=1, max_length=1_000)]


class HoldBody(_Body):
    """Nothing under `scope` may be erased: project, user:ID, session:ID, subject:NAME or memory:ID."""

    scope: _Word
    reason: Annotated[str, Field(min_length=1, max_length=1_000)]


@erasure_router.post("/erasures", status_code=201, summary="Erase for good", response_model=shown(Receipt))
async def erase(request: Request, caller: Admin, body: ErasureBody, idempotency_key: IdempotencyKey = None) -> Response:
    """Erase wherever it has gone: journals, memory, indexes, blobs, the pages of the files. Answers with a signed
    receipt. A legal hold over any of it refuses the whole order (409)."""
    carry_out = partial(erasure.erase, caller, body.what, body.name, reason=body.reason)
    return await ordered(caller, request, idempotency_key, carry_out)


async def ordered(
    caller: Caller, request: Request, key: str | None, carry_out: Callable[..., Awaitable[Receipt]]
) -> Response:
    """The receipt of what `carry_out` erases, or of what it erased when the same request came under this key before."""
    if key is None:
        return json_answer(await carry_out(), status=201)
    order = f"erasure_{digest_of(caller.project.encode(), key.encode())[:30]}"

    async def make() -> Response:
        return json_answer(await carry_out(order=order), status=201)

    # What is kept of the request outlives the name in it, so nobody shall be able to try names on it.
    digest = (await tracer_of(caller)).pseudonym(order, await digest_of_request(request))
    try:
        return await only_once(caller, key, digest, make)
    except KeyReused:
        raise
    except Conflict:  # an erasure keeps no answer that was under way meanwhile, its own among them
        with suppress(NotFound, Conflict):
            return json_answer(await erasure.receipt_of(caller, order), status=201)
        raise


@erasure_router.get("/erasures", summary="List receipts of erasures", response_model=listed(Receipt))
async def list_erasures(caller: Admin) -> Response:
    """Newest first."""
    return page_answer(list(await erasure.receipts(caller)))


@erasure_router.get("/erasures/{erasure_id}", summary="Get a receipt", response_model=shown(Receipt))
async def get_erasure(caller: Admin, erasure_id: str) -> Response:
    """The receipt, as it was signed."""
    return json_answer(await erasure.receipt_of(caller, erasure_id))


@erasure_router.post("/erasures/verify", summary="Prove that nothing is left", response_model=listed(Check))
async def verify_erasure(caller: Admin, receipt: Annotated[dict[str, Any], Body()]) -> Response:
    """Check a receipt: its signature, every record and memory it names, and the bytes of the database's files. With
    `name` beside its fields (the user, subject or block it is about, which it does not say) that is checked as well."""
    name = receipt.pop("name", "")
    whole = read_receipt(msgspec.json.encode(receipt))
    return page_answer(list(await check_receipt(caller, whole, name=name if isinstance(name, str) else "")))


@erasure_router.get("/holds", summary="List legal holds", response_model=listed(LegalHold))
async def list_holds(caller: Admin) -> Response:
    """What may not be erased in this project."""
    return page_answer(list(await erasure.holds(caller)))


@erasure_router.put("/holds", summary="Put a legal hold", response_model=shown(LegalHold))
@once
async def put_hold(caller: Admin, body: HoldBody) -> Response:
    """Nothing under the scope is erased until the hold is lifted; orders are refused whole."""
    return json_answer(await erasure.hold(caller, body.scope, reason=body.reason))


@erasure_router.delete("/holds", summary="Lift a legal hold", response_model=shown(LegalHold))
@once
async def lift_hold(caller: Admin, scope: Annotated[str, Query(min_length=1, max_length=500)]) -> Response:
    """Erasing is possible again. Answers with the hold that stood."""
    return json_answer(await erasure.unhold(caller, scope))
