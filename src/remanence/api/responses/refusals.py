"""A provider that refused, told to whoever waits for the whole response: as an error with a status.

Clients raise for a status and believe every 200, so a program that reads the text of a failed response goes on with
none. Therefore, when no model call of it was answered and nothing was run, the answer is the error that the provider's
refusal deserves. The response is kept all the same, with status `failed`. Clients are told not to try again by
themselves: that was done here, and without a key each time would be a response of its own.

A response of which something came, which may have been paid for, is answered as it is. So is one in a stream or in the
background: those have begun when it fails, and say so in their own words.
"""

from __future__ import annotations

from typing import get_args

from fastapi import Request, Response

from remanence.api.failures import deserved, refused, request_id_of
from remanence.api.responses.fold import Fold
from remanence.api.responses.kept import Kept
from remanence.errors import ModelError, ModelErrorKind

__all__ = ["refusal_of"]

_KINDS: dict[str, ModelErrorKind] = {kind: kind for kind in get_args(ModelErrorKind) if kind != "content"}
"""How providers refuse. What a model said that could not be used is not among them: it was an answer."""


def refusal_of(request: Request, kept: Kept, fold: Fold) -> Response | None:
    """The error to answer in the place of a response, when that is due."""
    kind = _KINDS.get(fold.failure_kind)
    if kind is None or fold.status != "failed" or fold.replied or fold.items:
        return None
    kept_as = f"The response {kept.id} is kept, with status `failed`." if kept.store else "Nothing is kept."
    words = f"{fold.failure.rstrip('.')}. Nothing was answered. {kept_as}"
    answer = refused(deserved(ModelError(words, kind=kind)), request_id=request_id_of(request))
    answer.headers["x-should-retry"] = "false"
    return answer
