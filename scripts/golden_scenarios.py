"""The sessions behind the golden journals: one for each thing that can happen, as short as it can be."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from remanence.content import Image, Message, Text, Thinking, ToolCall, Usage
from remanence.core.builtins import ASK_HUMAN, OPEN_RESULT, SLEEP_UNTIL
from remanence.core.state import CLIENT_EPOCH, Doubt, Session, said
from remanence.events import (
    ApprovalGiven,
    BlocksShown,
    BudgetRaised,
    CancelAsked,
    CompactionBegun,
    ContextCompacted,
    Event,
    InputReceived,
    MemoryForgotten,
    MemoryKept,
    ModelCalled,
    ModelFailed,
    ModelReplied,
    Recalled,
    Recorded,
    Redacted,
    SessionAnnotated,
    SessionDeleted,
    SessionForked,
    SessionFrozen,
    SessionThawed,
    SessionUpgraded,
    ToolLost,
    ToolResolved,
    ToolReturned,
    ToolStarted,
)
from remanence.spec import (
    AgentSpec,
    AllowRule,
    AskRule,
    DenyRule,
    Limits,
    MemoryUse,
    ToolSpec,
    policy_digest,
    spec_digest,
)
from remanence.testing.journals import Script, Simulation, approved, dialogue, heard, simulate, wants
from remanence.testing.simulation import BEGINS_AT

SPEC = AgentSpec(
    "support",
    "scripted",
    instructions="Help with orders.",
    tools=(
        ToolSpec("find_order", replay="safe"),
        ToolSpec("send_mail", replay="keyed"),
        ToolSpec("refund"),
        ToolSpec("transfer", reconciles=True),
        ToolSpec("pick_colour", kind="client"),
        ASK_HUMAN,
        SLEEP_UNTIL,
    ),
    rules=(
        AllowRule("*"),
        AskRule("refund", "cents > 5000", approvers=("grace", "boss"), expires_s=3_600),
        DenyRule("refund", "cents > 100000", reason="never that much"),
    ),
    limits=Limits(window_tokens=2_000, output_tokens=500, repeats_before_asking=2),
)
SUMMARISING = replace(SPEC, limits=replace(SPEC.limits, window_tokens=700, compaction="model"))
REMEMBERING = replace(SPEC, memory=MemoryUse())
OPENING = replace(SPEC, tools=(*SPEC.tools, OPEN_RESULT))
STRICT = replace(SPEC, instructions="Help with orders. Ask first.", rules=(AllowRule("*"), AskRule("refund")))

KNOWN_SPECS = {spec_digest(spec): spec for spec in (SPEC, STRICT, SUMMARISING, REMEMBERING, OPENING)}

Scenario = Callable[[], list[Recorded]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(make: Scenario) -> Scenario:
    SCENARIOS[make.__name__] = make
    return make


# --- surroundings -----------------------------------------------------------------------------------------------------


def run(script: Script) -> list[Recorded]:
    return simulate(SPEC, script).records


def begun(script: Script, rounds: int, *, session: str = "s") -> Simulation:
    """A session that was spoken to and driven for some rounds, each with every effect it started."""
    simulation = Simulation(SPEC, script, session=session)
    simulation.tell(*script.inputs)
    for _ in range(rounds):
        step(simulation)
    return simulation


def step(simulation: Simulation) -> None:
    simulation.now += 1_000_000
    simulation.round()
    for call in tuple(simulation.in_flight):
        simulation.perform(call)


def ended(simulation: Simulation) -> list[Recorded]:
    """The records once nothing is left to do."""
    while True:
        before = len(simulation.records)
        step(simulation)
        if len(simulation.records) == before and not (simulation.facts or simulation.compacted):
            return simulation.records


def lost_in_transfer(started: ToolStarted, arguments: str) -> Event:
    if started.attempt == 1:
        return ToolLost(started.call, started.effect_key, started.tool, "no answer in time")
    return ToolReturned(started.call, said("transferred"))


def approve(s: Session) -> list[Event]:
    return [approved(s, call.call) for call in (s.turn.calls if s.turn else ()) if call.state == "asked"]


def refund_of(cents: int) -> Script:
    turn = [[wants("refund", order="42", cents=cents)], ["Done."]]
    return Script(dialogue(turn), inputs=(heard("Refund order 42", name="in_1"),))


# --- conversations ----------------------------------------------------------------------------------------------------


@scenario
def plain_chat() -> list[Recorded]:
    inputs = (heard("Hello", name="in_1"), InputReceived("in_2", (Text("And this?"), Image("image/png", data="aGk="))))
    return run(Script(dialogue([["Hi."]], [[Thinking("Let me see.", "sig", "p"), "A picture."]]), inputs=inputs))


@scenario
def one_tool() -> list[Recorded]:
    turn = [["Looking.", wants("find_order", order="42")], ["Order 42 is on its way."]]
    return run(Script(dialogue(turn), inputs=(heard("Where is order 42?", name="in_1"),)))


@scenario
def parallel_tools() -> list[Recorded]:
    three = [wants("find_order", order="42"), wants("send_mail", to="ada"), wants("refund", order="42", cents=900)]
    return run(Script(dialogue([three, ["All done."]]), inputs=(heard("Refund order 42", name="in_1"),)))


@scenario
def bad_calls() -> list[Recorded]:
    bad = [ToolCall("x", "refund", "{"), wants("no_such_tool"), wants("refund", order="42", cents=200_000)]
    return run(Script(dialogue([bad, ["I cannot."]]), inputs=(heard("Refund order 42", name="in_1"),)))


@scenario
def loop_asked_about() -> list[Recorded]:
    same = [[wants("find_order", order="42")]] * 3
    script = Script(dialogue([*same, ["Still nothing."]]), inputs=(heard("Find it", name="in_1"),))
    return run(replace(script, person=approve))


@scenario
def steer() -> list[Recorded]:
    turn = [[wants("find_order", order="42")], ["It was 43."]]
    simulation = begun(Script(dialogue(turn), inputs=(heard("Find order 42", name="in_1"),)), 1)
    simulation.tell(heard("Sorry, 43", name="in_2", if_busy="steer"))
    return ended(simulation)


@scenario
def interrupt() -> list[Recorded]:
    turn = [[wants("find_order", order="42")], ["never said"]]
    simulation = begun(Script(dialogue(turn, [["Stopped."]]), inputs=(heard("Find order 42", name="in_1"),)), 1)
    simulation.tell(heard("One more thing", name="in_2"), heard("Stop", name="in_3", if_busy="interrupt"))
    return ended(simulation)


@scenario
def question() -> list[Recorded]:
    turn = [[wants("ask_human", question="Which colour?", options=["red", "blue"])], ["Red it is."]]
    answer = InputReceived("in_2", (Text("red"),), "ada", answers="call_1_1_1")
    return run(Script(dialogue(turn), (heard("Order it", name="in_1"),), person=lambda s: [answer] if s.turn else []))


@scenario
def timer() -> list[Recorded]:
    turn = [[wants("sleep_until", seconds=86_400)], ["Good morning."]]
    return run(Script(dialogue(turn), inputs=(heard("Wake me tomorrow", name="in_1"),)))


@scenario
def client_tool() -> list[Recorded]:
    def client(s: Session) -> list[Event]:
        calls = s.turn.calls if s.turn else ()
        return [ToolReturned(c.call, said("red")) for c in calls if c.state == "running" and c.epoch == CLIENT_EPOCH]

    turn = [[wants("pick_colour")], ["Red it is."]]
    return run(Script(dialogue(turn), inputs=(heard("Pick one", name="in_1"),), person=client))


# --- approvals --------------------------------------------------------------------------------------------------------


@scenario
def approval_granted() -> list[Recorded]:
    return run(replace(refund_of(9_000), person=approve))


@scenario
def approval_denied() -> list[Recorded]:
    def deny(s: Session) -> list[Event]:
        return [replace(approved(s, "call_1_1_1", by="boss"), decision="deny", note="too much")]

    return run(replace(refund_of(9_000), person=deny))


@scenario
def approval_expired() -> list[Recorded]:
    return run(refund_of(9_000))


@scenario
def approval_waiting() -> list[Recorded]:
    simulation = begun(refund_of(9_000), 2)
    simulation.round()
    return simulation.records


@scenario
def upgrade() -> list[Recorded]:
    script = replace(refund_of(9_000), versions=(STRICT,), person=approve)
    simulation = begun(script, 2)
    simulation.round()
    simulation.tell(approved(simulation.folded(), "call_1_1_1"))
    simulation.tell(SessionUpgraded(spec_digest(STRICT), policy_digest(STRICT), "grace"))
    step(simulation)
    simulation.tell(approved(simulation.folded(), "call_1_1_1"))
    return ended(simulation)


# --- crashes and doubts -----------------------------------------------------------------------------------------------


@scenario
def resumed_after_a_crash() -> list[Recorded]:
    three = [wants("find_order", order="42"), wants("send_mail", to="ada")]
    simulation = begun(Script(dialogue([three, ["Done."]]), inputs=(heard("Go", name="in_1"),)), 1)
    simulation.round()
    simulation.happen("call_1_1_2")
    simulation.crash()
    step(simulation)
    simulation.round()
    simulation.crash()
    return ended(simulation)


def doubtful(tool: str) -> Simulation:
    turn = [[wants(tool, order="42", cents=900)], ["So be it."]]
    simulation = begun(Script(dialogue(turn), inputs=(heard("Refund order 42", name="in_1"),)), 1)
    simulation.round()
    simulation.happen("call_1_1_1")
    simulation.crash()
    simulation.round()
    return simulation


@scenario
def doubt_reconciled() -> list[Recorded]:
    def reconcile(doubt: Doubt, happened: bool) -> ToolResolved:
        return ToolResolved(doubt.call, "happened", "reconcile", said("transferred"))

    turn = [[wants("transfer", cents=900)], ["Transferred."]]
    inputs = (heard("Transfer it", name="in_1"),)
    return run(Script(dialogue(turn), inputs=inputs, tool=lost_in_transfer, reconcile=reconcile))


@scenario
def doubt_resolved() -> list[Recorded]:
    simulation = doubtful("refund")
    simulation.tell(ToolResolved("call_1_1_1", "happened", "grace", said("It is in the books."), note="checked"))
    return ended(simulation)


@scenario
def doubt_run_again() -> list[Recorded]:
    simulation = doubtful("refund")
    simulation.tell(ToolResolved("call_1_1_1", "run_again", "grace", note="not in the books"))
    return ended(simulation)


@scenario
def doubt_given_up() -> list[Recorded]:
    simulation = doubtful("refund")
    simulation.tell(ToolResolved("call_1_1_1", "give_up", "grace"))
    return ended(simulation)


@scenario
def doubt_left_by_a_cancel() -> list[Recorded]:
    simulation = doubtful("refund")
    simulation.tell(CancelAsked("ada", "never mind", 1))
    return ended(simulation)


@scenario
def cancel() -> list[Recorded]:
    simulation = begun(refund_of(900), 1)
    simulation.round()
    simulation.tell(CancelAsked("ada", "never mind", 1))
    return ended(simulation)


@scenario
def cancel_before_it_began() -> list[Recorded]:
    simulation = begun(refund_of(900), 0)
    simulation.tell(CancelAsked("ada", "never mind", 1))
    return ended(simulation)


@scenario
def retry() -> list[Recorded]:
    def model(called: ModelCalled, messages: tuple[object, ...]) -> ModelReplied | ModelFailed:
        if called.attempt < 3:
            retry_at = BEGINS_AT + called.attempt * 1_000_000
            return ModelFailed(called.call, "overloaded", "The provider is overloaded.", retry_at)
        return ModelReplied(called.call, (Text("At last."),), Usage(12, 3), 15)

    return run(Script(model, inputs=(heard("Hello", name="in_1"),)))


@scenario
def model_failed() -> list[Recorded]:
    def model(called: ModelCalled, messages: tuple[object, ...]) -> ModelFailed:
        return ModelFailed(called.call, "authentication", "The key is wrong.")

    return run(Script(model, inputs=(heard("Hello", name="in_1"),)))


# --- budgets, freezes, memory -----------------------------------------------------------------------------------------


@scenario
def budget_reached_and_raised() -> list[Recorded]:
    def raise_it(s: Session) -> list[Event]:
        return [BudgetRaised(s.pause.scope, s.pause.unit, 100_000, "grace")] if s.pause else []

    script = replace(refund_of(900), person=raise_it, budgets={("session:s", "usd_micros"): 3_000})
    return run(script)


@scenario
def frozen_and_thawed() -> list[Recorded]:
    simulation = begun(refund_of(900), 1)
    simulation.tell(SessionFrozen("grace", "looking into it"))
    step(simulation)
    simulation.tell(heard("Hurry", name="in_2"))
    step(simulation)
    simulation.tell(SessionThawed("grace", "all well"))
    return ended(simulation)


@scenario
def frozen() -> list[Recorded]:
    simulation = begun(refund_of(900), 1)
    simulation.tell(SessionFrozen("grace"))
    step(simulation)
    return simulation.records


@scenario
def memory() -> list[Recorded]:
    simulation = begun(Script(dialogue([["Noted."]]), inputs=(heard("I like red", name="in_1"),)), 2)
    simulation.tell(MemoryKept("ada", "mem_1", "likes red", source=2, subjects=("colour",)))
    simulation.tell(MemoryKept("ada", "mem_2", "likes blue", source=2, supersedes="mem_1"))
    simulation.tell(MemoryForgotten("ada", "mem_2", "ada", "asked to"))
    return simulation.records


@scenario
def annotated_and_deleted() -> list[Recorded]:
    simulation = begun(refund_of(900), 1)
    simulation.tell(SessionAnnotated({"case": "7"}, {"store": True, "items": [1, "two", None]}, "ada"))
    simulation.round()
    simulation.tell(SessionDeleted("ada", "asked to"))
    return ended(simulation)


# --- windows, forks, redaction ----------------------------------------------------------------------------------------


@scenario
def window_cut() -> list[Recorded]:
    turns = [[["A long answer. " * 60]] for _ in range(12)]
    return run(Script(dialogue(*turns), inputs=tuple(heard(f"Question {n}", name=f"in_{n}") for n in range(1, 13))))


@scenario
def long_turn_cut() -> list[Recorded]:
    steps = [[wants("find_order", order=str(n), note="x" * 900)] for n in range(12)]
    return run(Script(dialogue([*steps, ["Found them all."]]), inputs=(heard("Find them", name="in_1"),)))


@scenario
def compaction() -> list[Recorded]:
    turns = [[["First."]], [["Second."]], [[wants("find_order", order="42")], ["Third."]], [["Fourth."]]]
    script = Script(dialogue(*turns), inputs=(heard("One", name="in_1"), heard("Two", name="in_2")))
    simulation = Simulation(SPEC, script)
    simulation.tell(*script.inputs)
    ended(simulation)
    simulation.tell(ContextCompacted(1, (Text("They counted to one."),), "model_2_1"), actor="worker-1")
    simulation.tell(heard("Three", name="in_3"), heard("Four", name="in_4"))
    return ended(simulation)


def orders(turns: int) -> Script:
    lines = [[[wants("find_order", order=f"A-{n}77")], [f"A-{n}77 is {'on its way ' * 8}."]] for n in range(turns)]
    inputs = tuple(heard(f"Where is A-{n}77, after A-{max(0, n - 1)}77?", name=f"in_{n}") for n in range(turns))
    return Script(dialogue(*lines), inputs=inputs)


@scenario
def compaction_by_model() -> list[Recorded]:
    """The first summary leaves out what is in use and is thrown away; the others lead later windows."""

    def summary(begun: CompactionBegun, messages: tuple[Message, ...]) -> ContextCompacted:
        words = f"{len(messages) - 1} messages about {', '.join(begun.keep)}" if begun.call != first else "They talked."
        return ContextCompacted(begun.through_turn, said(words), begun.call, begun.skipped, Usage(300, 20), 320)

    first = next(
        record.event.call
        for record in simulate(SUMMARISING, orders(12)).records
        if isinstance(record.event, CompactionBegun)
    )
    return simulate(SUMMARISING, replace(orders(12), summary=summary)).records


@scenario
def compaction_by_rule() -> list[Recorded]:
    """The window is full, is cut, and what leaves it is summarised; the results before that were cleared."""

    def found(started: ToolStarted, arguments: str) -> Event:
        return ToolReturned(
            started.call, said(f'{{"order": {arguments}, "note": "{"n" * 1_500}", "customer": "cus_9x"}}')
        )

    return simulate(OPENING, replace(orders(16), tool=found)).records


@scenario
def recalled() -> list[Recorded]:
    """A note of the first turn is recalled in the second; a block stands behind the instructions of both."""
    script = Script(dialogue([["Noted."]], [["A blue one."]]), inputs=(heard("I like blue", name="in_1"),))
    simulation = Simulation(REMEMBERING, script)
    simulation.tell(MemoryKept("default", "mem_1", "Ada likes blue", source=2), actor="ada")
    simulation.tell(BlocksShown((Recalled("mem_1", 1, "s", 2, "block"),)), actor="worker-1")
    simulation.tell(*script.inputs)
    ended(simulation)
    remembered = Recalled("mem_1", 1, "s", 2, untrusted=True, why=("words: colour",))
    simulation.recall = (remembered,)
    simulation.tell(heard("Which colour?", name="in_2"))
    return ended(simulation)


@scenario
def fork() -> list[Recorded]:
    """A fork in the middle of a step: the fork's own records chain on the source's digest there."""
    simulation = begun(refund_of(900), 1, session="source")
    simulation.round()
    simulation.session = "s"
    simulation.tell(SessionForked("source", len(simulation.records), "Another try", "ada", {"why": "test"}))
    simulation.crash()
    simulation.tell(heard("And now?", name="in_2"))
    return ended(simulation)


@scenario
def redaction() -> list[Recorded]:
    three = [wants("find_order", order="42"), wants("send_mail", to="ada"), wants("refund", order="42", cents=9_000)]
    script = Script(dialogue([three, ["Done."]]), inputs=(heard("My name is Ada", name="in_1"),))
    records = run(replace(script, person=approve))
    said_by = (InputReceived, ModelReplied, ToolReturned, ApprovalGiven)
    simulation = Simulation(SPEC, script)
    simulation.records = records
    simulation.tell(
        *(Redacted(r.position, "grace", "asked to") for r in tuple(records) if isinstance(r.event, said_by))
    )
    return simulation.records
