"""The shop's own records, as shipped with the package: an order book and a mailbox, read-only.

`scripts/make_demo_data.py` writes both files again, byte for byte. Amounts are integer cents of a euro; dates are ISO
8601; every name is a plain first name and every address is under example.com, example.net or example.org.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TypeVar

import msgspec

__all__ = ["APPROVAL_OVER_CENTS", "Item", "Mail", "Order", "mailbox", "money", "order_book", "order_named_in"]

APPROVAL_OVER_CENTS = 5_000
"""Refunds above this amount ask a person."""

_ORDER = re.compile(r"\bO-\d{4}\b", re.ASCII)
Row = TypeVar("Row", bound=msgspec.Struct)


class Item(msgspec.Struct, frozen=True):
    """One line of an order; `cents` is the price of one piece."""

    sku: str
    product: str
    quantity: int
    cents: int


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order. `cents` is what was paid: goods and shipping."""

    order: str
    placed: str
    customer: str
    email: str
    language: str
    items: tuple[Item, ...]
    shipping_cents: int
    cents: int
    currency: str
    status: str
    tracking: str = ""
    delivered: str = ""


class Mail(msgspec.Struct, frozen=True):
    """One mail as it came in. `folder` is where the mailbox sorted it: damaged, late, return, wrong, ..."""

    mail: str
    at: str
    name: str
    language: str
    folder: str
    subject: str
    body: str
    sender: str = msgspec.field(name="from")


@cache
def order_book() -> dict[str, Order]:
    """Every order by its number (`O-1001` ...), oldest first."""
    return {order.order: order for order in _rows("orders.jsonl", Order)}


@cache
def mailbox() -> dict[str, Mail]:
    """Every mail by its number (`M-0001` ...), oldest first."""
    return {mail.mail: mail for mail in _rows("mailbox.jsonl", Mail)}


def order_named_in(text: str) -> str | None:
    """The first order number in a text, whether or not there is such an order."""
    match = _ORDER.search(text)
    return match.group() if match else None


def money(cents: int) -> str:
    """Cents of a euro for people to read."""
    return f"{cents // 100}.{cents % 100:02d} EUR"


def _rows(name: str, kind: type[Row]) -> list[Row]:
    content = resources.files("remanence.demo").joinpath("data", name).read_bytes()
    return msgspec.json.Decoder(kind).decode_lines(content)
