"""The outside world counts what arrives, and behaves as the three services say they do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remanence.demo.world import Refused, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    ticks = iter(range(1_000_000, 2_000_000))
    with World(tmp_path / "ledger.db", now=lambda: next(ticks)) as opened:
        opened.charge({"O-1": 5_000, "O-2": 900})
        yield opened


async def test_payments_move_money_on_every_arrival(world: World) -> None:
    await world.refund(order="O-1", cents=1_000, reference="s:1:c")
    await world.refund(order="O-1", cents=1_000, reference="s:1:c")
    assert [refund.cents for refund in world.refunds("s:")] == [1_000, 1_000]
    assert len(world.arrivals("s:", "payments")) == 2


async def test_payments_refuse_more_than_the_charge_and_the_refusal_is_counted(world: World) -> None:
    with pytest.raises(Refused, match="900 of 900 are left"):
        await world.refund(order="O-2", cents=901, reference="s:1:c")
    with pytest.raises(Refused, match="no charge"):
        await world.refund(order="O-3", cents=1, reference="s:1:c")
    with pytest.raises(Refused):
        await world.refund(order="O-2", cents=-5, reference="s:1:c")
    assert world.refunds() == []
    assert [arrival.answer.startswith("refused: ") for arrival in world.arrivals()] == [True, True, True]
    assert world.refunded_cents("O-2") == 0


async def test_payments_are_searched_by_the_exact_reference(world: World) -> None:
    done = await world.refund(order="O-1", cents=10, reference="s:1:call_10")
    assert await world.find_refund(reference="s:1:call_10") == done
    assert await world.find_refund(reference="s:1:call_1") is None


async def test_mail_is_sent_once_per_key_and_every_arrival_is_counted(world: World) -> None:
    first = await world.send_mail(recipient="a@example.com", subject="Hi", body="x", idempotency_key="s:1:m")
    again = await world.send_mail(recipient="a@example.com", subject="Hi", body="x", idempotency_key="s:1:m")
    assert (first, again) == ("mail S-0001 to a@example.com was sent", "mail S-0001 to a@example.com was sent before")
    with pytest.raises(Refused, match="another mail"):
        await world.send_mail(recipient="b@example.com", subject="Hi", body="x", idempotency_key="s:1:m")
    assert len(world.outbox()) == 1
    assert len(world.arrivals("s:", "mail")) == 3


async def test_the_courier_books_every_time(world: World) -> None:
    for _ in range(2):
        await world.book_courier(order="O-1", note="s:1:b")
    assert [booking.order for booking in world.bookings("s:")] == ["O-1", "O-1"]


@pytest.mark.parametrize(("point", "landed"), [("before", 0), ("after", 1)])
async def test_a_gate_holds_a_call_and_says_so(world: World, point: str, landed: int) -> None:
    world.arm("payments", "before" if point == "before" else "after")
    call = asyncio.ensure_future(world.refund(order="O-1", cents=10, reference="s:1:c"))
    held = await world.caught(timeout_s=60.0)
    assert (held.point, held.effect_key, held.pid) == (point, "s:1:c", os.getpid())
    assert len(world.refunds()) == len(world.arrivals()) == landed
    assert not call.done()
    world.disarm()
    assert (await call).startswith("refund R-0001")
    assert len(world.refunds()) == 1
    with pytest.raises(TimeoutError, match="no call"):
        await world.caught(after=held.id, timeout_s=0.1)


def test_two_processes_share_one_ledger(world: World) -> None:
    program = (
        "import asyncio, pathlib, sys; from remanence.demo.world import World\n"
        "async def main(world):\n"
        "    for _ in range(20): await world.book_courier(order='O-1', note=sys.argv[2])\n"
        "with World(pathlib.Path(sys.argv[1])) as world: asyncio.run(main(world))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(world.path), f"w{n}:"]) for n in range(2)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(world.bookings("w0:")) == len(world.bookings("w1:")) == 20
    assert len({arrival.id for arrival in world.arrivals()}) == 40
