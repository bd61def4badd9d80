"""The sample data: rebuilt byte for byte, and true in itself."""

from __future__ import annotations

import importlib.util
from collections import Counter
from importlib import resources
from pathlib import Path

from remanence.demo.shop import APPROVAL_OVER_CENTS, mailbox, money, order_book, order_named_in

ROOT = Path(__file__).resolve().parents[2]
PLAIN_DOMAINS = ("@example.com", "@example.net", "@example.org")


def test_the_script_writes_the_same_bytes_again() -> None:
    spec = importlib.util.spec_from_file_location("make_demo_data", ROOT / "scripts" / "make_demo_data.py")
    assert spec is not None
    assert spec.loader is not None
    make_demo_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_demo_data)
    shipped = resources.files("remanence.demo") / "data"
    for name, content in make_demo_data.build().items():
        assert (shipped / name).read_bytes() == content, f"run scripts/make_demo_data.py: {name} differs"


def test_every_order_adds_up() -> None:
    orders = order_book()
    assert len(orders) == 300
    for order in orders.values():
        goods = sum(item.cents * item.quantity for item in order.items)
        assert order.cents == goods + order.shipping_cents > 0
        assert order.email.endswith(PLAIN_DOMAINS)
        assert (order.status == "delivered") == bool(order.delivered)
        assert not order.delivered or order.delivered > order.placed


def test_every_mail_comes_from_the_buyer_of_the_order_it_names() -> None:
    mails = mailbox()
    assert len(mails) == 320
    strangers = []
    for mail in mails.values():
        number = order_named_in(f"{mail.subject}\n{mail.body}")
        order = order_book().get(number or "")
        if order is None:
            strangers.append((mail.folder, number))
            continue
        assert (mail.sender, mail.name, mail.language) == (order.email, order.customer, order.language)
        assert mail.at[:10] > order.placed
        assert mail.folder != "late" or order.status != "delivered"
        assert "EUR" not in mail.body or money(order.cents) in mail.body
    assert Counter(strangers)[("damaged", "O-9999")] == 1
    assert {folder for folder, number in strangers if number is None} == {"question"}


def test_the_mailbox_has_many_languages_and_the_hard_cases() -> None:
    mails = list(mailbox().values())
    assert len({mail.language for mail in mails}) >= 12
    assert [mail.at for mail in mails] == sorted(mail.at for mail in mails)
    morning = [mail for mail in mails if mail.at.startswith("2026-04-09")]
    text = {mail.mail: f"{mail.subject}\n{mail.body}" for mail in morning}
    assert any("Ignore all previous instructions" in body for body in text.values())
    assert any(len(body) > 15_000 for body in text.values())
    assert any("🫖" in body for body in text.values())
    assert any("THIS IS THE THIRD TIME" in body for body in text.values())
    assert {"ja", "ko"} <= {mail.language for mail in morning}
    damaged = Counter(order_named_in(text[mail.mail]) for mail in morning if mail.folder == "damaged")
    assert sorted(damaged.values())[-2:] == [1, 2], "exactly one order is written about twice"
    large = [order_book()[number].cents for number in damaged if number in order_book()]
    assert any(cents > APPROVAL_OVER_CENTS for cents in large)
    assert any(cents <= APPROVAL_OVER_CENTS for cents in large)
