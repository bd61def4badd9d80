"""Files that are not whole and unchanged exports: refused with a sentence that says what, and nothing is written."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from moving import World, erase, rewritten, runtime

from remanence.commands.sessions import Opening
from remanence.commands.transfer import export_session, import_session, verify_session
from remanence.errors import InvalidInput, NotFound, UnknownEvent
from remanence.ports import RawRecord, SessionQuery

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with a spilled payload, a blob, an erased record and a fork."""
    import asyncio

    folder = tmp_path_factory.mktemp("bundle")

    async def make() -> None:
        async with runtime(f"sqlite:///{folder}/a.db", World()) as rt:
            session = await rt.open("support", opening=Opening(session="root"))
            await session.send("a message " + "x" * 70_000)
            await session.send("report")
            fork = await session.fork()
            await fork.send("refund 900")
            await erase(rt, "root", 2)
            await export_session(rt.caller, fork.id, folder / "s.zip")

    asyncio.run(make())
    return folder / "s.zip"


@pytest.fixture(scope="module")
def content(bundle: Path) -> bytes:
    return bundle.read_bytes()


async def refused(tmp_path: Path, path: Path) -> InvalidInput:
    """The error of an import that must leave the database empty."""
    async with runtime(f"sqlite:///{tmp_path}/target.db", World(), worker=False) as rt:
        with pytest.raises(InvalidInput) as caught:
            await import_session(rt.caller, path)
        assert not await rt.database.views.sessions(SessionQuery())
        stats = await rt.database.views.stats()
        assert (stats["records"], stats["blobs"]) == (0, 0)
    assert "Nothing was written" in caught.value.message
    return caught.value


def lines(members: dict[str, bytes]) -> list[dict[str, object]]:
    return [json.loads(line) for line in members["journal.jsonl"].splitlines()]


def with_lines(members: dict[str, bytes], changed: list[dict[str, object]]) -> None:
    """The journal replaced, and the manifest made to agree: somebody who knows the format."""
    import hashlib

    content = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in changed)
    members["journal.jsonl"] = content
    manifest = json.loads(members["manifest.json"])
    manifest["members"]["journal.jsonl"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    members["manifest.json"] = json.dumps(manifest).encode()


def line_change(change: Callable[[list[dict[str, object]]], None]) -> Change:
    def apply(members: dict[str, bytes]) -> None:
        journal = lines(members)
        change(journal)
        with_lines(members, journal)

    return apply


def manifest_change(**fields: object) -> Change:
    def apply(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest.update(fields)
        members["manifest.json"] = json.dumps(manifest).encode()

    return apply


def drop(prefix: str, *, also_from_manifest: bool = False) -> Change:
    def apply(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.startswith(prefix))
        del members[name]
        if also_from_manifest:
            manifest = json.loads(members["manifest.json"])
            del manifest["members"][name]
            members["manifest.json"] = json.dumps(manifest).encode()

    return apply


def swap(journal: list[dict[str, object]]) -> None:
    journal[4], journal[5] = journal[5], journal[4]


def edit_words(journal: list[dict[str, object]]) -> None:
    line = next(line for line in journal if "refund 900" in str(line.get("event")))
    line["event"] = json.loads(json.dumps(line["event"]).replace("refund 900", "refund 100"))


def forge_erasure(journal: list[dict[str, object]]) -> None:
    """Words put in place of others, with the digest of the real ones: the chain alone would not notice."""
    import hashlib

    line = next(line for line in journal if "refund 900" in str(line.get("event")))
    raw = json.dumps(line["event"], separators=(",", ":"))
    line["erased"] = hashlib.sha256(raw.encode()).hexdigest()
    line["event"] = json.loads(raw.replace("refund 900", "refund 100"))


CASES: dict[str, tuple[Change, str]] = {
    "newer format": (manifest_change(format_version=2), "newer release, in format 2"),
    "another thing": (manifest_change(format="holiday-pictures"), "says 'holiday-pictures'"),
    "no shape": (manifest_change(lineage="?"), "does not have the shape"),
    "manifest not json": (lambda m: m.update({"manifest.json": b"{"}), "manifest.json that is not readable"),
    "no manifest": (drop("manifest.json"), "has no manifest.json"),
    "another head": (manifest_change(head=3), "record"),
    "another digest": (manifest_change(head_digest="00" * 32), "does not end with the digest"),
    "an erasure nobody made": (manifest_change(erased_elsewhere=[2, 7]), "tells of an erasure"),
    "an erasure nobody journaled": (manifest_change(erased_elsewhere=[]), "record 2 is not as it was written"),
    "a journal less": (drop("journal.jsonl"), "lacks its member 'journal.jsonl'"),
    "a blob less": (drop("blobs/"), "lacks its member 'blobs/"),
    "a blob less, agreed": (drop("blobs/", also_from_manifest=True), "lacks.*blobs/"),
    "a version less": (drop("specs/"), "lacks its member 'specs/"),
    "a version less, agreed": (drop("specs/", also_from_manifest=True), "a version that its journal pins"),
    "a member more": (lambda m: m.update({"run.sh": b"#!"}), "holds 'run.sh', which its manifest.json does not know"),
    "a blob changed": (
        lambda m: m.update({next(n for n in m if n.startswith("blobs/")): b"?"}),
        "member 'blobs/.*the file was changed",
    ),
    "records swapped": (line_change(swap), "record 5 is not as it was written"),
    "a record dropped": (line_change(lambda j: j.__delitem__(5)), "record 6 is not as it was written: it is missing"),
    "the last record dropped": (line_change(lambda j: j.__delitem__(-1)), "it is missing"),
    "words edited": (line_change(edit_words), "its digest does not fit"),
    "an erasure forged": (line_change(forge_erasure), "what is left is not a skeleton"),
    "half a line": (
        lambda m: m.update({"journal.jsonl": m["journal.jsonl"][:-9]}),
        "member 'journal.jsonl' of .* bytes where its manifest.json says",
    ),
    "not a record": (line_change(lambda j: j.__setitem__(3, {"hello": 1})), "line 4 of journal.jsonl"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_changed_export_is_refused(case: str, bundle: Path, tmp_path: Path) -> None:
    change, says = CASES[case]
    error = await refused(tmp_path, rewritten(bundle, tmp_path / "changed.zip", change))
    assert re.search(says, error.message, re.DOTALL), error.message


async def test_a_version_of_another_content_is_refused(bundle: Path, tmp_path: Path) -> None:
    import hashlib

    def looser(members: dict[str, bytes]) -> None:
        """The rule that asks is taken out of the agent, and the manifest made to agree."""
        name = next(name for name in members if name.startswith("specs/"))
        spec = json.loads(members[name])
        spec["rules"] = []
        members[name] = json.dumps(spec).encode()
        manifest = json.loads(members["manifest.json"])
        manifest["members"][name] = {
            "size": len(members[name]),
            "sha256": hashlib.sha256(members[name]).hexdigest(),
        }
        members["manifest.json"] = json.dumps(manifest).encode()

    error = await refused(tmp_path, rewritten(bundle, tmp_path / "changed.zip", looser))
    assert "is not the version it claims to be" in error.message


async def test_an_event_of_a_newer_release_is_refused_by_its_name(bundle: Path, tmp_path: Path) -> None:
    """A journal whose chain is right, with a kind this release has never heard of."""
    from remanence.events import chain_digest, payload_digest

    def dream(members: dict[str, bytes]) -> None:
        journal = lines(members)
        last = journal[-1]
        payload = b'{"type":"DreamDreamt","about":"sheep"}'
        position = len(journal) + 1
        digest = chain_digest(
            bytes.fromhex(str(last["digest"])), payload_digest(payload), position=position, at=1, epoch=0, actor="ada"
        )
        journal.append(
            {"position": position, "at": 1, "epoch": 0, "actor": "ada", "digest": digest.hex()}
            | {"event": json.loads(payload)}
        )
        with_lines(members, journal)
        manifest_change(head=position, head_digest=digest.hex())(members)

    error = await refused(tmp_path, rewritten(bundle, tmp_path / "changed.zip", dream))
    assert isinstance(error, UnknownEvent)
    assert "'DreamDreamt' (record" in error.message
    assert "import it with that release" in error.message


@pytest.mark.parametrize("kept", [0, 1, 30, 0.3, 0.9, -1])
async def test_a_file_cut_short_is_refused(kept: float, content: bytes, tmp_path: Path) -> None:
    size = int(len(content) * kept) if isinstance(kept, float) else kept
    cut = tmp_path / "cut.zip"
    cut.write_bytes(content[:size])
    error = await refused(tmp_path, cut)
    assert "cut.zip is not a session that Remanence exported" in error.message
    assert "Export the session again" in error.message


async def test_what_is_no_export_at_all_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("Dear diary")
    assert "notes.txt is not a session" in (await refused(tmp_path, text)).message
    other = tmp_path / "pictures.zip"
    with zipfile.ZipFile(other, "w") as pictures:
        pictures.writestr("beach.jpg", b"\xff\xd8")
    assert "it has no manifest.json" in (await refused(tmp_path, other)).message
    assert "cannot be used" in (await refused_reading(tmp_path)).message


async def refused_reading(tmp_path: Path) -> InvalidInput:
    async with runtime(f"sqlite:///{tmp_path}/target.db", World(), worker=False) as rt:
        with pytest.raises(InvalidInput) as caught:
            await import_session(rt.caller, tmp_path)
    return caught.value


async def test_any_byte_may_flip(bundle: Path, content: bytes, tmp_path: Path) -> None:
    """200 bytes anywhere in the file, one at a time: either the import is refused and nothing is written, or what is
    there is, record for record, what was exported (the byte was of a date or of padding)."""
    dice = random.Random(7)
    flipped = tmp_path / "flipped.zip"
    counted = {"refused": 0, "the same": 0}
    async with runtime(f"sqlite:///{tmp_path}/target.db", World(), worker=False) as rt:
        await import_session(rt.caller, bundle, as_session="right")
        right = list(map(unplaced, await rt.database.raw("right")))[:-1]
        for number in range(200):
            at = dice.randrange(len(content))
            flipped.write_bytes(content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :])
            name = f"s{number}"
            try:
                await import_session(rt.caller, flipped, as_session=name)
            except InvalidInput:
                counted["refused"] += 1
                with pytest.raises(NotFound):
                    await rt.database.views.session(name)
                continue
            counted["the same"] += 1
            assert list(map(unplaced, await rt.database.raw(name)))[:-1] == right, f"byte {at}"
            assert (await verify_session(rt.caller, name)).intact
    assert counted["refused"] > 150


def unplaced(row: RawRecord) -> tuple[object, ...]:
    return (row.position, row.at, row.actor, row.payload, row.digest, row.payload_digest)
