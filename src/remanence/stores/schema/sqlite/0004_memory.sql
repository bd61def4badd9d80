-- The index of long-term memory: a projection of the journals, made again from them at any time.
--
-- A memory lies in a place (project, store, scope) and has a number there, its document: see core/memory/entries.py.
-- Times are microseconds since 1970-01-01 UTC.

CREATE TABLE memory_places (
    place    INTEGER PRIMARY KEY,
    project  TEXT NOT NULL,
    store    TEXT NOT NULL,
    scope    TEXT NOT NULL,
    sessions INTEGER NOT NULL,
    memories INTEGER NOT NULL,
    words    INTEGER NOT NULL,
    UNIQUE (project, store, scope)
);

CREATE TABLE memory_sessions (
    place   INTEGER NOT NULL,
    session TEXT NOT NULL,
    no      INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (place, session)
) WITHOUT ROWID;

CREATE TABLE memories (
    place       INTEGER NOT NULL,
    document    INTEGER NOT NULL,
    asks        INTEGER NOT NULL,
    project     TEXT NOT NULL,
    id          TEXT NOT NULL,
    version     INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    text        TEXT NOT NULL,
    session     TEXT NOT NULL,
    position    INTEGER NOT NULL,
    author      TEXT NOT NULL,
    speaker     TEXT NOT NULL,
    subjects    TEXT NOT NULL,          -- a JSON array
    label       TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    closed_at   INTEGER,                -- believed no longer since then
    valid_from  INTEGER,
    valid_to    INTEGER,
    ended_at    INTEGER,                -- true until then, as was learned when it was closed
    expires_at  INTEGER,
    PRIMARY KEY (place, document)
) WITHOUT ROWID;

CREATE UNIQUE INDEX memories_by_id ON memories (project, id, version);
CREATE INDEX memories_by_session ON memories (session, position);

CREATE TABLE memory_subjects (
    project  TEXT NOT NULL,
    subject  TEXT NOT NULL,
    place    INTEGER NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (project, subject, place, document)
) WITHOUT ROWID;

-- Closings are kept for themselves: a version may be indexed after what closed it.
CREATE TABLE memory_closings (
    project  TEXT NOT NULL,
    id       TEXT NOT NULL,
    at       INTEGER NOT NULL,
    valid_to INTEGER,
    PRIMARY KEY (project, id, at)
) WITHOUT ROWID;

-- The place is the first term of the key: a question never touches the words of a place it may not read.
CREATE TABLE memory_words (
    place   INTEGER NOT NULL,
    word    TEXT NOT NULL,
    chunk   INTEGER NOT NULL,
    entries BLOB NOT NULL,              -- 8 bytes for each memory that has the word
    PRIMARY KEY (place, word, chunk)
) WITHOUT ROWID;

CREATE TABLE memory_names (
    place    INTEGER NOT NULL,
    name     TEXT NOT NULL,
    memories INTEGER NOT NULL,          -- how many are spoken under it
    PRIMARY KEY (place, name)
) WITHOUT ROWID;
