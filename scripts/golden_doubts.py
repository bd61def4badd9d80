"""More sessions behind the golden journals: doubts about which a `reconcile` was asked more than once."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from golden_scenarios import begun, lost_in_transfer, run
from remanence.core.state import Doubt, said
from remanence.events import Recorded, ToolLost, ToolResolved
from remanence.testing.journals import Script, dialogue, heard, wants
from remanence.testing.simulation import BEGINS_AT

__all__ = ["DOUBTS"]


def transferring(*dates: int | None) -> Script:
    """`reconcile` fails once for each date; it is asked again then, or no more (None)."""

    def reconcile(doubt: Doubt, happened: bool) -> ToolLost | ToolResolved | None:
        if doubt.asked < len(dates):
            why, date = "the bank does not answer", dates[doubt.asked]
            return ToolLost(doubt.call, doubt.effect_key, doubt.tool, why, doubt.asked + 1, date)
        return ToolResolved(doubt.call, "happened", "reconcile", said("transferred")) if dates[-1] else None

    script = Script(dialogue([[wants("transfer", cents=900)], ["Done."]]), inputs=(heard("Transfer it", name="in_1"),))
    return replace(script, tool=lost_in_transfer, reconcile=reconcile)


SOON, LATER, MUCH_LATER = BEGINS_AT + 5_000_000, BEGINS_AT + 15_000_000, BEGINS_AT + 60_000_000
DOUBTS: dict[str, Callable[[], list[Recorded]]] = {
    "doubt_asked_again": lambda: run(transferring(SOON, LATER)),
    "doubt_asked_in_vain": lambda: run(transferring(SOON, None)),
    "doubt_that_will_be_asked_again": lambda: begun(transferring(MUCH_LATER), 5).records,
}
