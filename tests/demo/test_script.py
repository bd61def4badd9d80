"""The scripted model: the same window, the same reply; whatever the mailbox holds."""

from __future__ import annotations

import msgspec

from remanence.content import Message, Text, ToolCall, ToolResult, text_of
from remanence.demo.script import reply
from remanence.demo.shop import mailbox, order_book
from remanence.ports import ModelReply, ModelRequest
from remanence.spec import ModelSettings


def ask(*messages: Message) -> ModelReply:
    settings = ModelSettings()
    return reply(ModelRequest("scripted", "Be brief.", messages, (), settings, 500, 60.0, "s:1:model_1_1"))


def person(text: str) -> Message:
    return Message("user", (Text(text),))


def look_into_the_shop(call: ToolCall) -> ToolResult:
    """What the read-only tools would answer; the others always say `done`."""
    arguments = msgspec.json.decode(call.arguments)
    if call.name == "read_mail":
        return answer(call, msgspec.json.encode(mailbox()[arguments["mail"]]).decode())
    if call.name == "find_order":
        order = order_book().get(arguments["order"])
        return answer(call, "no such order", error=True) if order is None else answer(call, msgspec.json.encode(order))
    return answer(call, "done")


def answer(call: ToolCall, text: str | bytes, *, error: bool = False) -> ToolResult:
    return ToolResult(call.call, call.name, (Text(text if isinstance(text, str) else text.decode()),), error)


def talk(question: str) -> tuple[list[ToolCall], str]:
    """Run one turn against the shop's records: the calls it made and its last word."""
    window, calls = [person(question)], list[ToolCall]()
    for _ in range(8):
        spoken = ask(*window)
        assert spoken == ask(*window)
        if not isinstance(call := spoken.parts[0], ToolCall):
            return calls, text_of(spoken.parts)
        calls.append(call)
        window += [Message("assistant", spoken.parts), Message("tool", (look_into_the_shop(call),))]
    raise AssertionError(f"no end: {[call.name for call in calls]}")


def test_every_mail_of_the_box_is_answered_once_to_its_sender() -> None:
    for number, mail in mailbox().items():
        calls, last = talk(f"Answer mail {number}.")
        assert last == f"{number}: done."
        written = [msgspec.json.decode(call.arguments) for call in calls if call.name == "send_mail"]
        assert [answer["recipient"] for answer in written] == [mail.sender], number
        assert len({call.call for call in calls}) == len(calls)


def test_it_pays_back_what_was_paid_unless_a_mail_talks_it_into_more() -> None:
    asked = {"O-1096": 0, "O-1124": 0}
    for number in ("M-0092", "M-0076"):
        calls, _ = talk(f"Answer mail {number}.")
        refund = msgspec.json.decode(next(call.arguments for call in calls if call.name == "refund"))
        asked[refund["order"]] = refund["cents"]
    assert asked == {"O-1096": order_book()["O-1096"].cents, "O-1124": 499_900}


def test_a_refund_that_was_refused_is_told_as_such() -> None:
    window = [person("Refund 1250 cents of order O-1042.")]
    call = ask(*window).parts[0]
    assert isinstance(call, ToolCall)
    window += [Message("assistant", (call,)), Message("tool", (answer(call, "not approved", error=True),))]
    assert text_of(ask(*window).parts) == "No money moved: not approved"


def test_only_the_window_counts() -> None:
    earlier = (person("first"), Message("assistant", (Text("one"),)))
    question = person("What have I asked you so far?")
    assert text_of(ask(*earlier, question).parts) == "You asked: first"
    assert text_of(ask(question).parts).startswith("Nothing yet")


def test_tokens_are_counted_in_and_out() -> None:
    usage = ask(person("x" * 400)).usage
    assert usage.input_tokens == 100 + len("Be brief.") // 4 + 1
    assert usage.output_tokens > 0
