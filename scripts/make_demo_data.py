"""Write the demo's order book and mailbox again: `src/remanence/demo/data/{orders,mailbox}.jsonl`.

Everything is drawn from one seed through SHA-256, not through `random`: the same bytes come out on every version of
Python, and adding one draw does not shift all the others. Customers have plain first names and addresses under
example.com, example.net and example.org, which belong to nobody. Amounts are integer cents of a euro.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
TEXTS = Path(__file__).with_name("demo_texts.toml")
TARGET = ROOT / "src" / "remanence" / "demo" / "data"

SEED = "remanence demo 1"
ORDERS = 300
MAILS = 320
CUSTOMERS = 190
FIRST_ORDER_DAY = date(2026, 2, 2)
FIRST_MAIL_DAY = date(2026, 4, 6)
MAIL_DAYS = 12
HARD_CASES_DAY = 3
"""The hard cases all arrive on this day of the mailbox (0 is the first): the morning the tour looks at."""

LANGUAGES = {
    "en": 34, "fr": 12, "de": 12, "es": 8, "it": 6, "pt": 5, "nl": 4,
    "sv": 3, "pl": 4, "ja": 4, "zh": 4, "ko": 2, "ar": 3,
}  # fmt: skip
TOPICS = {"damaged": 30, "late": 28, "return": 12, "wrong": 9, "invoice": 9, "praise": 7, "question": 5}

PRODUCTS = (
    ("K-110", "Enamel kettle 1.5 l", 3490),
    ("K-121", "Teapot with strainer", 2890),
    ("K-135", "Cast iron pan 26 cm", 5990),
    ("K-142", "Set of six glasses", 2450),
    ("K-150", "Salad bowl, stoneware", 1990),
    ("K-163", "Espresso maker", 3290),
    ("K-177", "Bread knife", 2690),
    ("L-204", "Desk lamp, brass", 7900),
    ("L-219", "Paper lantern", 1290),
    ("L-233", "Night light", 1650),
    ("T-301", "Wool blanket, grey", 6900),
    ("T-318", "Linen tablecloth", 4450),
    ("T-326", "Two bath towels", 2990),
    ("T-340", "Cushion, blue", 1890),
    ("D-402", "Wall clock", 4200),
    ("D-411", "Picture frame A4", 1150),
    ("D-425", "Vase, hand-blown", 3850),
    ("G-507", "Watering can 5 l", 2350),
    ("G-516", "Herb pots, set of three", 1790),
    ("G-530", "Folding garden chair", 8900),
)

Value = TypeVar("Value")


def draw(label: str, below: int) -> int:
    """A number from 0 up to, not including, `below`; the same for the same label, for ever."""
    digest = hashlib.sha256(f"{SEED}|{label}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % below


def pick(label: str, options: Sequence[Value]) -> Value:
    return options[draw(label, len(options))]


def weighted(label: str, weights: dict[str, int]) -> str:
    point = draw(label, sum(weights.values()))
    for option, weight in weights.items():
        if point < weight:
            return option
        point -= weight
    raise AssertionError("weights do not add up")


def money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d} EUR"


# --- the order book ---------------------------------------------------------------------------------------------------


def make_customers(names: dict[str, list[str]]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for index in range(CUSTOMERS):
        label = f"customer {index}"
        language = weighted(f"{label} language", LANGUAGES)
        name = pick(f"{label} name", names[language])
        domain = pick(f"{label} domain", ("example.com", "example.net", "example.org"))
        found.append({"name": name, "email": f"{mailbox_name(name)}.{index + 100}@{domain}", "language": language})
    return found


def mailbox_name(name: str) -> str:
    """The name in plain letters, or `post` where it has none."""
    plain = unicodedata.normalize("NFKD", name.replace("Ł", "L").replace("ł", "l"))
    return "".join(letter for letter in plain.lower() if "a" <= letter <= "z") or "post"


def make_orders(customers: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    orders = [make_order(index, pick(f"order {index} customer", customers)) for index in range(ORDERS)]
    return sorted(orders, key=lambda order: order["order"])


def make_order(index: int, customer: dict[str, str]) -> dict[str, Any]:
    label = f"order {index}"
    items = make_items(label)
    goods = sum(item["cents"] * item["quantity"] for item in items)
    shipping = 0 if goods >= 6000 else 490
    placed = FIRST_ORDER_DAY + timedelta(days=index * 56 // ORDERS)
    recent = index * 5 > ORDERS * 3
    shares = {"delivered": 58, "in transit": 34, "packed": 8} if recent else {"delivered": 97, "in transit": 3}
    status = weighted(f"{label} status", shares)
    order: dict[str, Any] = {
        "order": f"O-{1001 + index}",
        "placed": placed.isoformat(),
        "customer": customer["name"],
        "email": customer["email"],
        "language": customer["language"],
        "items": items,
        "shipping_cents": shipping,
        "cents": goods + shipping,
        "currency": "EUR",
        "status": status,
    }
    if status != "packed":
        order["tracking"] = f"EX{100_000_000 + draw(f'{label} tracking', 900_000_000)}"
    if status == "delivered":
        order["delivered"] = (placed + timedelta(days=2 + draw(f"{label} days", 6))).isoformat()
    return order


def make_items(label: str) -> list[dict[str, Any]]:
    start = draw(f"{label} product", len(PRODUCTS))
    items: list[dict[str, Any]] = []
    for line in range(1 + (draw(f"{label} lines", 10) >= 7)):
        sku, product, cents = PRODUCTS[(start + 7 * line) % len(PRODUCTS)]
        quantity = 1 + (draw(f"{label} quantity {line}", 10) >= 8)
        items.append({"sku": sku, "product": product, "quantity": quantity, "cents": cents})
    return items


# --- the mailbox ------------------------------------------------------------------------------------------------------


def make_mails(texts: dict[str, Any], orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    mails = [make_mail(index, texts["mail"], orders) for index in range(MAILS - len(texts["hard"]))]
    mails += make_hard_mails(texts["hard"], orders, taken={mail["_order"] for mail in mails})
    mails.sort(key=lambda mail: (mail["at"], mail["from"]))
    return [
        {"mail": f"M-{index:04d}", **{key: value for key, value in mail.items() if key != "_order"}}
        for index, mail in enumerate(mails, start=1)
    ]


def make_mail(index: int, templates: Sequence[dict[str, str]], orders: Sequence[dict[str, Any]]) -> dict[str, Any]:
    label = f"mail {index}"
    topic = weighted(f"{label} topic", TOPICS)
    fitting = [order for order in orders if suits(order, topic) and texts_for(templates, topic, order["language"])]
    order = pick(f"{label} order", fitting)
    template = pick(f"{label} text", texts_for(templates, topic, order["language"]))
    at = moment(label, day=draw(f"{label} day", MAIL_DAYS))
    return mail_about(order, template, at)


def suits(order: dict[str, Any], topic: str) -> bool:
    """A parcel that is on its way can be late; one that is there can be broken."""
    return (order["status"] != "delivered") == (topic == "late")


def texts_for(templates: Sequence[dict[str, str]], topic: str, language: str) -> list[dict[str, str]]:
    return [text for text in templates if text["topic"] == topic and text["language"] == language]


def moment(label: str, *, day: int) -> datetime:
    start = datetime.combine(FIRST_MAIL_DAY, datetime.min.time(), UTC) + timedelta(days=day, hours=6)
    return start + timedelta(minutes=draw(f"{label} minute", 13 * 60))


def mail_about(order: dict[str, Any], template: dict[str, str], at: datetime) -> dict[str, Any]:
    fields = {
        "name": order["customer"],
        "order": order["order"],
        "product": order["items"][0]["product"],
        "placed": order["placed"],
        "amount": money(order["cents"]),
    }
    body = template["body"].format(**fields)
    if "paragraph" in template:
        body += "".join(template["paragraph"].format(day=day) for day in range(1, 61))
        body += template["ending"].format(**fields)
    return {
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "from": order["email"],
        "name": order["customer"],
        "language": order["language"],
        "folder": template["topic"],
        "subject": template["subject"].format(**fields),
        "body": body,
        "_order": order["order"],
    }


def make_hard_mails(
    hard: Sequence[dict[str, str]], orders: Sequence[dict[str, Any]], taken: set[str]
) -> Iterator[dict[str, Any]]:
    """The hard cases, each about an order nobody else writes about; two are about one order, 20 minutes apart."""
    used = set(taken)
    twice: dict[str, Any] = {}
    for case in hard:
        kind = case["kind"]
        language = "ja" if kind == "cjk" else "en"
        free = [
            order
            for order in orders
            if order["order"] not in used and order["language"] == language and suits(order, case["topic"])
            if order["cents"] <= 5000 or case["topic"] != "damaged"
        ]
        order = twice if kind == "twice_again" else pick(f"hard {kind}", free)
        twice = order if kind == "twice_first" else twice
        used.add(order["order"])
        at = moment(f"hard {kind}", day=HARD_CASES_DAY)
        if kind == "twice_again":
            at = moment("hard twice_first", day=HARD_CASES_DAY) + timedelta(minutes=20)
        yield mail_about(order, case, at)


# --- files ------------------------------------------------------------------------------------------------------------


def build() -> dict[str, bytes]:
    """File name to content, JSON Lines in UTF-8."""
    texts = tomllib.loads(TEXTS.read_text(encoding="utf-8"))
    orders = make_orders(make_customers(texts["names"]))
    return {"orders.jsonl": lines(orders), "mailbox.jsonl": lines(make_mails(texts, orders))}


def lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def main() -> int:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, content in build().items():
        (TARGET / name).write_bytes(content)
        print(f"{name}: {len(content.splitlines())} entries, {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
