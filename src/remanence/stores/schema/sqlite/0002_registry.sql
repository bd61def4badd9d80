-- Declared things that are no session and no agent's version: API keys, agents as a wire format names them. `seq` is the
-- order in which they were made; `body` is JSON.

CREATE TABLE registry (
    seq        INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL,
    id         TEXT NOT NULL,
    project    TEXT NOT NULL,
    at         INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    body       BLOB NOT NULL,
    UNIQUE (kind, id)
);

CREATE INDEX registry_by_project ON registry (kind, project, seq);
