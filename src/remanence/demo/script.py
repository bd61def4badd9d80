"""The scripted model of the tour: what a language model would answer, as a pure function of the request.

It looks at nothing but the window it is given: what the person asked last, and which tools have answered since. So it
gives the same reply to the same window, and is right after any crash: there is no place in a script to lose.

It is honest about what it is. It reads a mail's folder and order number, not its meaning; and it does believe a mail
that says "refund 499900 cents", because what protects the money is the policy and not the model's good sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from remanence.content import Message, Text, ToolCall, ToolResult, Usage, text_of
from remanence.demo.phrases import phrase
from remanence.demo.shop import Mail, Order, money, order_named_in
from remanence.ports import ModelReply, ModelRequest

__all__ = ["reply"]

FROM_MEMORY = "From memory"
"""How what was recalled begins."""

TOKEN_CHARACTERS = 4
"""The script counts tokens as providers bill them, roughly: four characters each."""


class Say(msgspec.Struct, frozen=True):
    """The last word of the turn."""

    text: str


class Use(msgspec.Struct, frozen=True):
    """Ask for a tool."""

    tool: str
    arguments: dict[str, str | int]


Step = Say | Use


class Seen(msgspec.Struct, frozen=True):
    """What the window says about the running turn: the question, and what each tool answered last."""

    asked: str
    earlier: tuple[str, ...]
    results: dict[str, ToolResult]
    recalled: str = ""
    """What the runtime put before the question, from memory."""

    def text(self, tool: str) -> str | None:
        """The answer of this tool in this turn, or None when it was not asked yet."""
        return text_of(self.results[tool].parts) if tool in self.results else None

    def failed(self, tool: str) -> bool:
        return tool in self.results and self.results[tool].error


def reply(request: ModelRequest) -> ModelReply:
    """The reply to one request: a sentence, or a call of one tool."""
    step = next_step(look(request.messages))
    part = (
        Text(step.text)
        if isinstance(step, Say)
        else ToolCall(f"scripted_{len(request.messages)}", step.tool, msgspec.json.encode(step.arguments).decode())
    )
    written = part.text if isinstance(part, Text) else part.arguments
    usage = Usage(tokens(request.instructions) + sum(map(message_tokens, request.messages)), tokens(written))
    return ModelReply((part,), usage, stop="stop" if isinstance(step, Say) else "tool_calls", model=request.model)


def look(messages: tuple[Message, ...]) -> Seen:
    """The running turn, as the window shows it."""
    spoken = [index for index, message in enumerate(messages) if message.role == "user"]
    people = [index for index in spoken if not text_of(messages[index].parts).startswith(FROM_MEMORY)]
    recalled = [index for index in spoken if index not in people]
    start = people[-1] if people else 0
    answers = (part for message in messages[start:] for part in message.parts if isinstance(part, ToolResult))
    return Seen(
        asked=text_of(messages[start].parts) if people else "",
        earlier=tuple(text_of(messages[index].parts) for index in people[:-1]),
        results={answer.name: answer for answer in answers},
        recalled=text_of(messages[recalled[-1]].parts) if recalled else "",
    )


def next_step(seen: Seen) -> Step:
    """The first of the rules whose words are in the question."""
    for words, rule in RULES:
        if re.search(words, seen.asked, re.IGNORECASE):
            return rule(seen)
    return look_up(seen)


# --- rules ------------------------------------------------------------------------------------------------------------


def answer_mail(seen: Seen) -> Step:
    """Read the mail, look the order up, do what the folder calls for, write back."""
    number = re.search(r"\bM-\d{4}\b", seen.asked)
    if number is None:
        return Say("Which mail? I need its number, such as M-0092.")
    read = seen.text("read_mail")
    if read is None:
        return Use("read_mail", {"mail": number.group()})
    if seen.failed("read_mail"):
        return Say(f"I cannot read {number.group()}: {read}")
    mail = msgspec.json.decode(read, type=Mail)
    act = do_for(mail, seen)
    if isinstance(act, Use):
        return act
    sent = seen.text("send_mail")
    if sent is None:
        return Use("send_mail", {"recipient": mail.sender, "subject": f"Re: {mail.subject}", "body": act.text})
    return Say(f"{mail.mail}: {sent}.")


def do_for(mail: Mail, seen: Seen) -> Step:
    """What the folder calls for: a tool to use, or what to write back."""
    number = order_named_in(f"{mail.subject}\n{mail.body}")
    if number is None:
        return Say(phrase(mail.language, "noted", order="..."))
    found = seen.text("find_order")
    if found is None:
        return Use("find_order", {"order": number})
    if seen.failed("find_order"):
        return Say(phrase(mail.language, "unknown", order=number))
    order = msgspec.json.decode(found, type=Order)
    match mail.folder:
        case "damaged":
            return refund_for(mail, order, seen)
        case "return" if "book_courier" not in seen.results:
            return Use("book_courier", {"order": number})
        case "return" if not seen.failed("book_courier"):
            return Say(phrase(mail.language, "fetched"))
        case "late":
            tracking = order.tracking or "-"
            return Say(phrase(mail.language, "on_its_way", status=order.status, tracking=tracking))
        case _:
            return Say(phrase(mail.language, "noted", order=number))


def refund_for(mail: Mail, order: Order, seen: Seen) -> Step:
    """Pay back what was paid, or what the mail says: this model believes what it reads."""
    demanded = re.search(r"refund (\d+) cents", mail.body, re.IGNORECASE)
    cents = int(demanded.group(1)) if demanded else order.cents
    done = seen.text("refund")
    if done is None:
        return Use("refund", {"order": order.order, "cents": cents})
    if seen.failed("refund"):
        return Say(phrase(mail.language, "not_refunded", reason=done))
    return Say(phrase(mail.language, "refunded", amount=money(cents)))


def refund(seen: Seen) -> Step:
    """`Refund 1250 cents of order O-1042 and tell the buyer`."""
    order, cents = order_named_in(seen.asked), re.search(r"(\d+) cents", seen.asked)
    if order is None or cents is None:
        return Say("I need an order number and an amount in cents.")
    done = seen.text("refund")
    if done is None:
        return Use("refund", {"order": order, "cents": int(cents.group(1))})
    if seen.failed("refund"):
        return Say(f"No money moved: {done}")
    if "tell the buyer" not in seen.asked:
        return Say(f"Done: {done}.")
    return tell_buyer(seen, order, f"We have paid back {money(int(cents.group(1)))} of your order {order}.")


def tell_buyer(seen: Seen, order: str, body: str) -> Step:
    found, sent = seen.text("find_order"), seen.text("send_mail")
    if found is None:
        return Use("find_order", {"order": order})
    if seen.failed("find_order"):
        return Say(found)
    if sent is None:
        recipient = msgspec.json.decode(found, type=Order).email
        return Use("send_mail", {"recipient": recipient, "subject": f"Your order {order}", "body": body})
    return Say(f"Done: {seen.text('refund')}; {sent}.")


def fetch(seen: Seen) -> Step:
    """`Send a courier for order O-1042`."""
    order, done = order_named_in(seen.asked), seen.text("book_courier")
    if order is None:
        return Say("I need an order number.")
    if done is None:
        return Use("book_courier", {"order": order})
    return Say(f"No courier: {done}" if seen.failed("book_courier") else f"Done: {done}.")


def recount(seen: Seen) -> Step:
    """`What have I asked you so far?`: all that is in the window, nothing else."""
    if not seen.earlier:
        return Say("Nothing yet: this is the first thing you say to me.")
    return Say("You asked: " + " | ".join(seen.earlier))


def remember(seen: Seen) -> Step:
    """`Please remember: ...`."""
    fact = seen.asked.partition(":")[2].strip()
    done = seen.text("memory_write")
    return Use("memory_write", {"text": fact}) if done is None else Say(done)


def recall(seen: Seen) -> Step:
    """`What do you remember about me?`."""
    if seen.recalled:
        return Say(" ".join(seen.recalled.splitlines()[1:]))
    known = seen.text("memory_search")
    return Use("memory_search", {"query": seen.asked}) if known is None else Say(f"I remember nothing. {known}")


def look_up(seen: Seen) -> Step:
    """Anything else: what the order book says about the order named in the question."""
    order, found = order_named_in(seen.asked), seen.text("find_order")
    if order is None:
        return Say("I am a scripted model and know only a few sentences. Name an order, such as O-1042.")
    if found is None:
        return Use("find_order", {"order": order})
    if seen.failed("find_order"):
        return Say(found)
    facts = msgspec.json.decode(found, type=Order)
    goods = ", ".join(f"{item.quantity} x {item.product}" for item in facts.items)
    return Say(f"{order}: {goods}; {money(facts.cents)}, placed {facts.placed}, {facts.status}.")


RULES: tuple[tuple[str, Callable[[Seen], Step]], ...] = (
    (r"^answer (the )?mail", answer_mail),
    (r"^refund\b", refund),
    (r"\bcourier\b", fetch),
    (r"asked you so far", recount),
    (r"^please remember\b", remember),
    (r"\byou remember\b", recall),
)


# --- tokens -----------------------------------------------------------------------------------------------------------


def message_tokens(message: Message) -> int:
    return sum(part_tokens(part) for part in message.parts)


def part_tokens(part: object) -> int:
    match part:
        case Text(text=text):
            return tokens(text)
        case ToolCall(arguments=arguments):
            return tokens(arguments)
        case ToolResult(parts=parts):
            return tokens(text_of(parts))
        case _:
            return 0


def tokens(text: str) -> int:
    return -(-len(text) // TOKEN_CHARACTERS)
