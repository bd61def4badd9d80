"""Laws of the journal: what was appended is there, in order, whole, chained, and nothing else is."""

from __future__ import annotations

import hashlib
from typing import Any

from msgspec.structs import replace

from remanence.content import Text
from remanence.errors import Conflict, InvalidInput, KeyReused, NotFound, StoreError
from remanence.events import (
    GENESIS,
    InputReceived,
    Redacted,
    SessionAnnotated,
    SessionOpened,
    ToolReturned,
    TurnStarted,
    chain_digest,
    encode_event,
    payload_digest,
)
from remanence.stores.rows import SPILL_BYTES
from remanence.testing.conformance.harness import (
    SECOND,
    T0,
    Harness,
    forked,
    law,
    opened,
    said,
    texts,
    verified,
    write,
)


@law
async def what_is_appended_is_read_back(h: Harness) -> None:
    db = await h.open()
    odd = said('zero \x00, line\n, é, 日本, \U0001f9ed, \\ and "quotes"')
    first = await db.store.append(opened("s", said("one"), odd, actor="ada é"))
    second = await db.store.append(write("s", TurnStarted(1, (2, 3)), at=T0 + 5, actor="worker:w1"))
    records = (*first.records, *second.records)
    assert [r.position for r in records] == [1, 2, 3, 4]
    assert [r.event for r in records[1:]] == [said("one"), odd, TurnStarted(1, (2, 3))]
    assert [(r.at, r.actor, r.epoch) for r in records[2:]] == [(T0, "ada é", 0), (T0 + 5, "worker:w1", 0)]
    assert first.head == 3
    assert not first.replayed
    assert tuple(await db.store.read("s")) == records
    assert (await db.store.load("s")).records == records


@law
async def a_session_that_does_not_exist_is_not_found(h: Harness) -> None:
    db = await h.open()
    await h.refused(NotFound, db.store.append(write("nobody", said("hello"))))
    await h.refused(NotFound, db.store.append(write("nobody", said("hello"), expect=3)))
    await h.refused(NotFound, db.store.load("nobody"))
    await h.refused(NotFound, db.store.read("nobody"))
    await h.refused(NotFound, db.raw("nobody"))
    await h.refused(NotFound, db.views.session("nobody"))


@law
async def a_session_is_opened_once(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", expect=0))
    await h.refused(Conflict, db.store.append(opened("s")))
    await h.refused(Conflict, other.store.append(opened("s", expect=0)))
    await other.store.append(opened("t"))
    await h.refused(Conflict, db.store.append(opened("t", said("late"))))
    assert [len(await db.store.read(name)) for name in ("s", "t")] == [1, 1]


@law
async def a_write_without_events_or_that_cannot_be_stored_is_refused(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await h.refused(InvalidInput, db.store.append(write("s")))
    await h.refused(InvalidInput, db.store.append(write("s", said("\ud800 is half a character"))))
    await h.refused(InvalidInput, db.store.append(write("s", said("x"), actor="a\x00b")))
    await h.refused(InvalidInput, db.store.append(opened("t\ud800")))
    odd: Any
    for odd in (3, None, object(), ["x"], 2**70):  # what nobody could read back
        await h.refused(InvalidInput, db.store.append(write("s", said("fine"), InputReceived("in", (Text(odd),)))))
    await h.refused(InvalidInput, db.store.append(write("s", said("x"), key="k\x00", key_digest="d")))
    assert (await db.store.append(write("s", said("fine")))).head == 2


@law
async def a_decision_is_conditional(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    await h.refused(Conflict, db.store.append(write("s", said("stale"), expect=1)))
    await h.refused(Conflict, db.store.append(write("s", said("ahead"), expect=3)))
    await h.refused(Conflict, db.store.append(write("s", said("zero"), expect=0)))
    assert (await db.store.append(write("s", said("two"), expect=2))).head == 3
    assert await texts(db, "s") == ["one", "two"]


@law
async def a_write_lands_only_on_the_record_it_follows(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    first = (await db.store.append(opened("s", said("one")))).records[-1]
    await other.store.append(write("s", said("faster")))
    stranger = replace(write("s", said("built on what never came"), expect=3), follows=first.digest)
    await h.refused(Conflict, db.store.append(stranger))
    there = (await db.store.read("s"))[-1]
    landed = await db.store.append(replace(write("s", said("two"), expect=3), follows=there.digest))
    again = replace(write("s", said("three"), expect=4), follows=landed.records[-1].digest)
    await h.refused(Conflict, db.store.append(replace(again, follows=there.digest)))
    await db.store.append(again)
    assert await texts(db, "s") == ["one", "faster", "two", "three"]


@law
async def digests_chain_from_the_first_record(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), said("two")))
    await db.store.append(write("s", said("three"), at=T0 + 9, actor="bob"))
    previous = GENESIS
    for record in await db.store.read("s"):
        own = payload_digest(encode_event(record.event))
        header = {"position": record.position, "at": record.at, "epoch": record.epoch, "actor": record.actor}
        previous = chain_digest(previous, own, **header)  # pyright: ignore[reportArgumentType]
        assert record.digest == previous
    assert await verified(db, "s") == 4


@law
async def reading_goes_on_from_any_position(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", *(said(str(n)) for n in range(9))))
    for after, limit, expected in ((0, 3, [1, 2, 3]), (4, 2, [5, 6]), (8, None, [9, 10]), (10, None, []), (99, 5, [])):
        assert [r.position for r in await db.store.read("s", after=after, limit=limit)] == expected
    assert [r.position for r in await db.raw("s", after=3, limit=2)] == [4, 5]


@law
async def the_newest_snapshot_is_loaded_with_what_follows(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    loaded = await db.store.load("s")
    assert (loaded.snapshot, loaded.snapshot_position, len(loaded.records)) == (None, 0, 2)
    await db.store.append(write("s", said("two"), snapshot=b"at three"))
    await db.store.append(write("s", said("three"), snapshot=b"at four"))
    await db.store.append(write("s", said("four")))
    loaded = await db.store.load("s")
    assert (loaded.snapshot, loaded.snapshot_position) == (b"at four", 4)
    assert [r.position for r in loaded.records] == [5]
    assert len(await db.store.read("s")) == 5


@law
async def an_older_snapshot_is_loaded_with_what_follows_up_to_a_position(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one")))
    await db.store.append(write("s", said("two"), snapshot=b"at three"))
    await db.store.append(write("s", said("three"), said("four"), snapshot=b"at five"))
    await db.store.append(write("s", said("five")))
    for upto, state, position, after in (
        (2, None, 0, [1, 2]),
        (3, b"at three", 3, []),
        (4, b"at three", 3, [4]),
        (5, b"at five", 5, []),
        (99, b"at five", 5, [6]),
    ):
        loaded = await other.store.load("s", upto=upto)
        assert (loaded.snapshot, loaded.snapshot_position) == (state, position)
        assert [r.position for r in loaded.records] == after
        assert loaded.summary == (await db.store.load("s")).summary


@law
async def empty_bytes_forget_every_snapshot(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), snapshot=b"at two"))
    await db.store.append(opened("t", snapshot=b"another's"))
    await db.store.append(write("s", said("two"), snapshot=b"at three"))
    await db.store.append(write("s", said("three"), snapshot=b""))
    for upto in (None, 2, 3, 4):
        loaded = await db.store.load("s", upto=upto)
        assert (loaded.snapshot, loaded.snapshot_position, len(loaded.records)) == (None, 0, upto or 4)
    await db.store.append(write("s", said("four"), snapshot=b"at five"))
    assert (await db.store.load("s")).snapshot == b"at five"
    assert (await db.store.load("t")).snapshot == b"another's"


@law
async def snapshots_are_listed_and_dropped_one_by_one(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), snapshot=b"at two"))
    await db.store.append(write("s", said("two"), snapshot=b"at three"))
    await db.store.append(forked("f", "s", 3, snapshot=b"f at four"))
    await db.store.append(write("s", said("three"), snapshot=b"at four"))
    other = await h.open()
    assert list(await other.snapshots("s")) == [(2, b"at two"), (3, b"at three"), (4, b"at four")]
    assert list(await other.snapshots("s", after=2, limit=1)) == [(3, b"at three")]
    assert list(await other.snapshots("f")) == [(4, b"f at four")]
    await db.drop_snapshots("s", [2, 4, 9])
    assert list(await other.snapshots("s")) == [(3, b"at three")]
    loaded = await other.store.load("s")
    assert (loaded.snapshot, loaded.snapshot_position, len(loaded.records)) == (b"at three", 3, 1)
    assert (await other.store.load("f")).snapshot == b"f at four"
    await h.refused(NotFound, db.snapshots("nobody"))
    await h.refused(NotFound, db.drop_snapshots("nobody", [1]))
    await other.clear_snapshots()
    assert [*await db.snapshots("s"), *await db.snapshots("f")] == []
    assert [record.position for record in (await db.store.load("f")).records] == [1, 2, 3, 4]


@law
async def what_is_redacted_takes_along_the_snapshots_that_may_repeat_it(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    await db.store.append(opened("s", said("one"), snapshot=b"at two"))
    await db.store.append(write("s", SessionAnnotated({"name": "Ada"}, {}, "ada"), snapshot=b"at three"))
    await db.store.append(write("s", said("two"), snapshot=b"at four"))
    await db.store.append(forked("early", "s", 2, snapshot=b"early at three"))
    await db.store.append(forked("late", "s", 3, snapshot=b"late at four"))
    await db.store.append(forked("later", "late", 4, snapshot=b"later at five"))
    await other.store.append(write("s", Redacted(2, "ada")))
    assert (await db.store.load("s")).snapshot == b"at four"
    await other.store.append(write("s", Redacted(3, "ada")))
    for session, state, position in (("s", b"at two", 2), ("early", b"early at three", 3), ("later", b"at two", 2)):
        loaded = await db.store.load(session)
        assert (loaded.snapshot, loaded.snapshot_position) == (state, position)


@law
async def what_was_acknowledged_is_there_when_opened_again(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), wake=True, snapshot=b"x", key="k", key_digest="d"))
    before = await db.store.load("s")
    await db.close()
    again = await h.open()
    assert await again.store.load("s") == before
    assert (await again.store.append(opened("s", key="k", key_digest="d"))).replayed
    assert [lease.session for lease in await again.store.claim("w", now=T0, ttl_s=9, limit=9)] == ["s"]


@law
async def a_closed_database_says_so(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s"))
    await db.close()
    await db.close()
    await h.refused(StoreError, db.store.append(write("s", said("late"))))
    await h.refused(StoreError, db.store.read("s"))


# --- idempotency keys -------------------------------------------------------------------------------------------------


@law
async def a_retried_write_is_the_same_write(h: Harness) -> None:
    db, other = await h.open(), await h.open()
    first = await db.store.append(opened("s", said("one"), key="k1", key_digest="body"))
    for each in (db, other):
        # The retry may carry another session id: the first request stands.
        again = await each.store.append(opened("elsewhere", said("one"), key="k1", key_digest="body"))
        assert again.replayed
        assert again.records == first.records
    sent = write("s", said("two"), key="k2", key_digest="body two", expect=2)
    second = await db.store.append(sent)
    assert (await db.store.append(sent)).records == second.records
    await h.refused(NotFound, db.store.read("elsewhere"))
    assert await texts(db, "s") == ["one", "two"]


@law
async def a_key_does_not_serve_two_bodies(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one"), key="k", key_digest="body"))
    await h.refused(KeyReused, db.store.append(write("s", said("two"), key="k", key_digest="another body")))
    await h.refused(Conflict, db.store.append(write("s", said("refused"), expect=99, key="free", key_digest="x")))
    assert not (await db.store.append(write("s", said("three"), key="free", key_digest="y"))).replayed
    assert await texts(db, "s") == ["one", "three"]


@law
async def keys_are_forgotten_when_they_are_old(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", key="old", key_digest="d"))
    await db.store.append(write("s", said("one"), key="young", key_digest="d", at=T0 + 90 * SECOND))
    assert await db.prune_keys(before=T0 + SECOND) == 1
    assert (await db.store.append(write("s", said("one"), key="young", key_digest="d"))).replayed
    assert not (await db.store.append(write("s", said("two"), key="old", key_digest="d"))).replayed


# --- large payloads ---------------------------------------------------------------------------------------------------


def _sized(size: int) -> InputReceived:
    """An event whose payload has exactly this many bytes."""
    empty = len(encode_event(InputReceived("big", (Text(""),))))
    return InputReceived("big", (Text("x" * (size - empty)),))


@law
async def a_large_payload_lies_beside_the_journal_and_nobody_notices(h: Harness) -> None:
    db = await h.open()
    exact, large = _sized(SPILL_BYTES), _sized(SPILL_BYTES + 1)
    appended = await db.store.append(opened("s", exact, large, large))
    assert [r.event for r in appended.records[1:]] == [exact, large, large]
    assert tuple(await db.store.read("s")) == appended.records
    assert (await db.store.load("s")).records == appended.records
    raw = await db.raw("s")
    assert [r.payload for r in raw[1:]] == [encode_event(event) for event in (exact, large, large)]
    assert [(r.kind, r.payload_digest) for r in raw[1:]] == [("InputReceived", None)] * 3
    assert await db.blobs.get(hashlib.sha256(encode_event(large)).hexdigest()) == encode_event(large)
    await h.refused(NotFound, db.blobs.get(hashlib.sha256(encode_event(exact)).hexdigest()))
    assert await verified(db, "s") == 4


# --- redaction --------------------------------------------------------------------------------------------------------


@law
async def redaction_takes_the_content_and_leaves_the_chain(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("a secret", "in-1"), said("kept")))
    digests = [r.digest for r in await db.store.read("s")]
    appended = await db.store.append(write("s", Redacted(2, "ada", "asked to")))
    assert appended.records[0].event == Redacted(2, "ada", "asked to")
    records = await db.store.read("s")
    assert records[1].redacted
    assert [r.redacted for r in records] == [False, True, False, False]
    assert records[1].event == InputReceived("in-1", (Text("[redacted]"),))
    assert [r.digest for r in records[:3]] == digests
    raw = (await db.raw("s"))[1]
    assert raw.payload_digest == payload_digest(encode_event(said("a secret", "in-1")))
    assert b"secret" not in raw.payload
    assert await verified(db, "s") == 4
    await db.store.append(write("s", Redacted(2, "ada", "again"), Redacted(4, "ada")))
    assert (await db.raw("s"))[1] == raw
    assert await verified(db, "s") == 6


@law
async def redaction_reaches_the_blobs_nobody_else_needs(h: Harness) -> None:
    db = await h.open()
    large = _sized(SPILL_BYTES + 100)
    spilled = hashlib.sha256(encode_event(large)).hexdigest()
    whole, shared = await db.blobs.put(b"the whole result"), await db.blobs.put(b"somebody else's as well")
    await db.store.append(opened("s", large, ToolReturned("c1", (), blob=whole), ToolReturned("c2", (), blob=shared)))
    await db.store.append(opened("t", ToolReturned("c3", (), blob=shared)))
    await db.store.append(write("s", Redacted(2, "ada"), Redacted(3, "ada"), Redacted(4, "ada")))
    await h.refused(NotFound, db.blobs.get(spilled))
    await h.refused(NotFound, db.blobs.get(whole))
    assert await db.blobs.get(shared) == b"somebody else's as well"
    assert (await db.store.read("s"))[3].event == ToolReturned("c2", ())
    assert await verified(db, "s") == 7
    await db.store.append(write("t", Redacted(2, "ada")))
    await h.refused(NotFound, db.blobs.get(shared))


@law
async def only_a_record_that_is_there_can_be_redacted(h: Harness) -> None:
    db = await h.open()
    await db.store.append(opened("s", said("one")))
    for position in (0, -1, 3, 99):
        await h.refused(InvalidInput, db.store.append(write("s", said("not kept"), Redacted(position, "ada"))))
    assert await texts(db, "s") == ["one"]
    opening = (await db.store.append(write("s", Redacted(1, "ada")))).records
    assert len(opening) == 1
    event = (await db.store.read("s"))[0].event
    assert isinstance(event, SessionOpened)
    assert (event.agent, event.title) == ("scribe", "[redacted]")
