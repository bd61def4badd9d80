"""What the parameters of a request for a response come to: the spec that answers it, and the echo it is shown with.

A conversation asks with the same parameters again and again. What they come to is remembered by those parameters as
they would be written, so that a request that says nothing new costs one look into a table. Only what is said about one
request alone (its input, who asks, its metadata) is left out of that.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace

from remanence.api.named import Named
from remanence.api.responses.input import Spoken
from remanence.api.responses.request import Echo, ResponseBody, echo_of
from remanence.api.responses.spec import spec_for
from remanence.spec import AgentSpec

__all__ = ["meaning_of"]

_OF_ONE_REQUEST = {
    "background",
    "conversation",
    "input",
    "metadata",
    "previous_response_id",
    "safety_identifier",
    "store",
    "stream",
    "stream_options",
    "user",
}
"""What neither the spec nor the rest of the echo depends on."""
_CHARS_MAX = 16_384
"""Of parameters that are remembered."""


def meaning_of(
    body: ResponseBody, model: str, found: str, spoken: tuple[Spoken, ...], *, context_window: int | None = None
) -> tuple[AgentSpec, Echo]:
    """The spec and the echo of a request to a model, without MCP servers. `model` is the name it was asked by, `found`
    the model's own. Raises InvalidInput with the path of what cannot be honoured."""
    said = body.model_dump_json(by_alias=True, exclude_unset=True, exclude=_OF_ONE_REQUEST)
    texts = sum(len(one.text) for one in spoken)
    come_to = _come_to if len(said) + texts <= _CHARS_MAX else _come_to.__wrapped__
    spec, echo = come_to(said, model, found, spoken, context_window)
    return spec, replace(echo, metadata=body.metadata or {}, user=body.user, safety_identifier=body.safety_identifier)


@lru_cache(maxsize=512)
def _come_to(
    said: str, model: str, found: str, spoken: tuple[Spoken, ...], context_window: int | None
) -> tuple[AgentSpec, Echo]:
    body = ResponseBody.model_validate_json(said)
    return spec_for(body, Named(found), spoken, context_window=context_window), echo_of(body, model)
