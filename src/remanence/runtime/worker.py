"""A worker: claims sessions that are due, drives many of them on one event loop, keeps its leases, gives them back.

Nothing is queued anywhere. A session is due by its row; a worker that dies makes its sessions due by doing nothing, and
the next claim raises the epoch, so whatever the dead one still tries to write is refused.
"""

from __future__ import annotations

import asyncio

import structlog

from remanence.errors import Conflict, Fenced, RemanenceError, StoreCorrupt, StoreError
from remanence.events import Recorded
from remanence.ports import Lease, Write
from remanence.runtime.bell import Bell
from remanence.runtime.driver import Driver
from remanence.runtime.running import Running
from remanence.runtime.services import Services
from remanence.stores.rows import lease_is_live
from remanence.stores.unreadable import note_unreadable

__all__ = ["Worker"]

log = structlog.get_logger("remanence.worker")

_MICROS = 1_000_000
HAND_OVER_TRIES = 8
LEAVE_PART = 8
"""When all places are taken, up to one in so many is asked to be free: the others may go on at once as before."""
TIDY_FIRST_S, TIDY_EVERY_S = 5.0, 3_600.0
POISON_RETRY_S = 60.0
"""How long a session whose journal this worker cannot read is left alone."""


class Worker:
    """Runs due sessions until it is stopped."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, int] = {}
        self._stopping = Bell()
        self._room = Bell()
        self._loops: list[asyncio.Task[None]] = []
        self._claiming = asyncio.Lock()

    @property
    def sessions(self) -> int:
        """How many sessions it holds."""
        return len(self._drivers)

    @property
    def at_work(self) -> int:
        """How many of them do not rest. May be asked from another thread."""
        return sum(not driver.rests for driver in list(self._drivers.values()))

    @property
    def alive(self) -> bool:
        """Whether it claims sessions and keeps its leases."""
        return bool(self._loops) and not any(loop.done() for loop in self._loops)

    async def ended(self) -> None:
        """Return when it no longer does so, whether it was stopped or died."""
        await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)

    def driver_of(self, session: str) -> str:
        """This worker's name when it holds the session right now, so that telling it suffices; else empty."""
        return self.services.worker if session in self._drivers else ""

    def foresee(self, write: Write) -> None:
        """A write of this process is on its way to a session that may be held here."""
        driver = self._drivers.get(write.session)
        if driver is not None:
            driver.foresee(write)

    async def start(self) -> None:
        """Begin claiming, in the background."""
        self.services.live.listen(self._heard, to_others=True)
        self.services.live.driven_by(self.driver_of, self.foresee)
        self._loops = [
            asyncio.create_task(self._claim_loop(), name="claim"),
            asyncio.create_task(self._renew_loop(), name="renew"),
            asyncio.create_task(self._tidy_loop(), name="tidy"),
        ]

    def running(self) -> list[Running]:
        """The tool calls that have not come back. May be asked from another thread."""
        return [call for driver in list(self._drivers.values()) for call in driver.running()]

    async def stop(self) -> list[Running]:
        """Drain: start nothing new, let running effects finish for a while, give every lease back. Returns the tool
        calls that did not finish."""
        self._stopping.set()
        await self._last_claim()
        for driver in self._drivers.values():
            driver.drain()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=self.services.times.drain_s)
        left, cut = dict(self._drivers), self.running()
        for task in [*self._tasks.values(), *self._loops]:
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._loops, return_exceptions=True)
        for driver in left.values():
            await self._hand_over(driver, delay_s=0)
        self.services.live.unlisten(self._heard)
        return cut

    async def _last_claim(self) -> None:
        """A claim that is on its way is waited for: cancelled, it would leave leases that nobody knows of."""
        try:
            async with asyncio.timeout(self.services.times.drain_s), self._claiming:
                pass
        except TimeoutError:
            log.info("the last claim was not answered; what it took, if anything, runs out by itself")

    async def abandon(self) -> None:
        """Vanish, as a killed process would: write nothing, give nothing back. For fault runs."""
        self._stopping.set()
        self.services.live.unlisten(self._heard)
        for driver in self._drivers.values():
            driver.fence()
        tasks = [*self._tasks.values(), *self._loops]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Work until `stop` is called."""
        await self.start()
        await self.services.clock.wait(self._stopping, None)

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        services = self.services
        while not self._stopping.is_set():
            try:
                async with self._claiming:
                    if self._stopping.is_set():
                        return
                    free = services.sessions_max - len(self._drivers)
                    leases = await self._claim(free) if free > 0 else []
                services.outage.worked("claim", services.clock.now())
                if free <= 0:
                    await self._make_room()
                elif len(leases) < free:
                    await services.database.store.wait(timeout_s=services.times.poll_s)
            except StoreError as error:
                await services.clock.sleep(services.outage.failed("claim", error, services.clock.now()))

    async def _claim(self, limit: int) -> list[Lease]:
        services = self.services
        now = services.clock.now()
        if not all(lease_is_live(driver.lease.until, now) for driver in self._drivers.values()):
            # The store was away, or the clock jumped: what is held here and was taken by nobody is kept, under the
            # epoch it has. A claim would fence our own drivers, and doubt effects whose outcomes they hold.
            await self._renew()
        leases = await services.database.store.claim(
            services.worker,
            now=services.clock.now(),
            ttl_s=services.times.lease_s,
            limit=limit,
            agents=services.tools.agents(),
        )
        for lease in leases:
            self._take(lease)
        return list(leases)

    async def _make_room(self) -> None:
        """Ask some sessions to leave, those at rest first, and wait for a place.

        One that is spoken to again at once is never found at rest. It leaves between two turns all the same: otherwise
        the others would never have theirs.

        Never for the store: who does not claim is not told anew, and a bell that stays rung makes no wait of it.
        """
        self._room.clear()
        asked = [driver for driver in self._drivers.values() if not driver.leaves]
        asked.sort(key=lambda driver: not driver.rests)  # within both, who was held longest comes first
        for driver in asked[: max(1, self.services.sessions_max // LEAVE_PART)]:
            driver.leave()
        await self.services.clock.wait(self._room, self.services.times.poll_s)

    def _take(self, lease: Lease) -> None:
        driver = self._drivers.get(lease.session)
        if driver is not None and driver.lease.epoch == lease.epoch:
            driver.lease = lease
            driver.nudge()
            return
        if driver is not None:
            driver.fence()
        if self._failed.get(lease.session) == lease.epoch:
            return  # its driver failed under this very epoch: only a new epoch may judge what it left behind
        driver = self._drivers[lease.session] = Driver(self.services, lease)
        task = asyncio.create_task(self._drive(driver), name=f"drive {lease.session}")
        self._tasks[lease.session] = task

    async def _drive(self, driver: Driver) -> None:
        session = driver.lease.session
        self._failed.pop(session, None)
        try:
            await driver.run()
        except RemanenceError as error:
            log.error("this session cannot be driven; it is left alone for a while", session=session, why=error.message)
            if isinstance(error, StoreCorrupt):
                services = self.services
                await note_unreadable(services.database, session, error, at=services.clock.now())
            await self._give_up(driver)
        except Exception:
            log.exception("this session cannot be driven; it is left alone for a while", session=session)
            await self._give_up(driver)
        finally:
            if self._drivers.get(session) is driver:
                del self._drivers[session]
                del self._tasks[session]
                self.services.live.left(session)
                self._room.set()

    async def _give_up(self, driver: Driver) -> None:
        self._failed[driver.lease.session] = driver.lease.epoch
        await self._hand_over(driver, delay_s=POISON_RETRY_S)

    async def _hand_over(self, driver: Driver, *, delay_s: float) -> None:
        """Give a lease back from outside the driver's own order: the session is due again after `delay_s`."""
        database, lease = self.services.database, driver.lease
        wake_at = self.services.clock.now() + int(delay_s * _MICROS)
        for _ in range(HAND_OVER_TRIES):
            try:
                row = await database.views.session(lease.session)
                # One that nobody has begun is due since it was spoken to, so that lists show it as waiting still.
                unread = row.summary.status == "queued" and not delay_s
                due_at = min(wake_at, row.updated_at) if unread else wake_at
                await database.store.release(lease, seen=row.head, wake_at=due_at)
            except Fenced:
                return
            except Conflict:
                continue
            except StoreError as error:
                log.info("the lease runs out by itself", session=lease.session, error=error.message)
            return

    # --- leases -------------------------------------------------------------------------------------------------------

    async def _renew_loop(self) -> None:
        services = self.services
        while not self._stopping.is_set():
            await services.clock.wait(self._stopping, services.times.lease_s / 3)
            try:
                await self._renew()
                services.outage.worked("renew", services.clock.now())
            except StoreError as error:
                services.outage.failed("renew", error, services.clock.now())

    async def _renew(self) -> None:
        """Extend every lease that is still ours; drop the sessions of those that are not."""
        services = self.services
        drivers = {d.lease.session: d for d in self._drivers.values()}
        if not drivers:
            return
        until = services.clock.now() + int(services.times.lease_s * _MICROS)
        renewed = await services.database.store.renew([d.lease for d in drivers.values()], until=until)
        kept = {lease.session: lease for lease in renewed}
        for session, driver in drivers.items():
            if self._drivers.get(session) is not driver:
                continue
            if session in kept:
                driver.lease = kept[session]
            else:
                driver.fence()

    async def _tidy_loop(self) -> None:
        """Forget idempotency keys once nobody may use them any more."""
        services = self.services
        await services.clock.wait(self._stopping, TIDY_FIRST_S)  # not in the way of what waits for the start
        while not self._stopping.is_set():
            before = services.clock.now() - int(services.times.key_s * _MICROS)
            try:
                await services.database.prune_keys(before=before)
            except StoreError as error:
                log.info("old idempotency keys are forgotten later", error=error.message)
            await services.clock.wait(self._stopping, TIDY_EVERY_S)

    def _heard(self, record: Recorded) -> None:
        driver = self._drivers.get(record.session)
        if driver is not None:
            driver.tell(record)
