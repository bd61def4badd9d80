"""How far an erasure reaches: from what an order names to every record and memory that must go with it.

The reach grows until nothing is added any more. From a record it goes on to notes that were learned from it, summaries
that cover it and what a recall says about it; from a memory, to the records its versions stand in, the record each was
learned from, and what the same person's sessions repeat of its text. Last come quotations: what agents and tools say
again, in the same person's sessions, of what people and tools said. Names are looked for in every journal: who acted,
and which block was shown (`pseudonyms.py`). Only what is still there is found: a look after an erasure finds what was
written meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from msgspec.structs import replace

from remanence.commands.caller import Caller
from remanence.commands.pseudonyms import Pseudonyms
from remanence.commands.quotes import Trail, take_quotes, user_of
from remanence.commands.receipts import Order
from remanence.commands.traces import Tracer, texts_of
from remanence.commands.unread import unread_notes
from remanence.core.memory.journal import owner_of
from remanence.errors import NotFound
from remanence.events import (
    BlocksShown,
    CompactionFailed,
    ContextCompacted,
    InputReceived,
    MemoryKept,
    MemoryRecalled,
    Recorded,
    Redacted,
    SessionForked,
    TurnStarted,
)
from remanence.ports import SessionQuery, SessionRow
from remanence.recollections import Memory, MemoryListing
from remanence.stores.reading import pages_of
from remanence.stores.refusals import no_session

__all__ = ["Reach"]

_PAGE = 200
_FEW = 20
_ALL = 2**31 - 1

Place = tuple[str, int]
"""A session and a position."""


class Reach:
    """What one order reaches. `erased` is what it had reached before, and erased; so are `memories`."""

    def __init__(
        self,
        caller: Caller,
        order: Order,
        tracer: Tracer,
        erased: Iterable[Place] = (),
        trail: Trail | None = None,
        memories: Iterable[str] = (),
    ) -> None:
        self._database = caller.database
        self._order = order
        self._tracer = tracer
        self._erased = frozenset(erased)
        self._before = tuple(memories)
        self._unread: dict[str, list[Memory]] = {}
        """Versions of notes that the index does not know yet, by their ids."""
        self._rows: dict[str, SessionRow] = {}
        self.learned: dict[Place, Place] = {}
        """What versions of notes were learned from, by where they stand: earlier looks may have seen it."""
        self._gone: tuple[frozenset[Place], dict[str, list[int]]] | None = None
        """What was gone at the last look at it, by session."""
        self.records: dict[str, dict[int, Recorded]] = {}
        """The records to erase, by session and position."""
        self.memories: dict[str, Memory] = {}
        self.versions: list[Memory] = []
        """The versions of them that were seen: one that is written later is for the next look."""
        self.names = Pseudonyms(order, tracer)
        """The names that go."""
        self.trail = trail or Trail()
        """What is looked for as a quotation, that of earlier looks included."""

    def __bool__(self) -> bool:
        return bool(self.records or self.memories)

    @property
    def touched(self) -> set[str]:
        """The sessions of which anything is erased."""
        return self.records.keys() | {session for session, _ in self._erased}

    async def look(self) -> None:
        """Find everything, also while the index is made again. Raises NotFound for a session that is not there."""
        known, begun = dict[str, Memory](), -1
        while begun != (begun := await self._database.memories.begun()):
            known |= self.memories
            self.memories = {}  # so that each is looked at again, with the versions that were not found before
            await self._look()
        self.memories = known | self.memories

    async def _look(self) -> None:
        order = self._order
        self._unread = await unread_notes(self._database, order.project)
        for name in self._before:  # somebody had one in hand, and wrote another version of it
            for memory in await self._versions(name):
                await self._take_memory(memory)
        match order.what:
            case "session":
                if (await self.row(order.name)).summary.project != order.project:
                    raise no_session(order.name)  # the journal of a store: it is erased memory by memory
                await self._take_session(order.name)
            case "user":
                await self._take_user()
            case "subject":
                await self._take_memories(MemoryListing(project=order.project, subject=order.name, closed=True))
            case "memory":
                versions = await self._versions(order.name)
                for memory in versions:
                    await self._take_memory(memory)
                if not versions and not self._erased and not self._before:
                    await self._take_written(order.name)
        await self._follow()
        await self._take_named()
        await self._follow()
        self.trail = await take_quotes(self, self._order, self._tracer)

    async def look_again(self, written: Iterable[Place]) -> None:
        """What was written down to be erased, and is still there: whoever wrote it died before it came to that."""
        positions: dict[str, set[int]] = {}
        for session, position in written:
            positions.setdefault(session, set()).add(position)
        for session, wanted in positions.items():
            try:
                row = await self.row(session)
            except NotFound:
                continue
            for record in await self.own_records(row):
                if record.position in wanted:
                    self._take_whatever(record)
                    self._take_if_named(record)

    async def row(self, session: str) -> SessionRow:
        """The row of a session of the order's project, or of the journal of one of its stores. Raises NotFound."""
        if session not in self._rows:
            row = await self._database.views.session(session)
            if owner_of(row.summary.project) != self._order.project:
                raise no_session(session)
            self._rows[session] = row
        return self._rows[session]

    # --- what an order names ------------------------------------------------------------------------------------------

    async def _take_user(self) -> None:
        """Also what is there under the pseudonym: the rows of sessions have it before the last answers came."""
        order, user = self._order, self._order.name
        called = (user, self.names.of(user))
        for name in called:
            async for row in self.sessions(SessionQuery(project=order.project, user=name)):
                await self._take_session(row.session)
        scopes = {f"user:{name}" for name in called}
        unread = [version.place for versions in self._unread.values() for version in versions]
        places = dict.fromkeys((*await self._database.memories.places(order.project), *unread))
        theirs = tuple(place for place in places if place.scope in scopes)
        await self._take_memories(MemoryListing(project=order.project, places=theirs, closed=True))

    async def _take_named(self) -> None:
        """Records that name, in whatever session, who is erased or a block that is."""
        self.names.know(self.memories)
        found = dict[str, list[int]]()
        for session, position in await self._database.naming(self.names.names) if self.names.names else ():
            found.setdefault(session, []).append(position)
        for session, positions in found.items():
            try:
                row = await self.row(session)
            except NotFound:
                continue  # of another project
            for record in await self._records_at(row, positions):
                self._take_naming(record)

    def _take_naming(self, record: Recorded) -> None:
        """A record that holds a name, if it is in a place where it goes."""
        self.names.see(record.event)
        self._take_if_named(record)
        reason = record.event.reason if isinstance(record.event, Redacted) else ""
        if self.names.without(reason) != reason:
            self._take_whatever(record)
        texts = () if isinstance(record.event, InputReceived) else texts_of(record.event)
        if any(block in text for block in self.names.blocks for text in texts):
            self.take(record)

    async def _take_session(self, session: str) -> None:
        left = set[int]()
        for record in await self.own_records(await self.row(session)):
            self.take(record)
            if not record.redacted and record.position not in self.records.get(session, {}):
                left.add(record.position)
        for memory in await self._listed(MemoryListing(project=self._order.project, session=session, closed=True)):
            if memory.kind == "episode" and memory.position in left:
                continue  # it says that something is gone, and nothing else
            self.memories[memory.id] = memory
            self.versions.append(memory)
            if memory.kind != "episode":
                # Also the versions that other sessions wrote: else they would be believed again.
                for version in await self._versions(memory.id):
                    self.versions.append(version)
                    if (kept := await self._record(version.session, version.position)) is not None:
                        self.take(kept)

    async def _take_memories(self, listing: MemoryListing) -> None:
        for memory in await self._listed(listing):
            await self._take_memory(memory)

    async def _versions(self, memory: str) -> Sequence[Memory]:
        """The versions of a memory; none when it is not there any more."""
        try:
            known = await self._database.memories.history(self._order.project, memory)
        except NotFound:
            known = ()
        return (*known, *(version for version in self._unread.get(memory, ()) if version not in known))

    async def _take_memory(self, memory: Memory) -> None:
        """A memory with all its versions, the records they stand in, and those they were learned from."""
        if memory.id in self.memories or await self._says_nothing(memory):
            return
        self.memories[memory.id] = memory
        for version in await self._versions(memory.id):
            self.versions.append(version)
            kept = await self._record(version.session, version.position)
            if kept is None:
                continue
            self.take(kept)
            if isinstance(kept.event, MemoryKept) and kept.event.source is not None:
                source = await self._record(kept.event.source_session or kept.session, kept.event.source)
                if source is not None:
                    self.take(source)
            await self._take_copies(await self.row(version.session), version)

    async def _take_written(self, memory: str) -> None:
        """What the journals say of a memory that the index does not know: an older release erased it there only."""
        for session, position in await self._database.naming([memory]):
            record = await self._record(session, position)
            if record is not None and isinstance(record.event, MemoryKept) and record.event.memory == memory:
                self.take(record)

    async def _says_nothing(self, memory: Memory) -> bool:
        """Whether it is an episode that says that something is gone, and nothing else: its record stays."""
        if memory.kind != "episode":
            return False
        record = await self._record(memory.session, memory.position)
        return record is not None and not record.redacted and not texts_of(record.event)

    async def _take_copies(self, row: SessionRow, memory: Memory) -> None:
        """What a session, and the others of the same person, repeat of a text: a call that wrote it, a reply."""
        words = self.names.words_of(memory.id)
        prints, phrases = frozenset(self._tracer.prints_of(memory.text)), (memory.text, *words)
        # In the journal of a store the same words may stand in what is another's.
        rows = [row] if row.summary.project == self._order.project else []
        user = row.summary.user or user_of(memory)
        if user and (prints or words):
            query = SessionQuery(project=self._order.project, user=user)
            rows += [other async for other in self.sessions(query) if other.session != row.session]
        for one in rows:
            for record in await self.own_records(one):
                said = texts_of(record.event)
                found = self._tracer.find(prints, (s.encode() for s in said))
                if found or any(one in s for s in said for one in phrases):
                    self.take(record)

    # --- what follows from it -----------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        before = (-1, -1)
        while before != (now := (sum(map(len, self.records.values())), len(self.memories))):
            before = now
            gone = self._erased | {(s, position) for s, records in self.records.items() for position in records}
            for session in {session for session, _ in gone}:
                for row in await self.with_forks(session):
                    await self._follow_in(row, gone)
            await self._follow_notes(gone)

    async def _follow_in(self, row: SessionRow, gone: frozenset[Place]) -> None:
        """Summaries that cover what is erased, and recalls that speak of it, in one session."""
        erased, own = await self._gone_in(row, gone), await self.own_records(row)
        summed = any(isinstance(record.event, ContextCompacted) for record in own)
        turn_of = await self._turns_of(row, erased) if summed else {}
        for record in own:
            match record.event:
                case SessionForked(title="") if row.summary.title and await self._title_from(row) in erased:
                    self._take_whatever(record)  # the session is called by a title that is erased
                case ContextCompacted(through_turn=through, skipped=skipped):
                    if any(turn_of[position] <= through + (skipped > 0) for position in erased):
                        self.take(record)
                case CompactionFailed() if erased:  # it may name what a summary left out
                    self.take(record)
                case MemoryRecalled(items=items) | BlocksShown(items=items):
                    if any((one.session, one.position) in gone or one.memory in self.memories for one in items):
                        self.take(record)
                        self._take_if_named(record)
                case _:
                    pass

    async def _turns_of(self, row: SessionRow, positions: set[int]) -> dict[int, int]:
        """In which turn some positions of a session stand, what it inherited included."""
        turn, turn_of = 0, dict[int, int]()
        async for records in pages_of(self._database.store, row.session):
            for record in records:
                turn = record.event.turn if isinstance(record.event, TurnStarted) else turn
                if record.position in positions:
                    turn_of[record.position] = turn
        return dict.fromkeys(positions, turn) | turn_of

    async def _title_from(self, row: SessionRow) -> int:
        """Where the opening stands that a fork which says no title has its title from; 0 for what is no fork."""
        if row.fork is None:
            return 0
        last, source = row.fork.position, await self.row(row.fork.source)
        while source.fork is not None and source.fork.position >= last:  # it was forked off before that one's opening
            source = await self.row(source.fork.source)
        return 1 if source.fork is None else source.fork.position + 1

    async def _gone_in(self, row: SessionRow, gone: frozenset[Place]) -> set[int]:
        """Which positions of a session are erased, also of what it inherited."""
        found, last = set(self._gone_at(row.session, gone)), row.head
        while row.fork is not None:
            last, row = min(last, row.fork.position), await self.row(row.fork.source)
            found |= {position for position in self._gone_at(row.session, gone) if position <= last}
        return found

    def _gone_at(self, session: str, gone: frozenset[Place]) -> Sequence[int]:
        """The positions of one session among many: a session may have very many forks, one after the other."""
        if self._gone is None or self._gone[0] is not gone:
            by_session: dict[str, list[int]] = {}
            for name, position in gone:
                by_session.setdefault(name, []).append(position)
            self._gone = gone, by_session
        return self._gone[1].get(session, ())

    async def _follow_notes(self, gone: frozenset[Place]) -> None:
        listing = MemoryListing(project=self._order.project, kinds=("note", "block"), closed=True, every_version=True)
        versions = [version for version in await self._listed(listing) if version.id not in self.memories]
        await self._learn(versions)
        for version in versions:
            place = (version.session, version.position)
            if place in gone or self.learned.get(place) in gone:
                await self._take_memory(version)

    async def _learn(self, versions: Sequence[Memory]) -> None:
        """See what versions were learned from, those of one session together: a project may have very many notes."""
        unseen: dict[str, list[int]] = {}
        for version in versions:
            if (version.session, version.position) not in self.learned:
                unseen.setdefault(version.session, []).append(version.position)
        for session, positions in unseen.items():
            try:
                row = await self.row(session)
            except NotFound:
                continue
            for record in await self._records_at(row, positions):
                if isinstance(record.event, MemoryKept) and record.event.source is not None:
                    source = (record.event.source_session or session, record.event.source)
                    self.learned[session, record.position] = source

    # --- looking things up --------------------------------------------------------------------------------------------

    def take(self, record: Recorded) -> None:
        """Reach a record that says something."""
        if not isinstance(record.event, Redacted) and texts_of(record.event):
            self._take_whatever(record)

    def _take_whatever(self, record: Recorded) -> None:
        if not record.redacted:
            self.records.setdefault(record.session, {})[record.position] = record

    def _take_if_named(self, record: Recorded) -> None:
        """Also what was erased before: of an erased record the names stayed."""
        if self.names.named_in(record):
            self.records.setdefault(record.session, {})[record.position] = record

    async def _record(self, session: str, position: int) -> Recorded | None:
        """One record that the session wrote itself; None when it is not there any more."""
        try:
            row = await self.row(session)
            while row.fork is not None and position <= row.fork.position:
                row = await self.row(row.fork.source)
        except NotFound:
            return None
        found = await self._database.store.read(row.session, after=position - 1, limit=1)
        return found[0] if found and found[0].position == position else None

    async def _records_at(self, row: SessionRow, positions: Sequence[int]) -> list[Recorded]:
        """Records of a session at some positions: all at once when they are many."""
        if len(positions) > _FEW:
            wanted = set(positions)
            return [record for record in await self.own_records(row) if record.position in wanted]
        found = [await self._record(row.session, position) for position in positions]
        return [record for record in found if record is not None]

    async def own_records(self, row: SessionRow) -> list[Recorded]:
        """Every record that a session wrote itself."""
        begin = row.fork.position if row.fork is not None else 0
        pages = pages_of(self._database.store, row.session, after=begin)
        return [record async for records in pages for record in records]

    async def with_forks(self, session: str) -> list[SessionRow]:
        """A session, what was forked from it, and from that."""
        family = {session: await self.row(session)}
        left = [session]
        while left:
            query = SessionQuery(project=family[left[-1]].summary.project, parent=left.pop())
            found = [row async for row in self.sessions(query) if row.session not in family]
            family |= {row.session: row for row in found}
            left += [row.session for row in found]
        return list(family.values())

    async def sessions(self, query: SessionQuery) -> AsyncIterator[SessionRow]:
        """All rows of a query, those opened first at the beginning."""
        query = replace(query, opened="oldest_first", limit=_PAGE)
        while rows := await self._database.views.sessions(query):
            for row in rows:
                yield row
            query = replace(query, after=rows[-1].session)

    async def _listed(self, listing: MemoryListing) -> list[Memory]:
        """All of a listing, in one look: another order may erase, between two pages, what the second goes on from."""
        found = list(await self._database.memories.list(replace(listing, limit=_ALL)))
        unread = (version for versions in self._unread.values() for version in versions)
        return found + [version for version in unread if _is_listed(version, listing)]


def _is_listed(memory: Memory, listing: MemoryListing) -> bool:
    """Whether a listing as they are made here, of closed memories as well, has this one."""
    return (
        (listing.places is None or memory.place in listing.places)
        and (not listing.kinds or memory.kind in listing.kinds)
        and (listing.session is None or memory.session == listing.session)
        and (listing.subject is None or listing.subject in memory.subjects)
    )
