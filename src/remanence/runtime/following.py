"""A session as its driver knows it: folded from the journal, and kept up with it.

A record that was committed in this process is told; what others wrote is read, after a nudge that something changed. A
write that is about to be queued may be taken up before it is there (`foresight.py`). When a write of the driver is
refused, or its outcome is unknown, all that was folded is forgotten and read again. So it is after an erasure: what was
erased is still in the messages at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

from remanence.core.context import Transcript
from remanence.core.session import evolve, fold
from remanence.core.snapshots import SNAPSHOT_EVERY_RECORDS, decode_snapshot, encode_snapshot
from remanence.core.state import Session, status_of, waiting_on
from remanence.core.summary import summary_of
from remanence.events import CompactionBegun, ModelCalled, Recorded, Redacted, ToolStarted
from remanence.ports import Database, Lease, Summary, Write
from remanence.runtime.foresight import foreseen
from remanence.runtime.plan import Plan
from remanence.runtime.recall import read_transcript, understand
from remanence.spec import AgentSpec

__all__ = ["Followed"]

INTENTS = (ModelCalled, ToolStarted, CompactionBegun)


class Followed:
    """The state of a session, the version it runs and what was said in its window, as far as the journal was read."""

    def __init__(self, database: Database, session: str) -> None:
        self.state = Session(session)
        self.spec = AgentSpec("", "")
        self.version = ""
        self.text = Transcript()
        self.news: list[Recorded] = []
        self.foreseen: Recorded | None = None
        self._database = database
        self._session = session
        self._loaded = False
        self._stale = False
        self._erased = False
        self._digest = b""
        self._snapshot_at = 0
        self._summary: Summary | None = None

    # --- what is heard of it ------------------------------------------------------------------------------------------

    def tell(self, record: Recorded) -> bool:
        """A record was committed in this process. Returns whether it is news."""
        is_news = record.position > self.state.head
        if is_news:
            self.news.append(record)
        return is_news

    def foresee(self, write: Write) -> bool:
        """A write is about to be queued in this process. Returns whether the session begins with it already."""
        if self.news or self.foreseen is not None:
            return False
        self.foreseen = foreseen(self.state, self.spec, self._digest, write)
        return self.foreseen is not None

    def nudge(self) -> None:
        """Something changed elsewhere: look at the journal with the next round."""
        self._stale = True

    def forget(self) -> None:
        """Read all of it again with the next round."""
        self._loaded = False
        self.foreseen = None

    @property
    def stirs(self) -> bool:
        """Whether there is something to take in with the next round."""
        return bool(self.news) or self.foreseen is not None or self._stale

    # --- what is written to it ----------------------------------------------------------------------------------------

    def write_of(self, plan: Plan, lease: Lease, actor: str) -> Write:
        """The write that journals a plan, if nobody wrote since; between turns it takes a snapshot along."""
        s = plan.state
        full = s.turn is None and s.head - self._snapshot_at >= SNAPSHOT_EVERY_RECORDS
        return Write(
            session=s.id,
            events=plan.events,
            at=s.at,
            actor=actor,
            expect=self.state.head,
            follows=self.foreseen.digest if self.foreseen else None,
            lease=lease,
            effects=any(isinstance(event, INTENTS) for event in plan.events),
            charges=plan.charges,
            summary=self._changed_summary(s),
            snapshot=encode_snapshot(s) if full else None,
        )

    def landed(self, s: Session, write: Write, digest: bytes) -> None:
        """The write is durable: the session is in this state, and its newest record has this digest."""
        self.state, self._digest, self.foreseen = s, digest, None
        self._summary = write.summary or self._summary
        if write.snapshot is not None:
            self._snapshot_at = s.head

    def _changed_summary(self, s: Session) -> Summary | None:
        """The row's summary when it says something new: a status, or the totals of a finished turn."""
        old = self._summary
        if old is not None and (old.status, old.waiting_on, old.turns) == (status_of(s), waiting_on(s), s.turns):
            return None
        return summary_of(s, self.spec)

    # --- what is read of it -------------------------------------------------------------------------------------------

    async def absorb(self) -> None:
        """Take in what came since the last time. Raises NotFound, StoreError."""
        if not self._loaded:
            await self._load()
            return
        await self._take_all(self._fresh())
        if self._stale:
            self._stale = False
            await self._take_all(await self._database.store.read(self._session, after=self.state.head))
        if self._erased:
            await self._load()
        if self.state.version != self.version:
            await self._load_spec()

    def _fresh(self) -> list[Recorded]:
        """What was told, or foreseen as long as nothing else came. A gap is a reason to look at the journal."""
        news, self.news = self.news, []
        if self.foreseen is not None:
            if not news and not self._stale and self.foreseen.position == self.state.head + 1:
                return [self.foreseen]
            self.foreseen = None
        return news

    async def _take_all(self, records: Sequence[Recorded]) -> None:
        if records:
            await understand(self._database.store, self.text, records)
        for record in records:
            if record.position == self.state.head + 1:
                self._take(record)
            elif record.position > self.state.head:
                self._stale = True

    def _take(self, record: Recorded) -> None:
        self._erased = self._erased or isinstance(record.event, Redacted)
        if not record.epoch:
            self._summary = None  # what a person did may have changed the row
        self.state, self._digest = evolve(self.state, record), record.digest
        self.text.add(record)

    async def _load(self) -> None:
        store, session = self._database.store, self._session
        self.news.clear()
        self._stale = self._erased = False
        loaded = await store.load(session)
        s = decode_snapshot(loaded.snapshot, session, loaded.snapshot_position)
        records = loaded.records
        self._snapshot_at = loaded.snapshot_position if s is not None else 0
        if s is None:
            s = Session(session)
            records = await store.read(session) if loaded.snapshot_position else records
        self.state = fold(s, records)
        await self._load_spec()
        self.text = await read_transcript(store, self.state, self.spec.model)
        self._summary = loaded.summary
        self._digest = records[-1].digest if records else b""
        self._loaded = True

    async def _load_spec(self) -> None:
        if self.version != self.state.version:
            self.spec = await self._database.specs.get(self.state.version)
            self.version = self.state.version
