"""A database around another one: all of it is passed through, and a subclass replaces the parts it is about."""

from __future__ import annotations

from remanence.ports import Blobs, Bus, Database, Memories, Store

__all__ = ["DatabaseAround"]


class DatabaseAround:
    """The parts of `database`. A part that subclasses replace is declared as its port."""

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.store: Store = database.store
        self.specs = database.specs
        self.blobs: Blobs = database.blobs
        self.controls = database.controls
        self.views = database.views
        self.screens = database.screens
        self.memories: Memories = database.memories
        self.memory_vectors = database.memory_vectors
        self.registry = database.registry
        self.bus: Bus = database.bus
        self.raw = database.raw
        self.snapshots = database.snapshots
        self.drop_snapshots = database.drop_snapshots
        self.clear_snapshots = database.clear_snapshots
        self.restore = database.restore
        self.prune_keys = database.prune_keys
        self.naming = database.naming
        self.rename_user = database.rename_user
        self.scrub = database.scrub
        self.files = database.files
        self.close = database.close
