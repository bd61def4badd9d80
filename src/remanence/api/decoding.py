"""JSON that comes in, read by everybody in one way.

The decoder reads a thousand levels. What is made of a request afterwards (its answer, the schemas it is validated
with, what providers are sent) is handled by libraries that each give up at a depth of their own; so a depth that nobody
needs is refused here, while nothing has been done.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

__all__ = ["DEPTH_MAX", "decoded"]

DEPTH_MAX = 100


def decoded(content: bytes | str) -> Any:
    """What JSON says. Raises msgspec.DecodeError, UnicodeError, and RecursionError where it is nested too deeply."""
    found = msgspec.json.decode(content)
    data = content.encode() if isinstance(content, str) else content
    if data.count(b"{") + data.count(b"[") > DEPTH_MAX and _deeper(found, DEPTH_MAX):
        raise RecursionError(f"more than {DEPTH_MAX} levels")
    return found


def _deeper(found: Any, most: int) -> bool:
    """Whether there are more levels of objects and lists than this."""
    level: list[Any] = [found]
    for _ in range(most):
        level = [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(one: Any) -> Any:
    if isinstance(one, dict):
        return cast("dict[str, Any]", one).values()
    return cast("list[Any]", one)
