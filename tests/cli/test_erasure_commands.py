"""`memory erase` and what belongs to it, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

from cli_project import Run, begun

SAID = "my locker opens with the number nineteen-eighty-quokka"


def test_erase_and_prove(project: Path, cli: Run) -> None:
    session = begun(cli, SAID)
    assert cli("memory", "hold", "user:ada", "--reason", "case 12").out.startswith("Nothing under user:ada is erased")
    refused = cli("memory", "erase", "session", session, "--reason", "asked to", "--yes")
    assert refused.code == 4
    assert "A legal hold stands over user:ada, by" in refused.err
    assert "Nothing was erased. Lift it first: remanence memory unhold user:ada" in refused.err
    assert "case 12" in cli("memory", "holds").out
    assert cli("memory", "unhold", "user:ada").out.strip() == "user:ada may be erased again."
    assert cli("memory", "unhold", "user:ada").code == 3

    ran = cli("memory", "erase", "session", session, "--reason", "asked to", "--yes", "--receipt", "receipt.json")
    assert ran.out.startswith("Erased ")
    assert "Not reached: bundles, copies and backups made before this moment." in ran.err
    assert "quokka" not in Path("receipt.json").read_text(encoding="utf-8")
    assert "quokka" not in cli("sessions", "tail", session).out
    proven = cli("memory", "verify-erasure", "receipt.json")
    assert (proven.code, proven.out.count("holds "), "FAILS" in proven.out) == (0, 4, False)
    order = cli("memory", "receipts", "-o", "json").json[0]["order"]
    assert (order["what"], order["name"], order["reason"]) == ("session", session, "asked to")
    assert cli("memory", "verify-erasure", order["id"]).code == 0
    assert cli("sessions", "verify", session).code == 0

    again = cli("memory", "erase", "session", session, "--reason", "asked to", "--yes")
    assert (again.code, "with anything to erase. Nothing was changed." in again.err) == (3, True)


def test_one_memory_is_redacted(project: Path, cli: Run) -> None:
    cli("agents", "push")
    kept = [
        cli("memory", "keep", text, "--scope", "user:ada", "-o", "json").json["memory"] for text in (SAID, "Hello.")
    ]
    unsure = cli("memory", "redact", kept[0], "--reason", "asked to", text="n\n")
    assert (unsure.code, "Nothing was erased" in unsure.err) == (2, True)
    receipt = cli("memory", "redact", kept[0], "--reason", "asked to", "--yes", "-o", "json").json
    assert (receipt["order"]["what"], receipt["order"]["name"]) == ("memory", kept[0])
    assert cli("memory", "show", kept[0]).code == 3
    assert cli("memory", "show", kept[1]).code == 0
    assert cli("memory", "verify-erasure", receipt["order"]["id"]).code == 0
    assert cli("memory", "redact", kept[0], "--reason", "asked to", "--yes").code == 3


def test_what_is_no_receipt(project: Path, cli: Run) -> None:
    session = begun(cli, SAID)
    Path("notes.txt").write_text("hello", encoding="utf-8")
    ran = cli("memory", "verify-erasure", "notes.txt")
    assert (ran.code, "This is not a receipt of an erasure" in ran.err) == (2, True)
    assert cli("memory", "verify-erasure", "nowhere").code == 3
    assert cli("memory", "hold", "everybody", "--reason", "x").code == 2
    cli("memory", "erase", "session", session, "--reason", "asked to", "--yes", "--receipt", "receipt.json")
    forged = json.loads(Path("receipt.json").read_text(encoding="utf-8"))
    forged["order"]["by"] = "somebody else"
    Path("forged.json").write_text(json.dumps(forged), encoding="utf-8")
    ran = cli("memory", "verify-erasure", "forged.json")
    assert (ran.code, "the receipt is not as it was signed" in ran.out) == (1, True)
