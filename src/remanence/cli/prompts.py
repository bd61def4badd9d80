"""`sessions prompt`: what a past model call was sent, word for word."""

from __future__ import annotations

import click
import msgspec

from remanence.cli.command import Command, Format, Invocation, asynchronous
from remanence.cli.output import counted, facts, moment, note, say, show
from remanence.commands.prompts import PromptShape
from remanence.content import Message, Part, Text, Thinking, ToolCall, ToolResult

__all__ = ["prompt"]


@click.command(cls=Command, shape=PromptShape)
@click.argument("session", metavar="ID")
@click.argument("model_call", metavar="CALL")
@asynchronous
async def prompt(call: Invocation, session: str, model_call: str, *, output: Format) -> None:
    """The exact prompt of a past model call, rebuilt from the journal and proved by its digest.

    CALL is the id of the call, such as model_3_1 (`sessions tail` shows them), or the number of its record.
    """
    from remanence.cli.choosing import session_called

    async with call.reach() as reach:
        found = await reach.journals.prompt(await session_called(reach, session), model_call)
    show(found, output, lambda: _print_prompt(found))


def _print_prompt(found: PromptShape) -> None:
    proof = "exact: the digest of these very bytes is in the journal" if found.exact else "NOT exact"
    facts(
        [
            ("call", f"{found.call}, attempt {found.attempt}, record {found.position}, {moment(found.at)}"),
            ("model", found.model),
            ("proof", proof),
            ("digest", found.digest),
            ("tools", ", ".join(str(tool["name"]) for tool in found.tools)),
            ("messages", counted(len(found.messages), "message")),
        ]
    )
    say(f"\n--- instructions ---\n{found.instructions}")
    for number, message in enumerate(msgspec.convert(found.messages, list[Message]), start=1):
        say(f"\n--- {number} {message.role} ---")
        for part in message.parts:
            say(_part_words(part))
    if not found.exact:
        note(
            "\nThe digest does not fit any more: something of this prompt, or of what it pointed at, was erased since."
        )


def _part_words(part: Part) -> str:
    match part:
        case Text(text=text):
            return text
        case Thinking(text=text):
            return f"[thinking] {text}"
        case ToolCall(call=call, name=name, arguments=arguments):
            return f"[call {call}] {name}({arguments})"
        case ToolResult(call=call, name=name, parts=parts, error=error):
            words = "\n".join(_part_words(inner) for inner in parts)
            return f"[{'error' if error else 'result'} of {call} {name}] {words}"
        case _:
            return f"[{type(part).__name__.lower()}]"
