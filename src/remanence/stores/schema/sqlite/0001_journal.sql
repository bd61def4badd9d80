-- The journal and the small tables beside it.
--
-- Times are microseconds since 1970-01-01 UTC, money is micro-USD, digests are 32 bytes of SHA-256. A session is known
-- inside by a small integer. What changes with every write (`heads`) is apart from what seldom does, so that a write
-- touches few pages. The tables every write touches declare no NOT NULL: a statement over many rows that may abort half
-- way would have to copy every page it touches first.

CREATE TABLE sessions (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    opened_at     INTEGER NOT NULL,
    fork_id       INTEGER,
    fork_position INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX sessions_forks ON sessions (fork_id) WHERE fork_id IS NOT NULL;

CREATE TABLE heads (
    id          INTEGER PRIMARY KEY,
    head        INTEGER,
    digest      BLOB,
    updated_at  INTEGER,
    updated_minute INTEGER,         -- of updated_at; indexed in its place, because every write changes that
    epoch       INTEGER,
    worker      TEXT,
    lease_until INTEGER,
    wake_at     INTEGER,
    frozen      INTEGER,            -- position of a standing freeze of this session, 0 for none
    needs       TEXT,
    behind      INTEGER             -- 1 while some projection may not have read up to the head
);

CREATE INDEX heads_due ON heads (needs, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX heads_leased ON heads (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX heads_recent ON heads (updated_minute);
CREATE INDEX heads_behind ON heads (id) WHERE behind = 1;

CREATE TABLE summaries (
    id         INTEGER PRIMARY KEY,
    agent      TEXT,
    version    TEXT,
    project    TEXT,
    user_name  TEXT,
    status     TEXT,
    waiting_on TEXT,
    title      TEXT,
    turns      INTEGER,
    usd_micros INTEGER,
    tokens     INTEGER
);

CREATE INDEX summaries_not_idle ON summaries (status) WHERE status <> 'idle';

-- A snapshot is a cache: the journal can always be folded from zero.
CREATE TABLE snapshots (
    id       INTEGER PRIMARY KEY,
    position INTEGER,
    state    BLOB
);

-- place = session id * 2^32 + position: one integer key keeps a journal together, and unlike a composite primary key it
-- lets a record of some kilobytes stay in its page. A payload is the event's JSON, bytes exact; `payload_digest` is set
-- only where the payload is not the original:
--   payload, no digest    as written
--   no payload, digest    large: the bytes are the blob of that digest
--   payload and digest    redacted: the skeleton, and the digest of what was there
CREATE TABLE records (
    place          INTEGER PRIMARY KEY,
    at             INTEGER,
    epoch          INTEGER,
    actor          TEXT,
    payload        BLOB,
    digest         BLOB,
    payload_digest BLOB
);

-- The journal as a person reads it.
CREATE VIEW journal AS
SELECT sessions.name AS session, records.place & 4294967295 AS position, records.at, records.epoch, records.actor,
       CAST(records.payload AS TEXT) AS payload, lower(hex(records.digest)) AS digest
FROM records JOIN sessions ON sessions.id = records.place >> 32;

CREATE TABLE blobs (
    digest  BLOB PRIMARY KEY,
    content BLOB NOT NULL
);

-- Which records a blob belongs to: it is erased with the last of them.
CREATE TABLE blob_uses (
    digest BLOB NOT NULL,
    place  INTEGER NOT NULL,
    PRIMARY KEY (digest, place)
) WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    key         TEXT PRIMARY KEY,
    body_digest TEXT NOT NULL,
    first_place INTEGER NOT NULL,
    last_place  INTEGER NOT NULL,
    at          INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);

CREATE TABLE budgets (
    scope    TEXT NOT NULL,
    unit     TEXT NOT NULL,
    ceiling  INTEGER NOT NULL,
    spent    INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    at       INTEGER NOT NULL,
    PRIMARY KEY (scope, unit)
) WITHOUT ROWID;

CREATE TABLE reservations (
    key    TEXT NOT NULL,
    scope  TEXT NOT NULL,
    unit   TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (key, scope, unit)
) WITHOUT ROWID;

CREATE TABLE holds (
    scope           TEXT PRIMARY KEY,
    at              INTEGER NOT NULL,
    held_by         TEXT NOT NULL,
    reason          TEXT NOT NULL,
    effect_session  TEXT,
    effect_position INTEGER
) WITHOUT ROWID;

-- The newest intent of an effect under each scope: what a freeze shows as its proof.
CREATE TABLE effects (
    scope TEXT PRIMARY KEY,
    place INTEGER
) WITHOUT ROWID;

CREATE TABLE versions (
    project TEXT NOT NULL,
    agent   TEXT NOT NULL,
    number  INTEGER NOT NULL,
    version TEXT NOT NULL,
    at      INTEGER NOT NULL,
    spec    BLOB NOT NULL,
    PRIMARY KEY (project, agent, number),
    UNIQUE (project, agent, version)
);

CREATE INDEX versions_by_digest ON versions (version);

CREATE TABLE projections (name TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE cursors (
    projection TEXT NOT NULL,
    id         INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    PRIMARY KEY (projection, id)
) WITHOUT ROWID;

CREATE TABLE usage_hours (
    id                 INTEGER NOT NULL,
    hour               INTEGER NOT NULL,    -- the first microsecond of the hour
    model              TEXT NOT NULL,
    agent              TEXT NOT NULL,
    user_name          TEXT NOT NULL,
    project            TEXT NOT NULL,
    calls              INTEGER NOT NULL,
    unpriced_calls     INTEGER NOT NULL,
    usd_micros         INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    PRIMARY KEY (id, hour, model, agent, user_name, project)
) WITHOUT ROWID;
