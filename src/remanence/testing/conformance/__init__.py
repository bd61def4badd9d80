"""The contract of a store: every law of `remanence.ports`, as functions a test run calls once per backend.

A backend proves itself with a few lines (see `tests/stores/` in the source of Remanence):

    @pytest.mark.parametrize("law", LAWS, ids=name_of)
    async def test_law(law, tmp_path):
        async with Harness(lambda: open_mine(tmp_path / "db")) as harness:
            await law(harness)

    def test_random_writes(tmp_path):
        check_random_writes(lambda: open_mine(tmp_path / "db"))

The opener is called several times by some laws: each call opens the same storage once more, as another process would.
"""

from __future__ import annotations

from remanence.testing.conformance import (  # importing them collects their laws
    control_laws,
    fork_laws,
    journal_laws,
    lease_laws,
    memory_laws,
    name_laws,
    race_laws,
    registry_laws,
    screen_laws,
    view_laws,
)
from remanence.testing.conformance.harness import LAWS, Harness, Law, name_of
from remanence.testing.conformance.random_writes import check_random_writes

__all__ = [
    "LAWS",
    "Harness",
    "Law",
    "check_random_writes",
    "control_laws",
    "fork_laws",
    "journal_laws",
    "lease_laws",
    "memory_laws",
    "name_laws",
    "name_of",
    "race_laws",
    "registry_laws",
    "screen_laws",
    "view_laws",
]
