"""What the index of the memory says, when it has to be sure to know.

The index follows the journals, a moment behind them; while it is made again it is far behind: what it does not say may
still be so, and the version it calls the newest may be an old one. Whoever is about to change a memory, or does not
find one, has the index brought up to the journals first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from remanence.errors import NotFound, StoreUnavailable
from remanence.ports import Memories

__all__ = ["FOLLOW_S", "Follow", "found_at_last", "of_one_index"]

FOLLOW_S: Final = 10.0
"""How long somebody waits for the index at most."""

Found = TypeVar("Found")
Look = Callable[[], Awaitable[Found]]


class Follow(Protocol):
    """Brings the index up to the journals, in so many seconds at most, and says whether it came that far.

    Once it has, since it was begun anew, it is a moment behind at most, and nobody needs to wait but for what is
    `newest`: what others have written just now.
    """

    async def __call__(self, for_s: float, *, newest: bool = False) -> bool: ...


async def found_at_last(memories: Memories, follow: Follow | None, look: Look[Found]) -> Found:
    """What a look at the index finds, which raises NotFound; then once more when the index knows everything.

    Raises NotFound, StoreUnavailable when the index is too far behind to say.
    """
    try:
        return await look()
    except NotFound:
        return await of_one_index(memories, follow, look, newest=True)


async def of_one_index(memories: Memories, follow: Follow | None, look: Look[Found], *, newest: bool = False) -> Found:
    """What is found in an index that is not behind by more than a moment, and that nobody begins anew meanwhile.

    The look may be repeated. Raises StoreUnavailable when the index is too far behind, and what the last look raises.
    """
    while True:
        begun = await memories.begun()
        if follow is not None and not await follow(FOLLOW_S, newest=newest):
            raise StoreUnavailable(
                "The index of the memory is being made from the journals, and is not far enough to tell. Nothing was "
                "changed. It goes on by itself; try again in a minute."
            )
        try:
            found = await look()
        except Exception:  # whatever it was, it may be because of that
            if begun == await memories.begun():
                raise
        else:
            if begun == await memories.begun():
                return found
