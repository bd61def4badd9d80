"""What every event is made of."""

from __future__ import annotations

import msgspec

__all__ = ["Fact"]


class Fact(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """Root of the events: the tag is the class name, defaults are not written, unknown fields are not passed over."""
