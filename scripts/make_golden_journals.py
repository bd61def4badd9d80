"""Write the golden journals that do not exist yet: whole sessions as stored rows, and the state each folds to.

    python scripts/make_golden_journals.py

Each scenario of `golden_scenarios.py` and `golden_doubts.py` becomes `tests/journals/NAME.jsonl` (one stored row a
line: header, payload as it is on disk, digests in hexadecimal) and `tests/journals/NAME.state.json` (the folded state,
canonical, without what is at its default), with `NAME.specs.json`, the versions the session was pinned to by their
digests, which prove its prompts. What is there already is never written again: a journal of an older release must
decode, verify and fold for ever, so a change that would need another file here is a change that needs an upcaster.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from golden_doubts import DOUBTS
from golden_scenarios import KNOWN_SPECS, SCENARIOS
from remanence.core.session import fold
from remanence.core.state import Session
from remanence.events import SessionOpened, SessionUpgraded
from remanence.testing.golden import records_in, rows_of, state_json

JOURNALS = Path(__file__).resolve().parent.parent / "tests" / "journals"


def main() -> int:
    written, scenarios = 0, SCENARIOS | DOUBTS
    for name, make in scenarios.items():
        journal, state = JOURNALS / f"{name}.jsonl", JOURNALS / f"{name}.state.json"
        if journal.exists() or state.exists():
            continue
        rows = rows_of(make())
        records = records_in(rows)
        journal.write_bytes(rows)
        state.write_bytes(state_json(fold(Session(records[-1].session), records)))
        pinned = {e.version for r in records if isinstance(e := r.event, SessionOpened | SessionUpgraded)}
        specs = {version: KNOWN_SPECS[version] for version in sorted(pinned)}
        (JOURNALS / f"{name}.specs.json").write_bytes(msgspec.json.encode(specs, order="sorted") + b"\n")
        print(f"{name}: {len(records)} records")
        written += 1
    print(f"{written} written, {len(scenarios) - written} left as they are")
    return 0


if __name__ == "__main__":
    sys.exit(main())
