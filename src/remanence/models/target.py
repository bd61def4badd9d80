"""Where one model is served, resolved: what the gateway decides and the bridge follows."""

from __future__ import annotations

import msgspec

from remanence.models.configuration import Api
from remanence.models.prices import Prices

__all__ = ["Target"]


class Target(msgspec.Struct, frozen=True):
    """A model at a place. `base_url` empty: the provider's own address. `key_env` names a variable, never holds a key.

    `name` is what the model was asked for by.
    """

    name: str
    model: str
    provider: str = ""
    base_url: str = ""
    api: Api = "chat"
    key_env: str = ""
    prices: Prices | None = None
    context_window: int | None = None
    cache: bool = False
