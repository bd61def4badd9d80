"""More sessions behind the golden journals: doubts about which a `reconcile` was asked more than once."""

from __future__ import annotations

from msgspec.structs import replace

from golden_scenarios import lost_in_transfer, run
from remanence.core.state import Doubt, said
from remanence.events import Recorded, ToolLost, ToolResolved
from remanence.testing.journals import Script, dialogue, heard, wants
from remanence.testing.simulation import BEGINS_AT

__all__ = ["DOUBTS"]


def asked_again(*dates: int | None) -> list[Recorded]:
    """`reconcile` fails once for each date; it is asked again then, or no more (None)."""

    def reconcile(doubt: Doubt, happened: bool) -> ToolLost | ToolResolved | None:
        if doubt.asked < len(dates):
            why, date = "the bank does not answer", dates[doubt.asked]
            return ToolLost(doubt.call, doubt.effect_key, doubt.tool, why, doubt.asked + 1, date)
        return ToolResolved(doubt.call, "happened", "reconcile", said("transferred")) if dates[-1] else None

    script = Script(dialogue([[wants("transfer", cents=900)], ["Done."]]), inputs=(heard("Transfer it", name="in_1"),))
    return run(replace(script, tool=lost_in_transfer, reconcile=reconcile))


DOUBTS = {
    "doubt_asked_again": lambda: asked_again(BEGINS_AT + 5_000_000, BEGINS_AT + 15_000_000),
    "doubt_asked_in_vain": lambda: asked_again(BEGINS_AT + 5_000_000, None),
}
