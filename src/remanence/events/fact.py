"""What every event is made of.

A process that takes a session over reads thousands of events at once. They hold what was read from JSON and never one
another in a circle, so the garbage collector need not know them (`gc=False`, here and in `content`): with it, reading a
window of 2,600 records took 24 ms instead of 8, since it looked through every module again and again meanwhile.
"""

from __future__ import annotations

import msgspec

__all__ = ["Fact"]


class Fact(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """Root of the events: the tag is the class name, defaults are not written, unknown fields are not passed over."""
