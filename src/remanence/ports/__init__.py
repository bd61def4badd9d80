"""The doors: what the pure core and the runtime need from the outside, and nothing else.

    store     journals and leases, and the small tables that every effect's transaction looks at
    views     what lists and screens ask, and what administrators declare
    memory    the index of long-term memory, and the vectors beside it
    database  one backend, opened: the three above
    effects   models and tools
    live      what is happening now
    bus       the way it takes to other processes
    clock     time

What goes through a door is spelled in `values`; both are imported from here.
"""

from remanence.ports.bus import Bus
from remanence.ports.clock import Clock, Signal, Waiter
from remanence.ports.database import Database
from remanence.ports.effects import Model, Tool, Toolbox
from remanence.ports.live import Live, Streaming, Subscription, Want
from remanence.ports.memory import Embedder, Memories, MemoryVectors
from remanence.ports.store import Blobs, Controls, Reading, Specs, Store
from remanence.ports.views import Registry, Screens, Views
from remanence.values import (
    HOLDING_MAX,
    Appended,
    Budget,
    Charge,
    Cursor,
    Delta,
    DeltaKind,
    Entry,
    EntryQuery,
    Fork,
    Hold,
    Lease,
    Loaded,
    ModelReply,
    ModelRequest,
    OnDelta,
    RawRecord,
    Release,
    SessionQuery,
    SessionRow,
    Summary,
    ToolCallContext,
    ToolOutcome,
    UsageQuery,
    UsageRow,
    Version,
    Write,
)

__all__ = [
    "Appended",
    "Blobs",
    "Budget",
    "Bus",
    "Charge",
    "Clock",
    "Controls",
    "Cursor",
    "Database",
    "Delta",
    "DeltaKind",
    "Embedder",
    "Entry",
    "HOLDING_MAX",
    "EntryQuery",
    "Fork",
    "Hold",
    "Lease",
    "Live",
    "Loaded",
    "Memories",
    "MemoryVectors",
    "Model",
    "ModelReply",
    "ModelRequest",
    "OnDelta",
    "RawRecord",
    "Reading",
    "Registry",
    "Release",
    "Screens",
    "SessionQuery",
    "SessionRow",
    "Signal",
    "Specs",
    "Store",
    "Streaming",
    "Subscription",
    "Summary",
    "Tool",
    "ToolCallContext",
    "ToolOutcome",
    "Toolbox",
    "UsageQuery",
    "UsageRow",
    "Version",
    "Views",
    "Waiter",
    "Want",
    "Write",
]
