-- The index of long-term memory: a projection of the journals, made again from them at any time.
--
-- A memory lies in a place (project, store, scope) and has a number there, its document: see core/memory/entries.py.
-- Times are microseconds since 1970-01-01 UTC.

CREATE TABLE memory_places (
    place    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sessions bigint NOT NULL DEFAULT 0,
    memories bigint NOT NULL DEFAULT 0,
    words    bigint NOT NULL DEFAULT 0,
    project  text COLLATE "C" NOT NULL,
    store    text COLLATE "C" NOT NULL,
    scope    text COLLATE "C" NOT NULL,
    UNIQUE (project, store, scope)
) WITH (fillfactor = 50);

CREATE TABLE memory_sessions (
    place   bigint NOT NULL,
    no      bigint NOT NULL,
    ordinal bigint NOT NULL,
    session text COLLATE "C" NOT NULL,
    PRIMARY KEY (place, session)
) WITH (fillfactor = 70);

CREATE TABLE memories (
    place       bigint NOT NULL,
    document    bigint NOT NULL,
    position    bigint NOT NULL,
    recorded_at bigint NOT NULL,
    closed_at   bigint,                 -- believed no longer since then
    valid_from  bigint,
    valid_to    bigint,
    ended_at    bigint,                 -- true until then, as was learned when it was closed
    expires_at  bigint,
    version     integer NOT NULL,
    asks        smallint NOT NULL,
    project     text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    session     text COLLATE "C" NOT NULL,
    author      text NOT NULL,
    speaker     text NOT NULL,
    subjects    text NOT NULL,          -- a JSON array
    label       text NOT NULL,
    text        text NOT NULL,
    PRIMARY KEY (place, document)
);

CREATE UNIQUE INDEX memories_by_id ON memories (project, id, version);
CREATE INDEX memories_by_session ON memories (session, position);

CREATE TABLE memory_subjects (
    place    bigint NOT NULL,
    document bigint NOT NULL,
    project  text COLLATE "C" NOT NULL,
    subject  text COLLATE "C" NOT NULL,
    PRIMARY KEY (project, subject, place, document)
);

-- Closings are kept for themselves: a version may be indexed after what closed it.
CREATE TABLE memory_closings (
    at       bigint NOT NULL,
    valid_to bigint,
    project  text COLLATE "C" NOT NULL,
    id       text COLLATE "C" NOT NULL,
    PRIMARY KEY (project, id, at)
);

-- The place is the first term of the key: a question never touches the words of a place it may not read.
-- Entries are rewritten with each memory that has the word, so pages keep room for the next version (HOT).
CREATE TABLE memory_words (
    place   bigint NOT NULL,
    chunk   bigint NOT NULL,
    word    text COLLATE "C" NOT NULL,
    entries bytea NOT NULL,             -- 8 bytes for each memory that has the word
    PRIMARY KEY (place, word, chunk)
) WITH (fillfactor = 70);

CREATE TABLE memory_names (
    place    bigint NOT NULL,
    memories bigint NOT NULL,           -- how many are spoken under it
    name     text COLLATE "C" NOT NULL,
    PRIMARY KEY (place, name)
) WITH (fillfactor = 70);
