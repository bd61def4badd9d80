-- The journal and the small tables beside it. Everything lives in the schema `remanence`, which the caller has created
-- and put first on the search path.
--
-- Times are microseconds since 1970-01-01 UTC, money is micro-USD, digests are 32 bytes of SHA-256.
-- Columns stand in the order that pads least. Rows of `sessions` change several times in a turn, so their pages keep
-- room for the next version beside the last (HOT), and no index covers a column that every write changes.

CREATE TABLE sessions (
    sid               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    head              bigint NOT NULL,
    epoch             integer NOT NULL DEFAULT 0,
    lease_until       bigint,
    wake_at           bigint,
    opened_at         bigint NOT NULL,
    updated_at        bigint NOT NULL,
    effect_at         timestamptz,         -- the last intent of an effect, by the server's clock: a freeze's proof
    effect_position   bigint,
    fork_sid          bigint,
    fork_position     bigint,
    frozen            bigint NOT NULL DEFAULT 0,   -- the position of a standing freeze of this session
    snapshot_position bigint NOT NULL DEFAULT 0,
    usd_micros        bigint NOT NULL DEFAULT 0,
    tokens            bigint NOT NULL DEFAULT 0,
    turns             integer NOT NULL DEFAULT 0,
    updated_minute    integer NOT NULL,    -- never goes back; indexed in place of updated_at, which every write changes
    behind            boolean NOT NULL DEFAULT true,   -- some projection may not have read up to the head
    id                text COLLATE "C" NOT NULL UNIQUE,
    worker            text,
    status            text NOT NULL,
    waiting_on        text NOT NULL DEFAULT '',
    project           text NOT NULL,
    agent             text NOT NULL,
    version           text NOT NULL,
    user_name         text NOT NULL DEFAULT '',
    title             text NOT NULL DEFAULT '',
    needs             text COLLATE "C" NOT NULL DEFAULT '',
    digest            bytea NOT NULL,
    snapshot          bytea
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX sessions_due ON sessions (needs, wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX sessions_leased ON sessions (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX sessions_behind ON sessions (sid) WHERE behind;
CREATE INDEX sessions_recent ON sessions (updated_minute);
CREATE INDEX sessions_waiting ON sessions (waiting_on) WHERE waiting_on <> '';
CREATE INDEX sessions_forks ON sessions (fork_sid) WHERE fork_sid IS NOT NULL;

-- A row holds the records of one write, which share its time, epoch and actor; `position` is that of the last. That is
-- half the rows and index entries of one row for each record, and half the work.
--   payloads   the events' JSON, bytes exact, one after the other
--   sizes      of each payload in bytes, four big-endian bytes for each record
--   digests    of each record, 32 bytes each
--   originals  empty while every payload is as written; else 32 bytes for each record: zeros where it is, else the
--              digest of the original, which lies in the blobs when the payload here is empty, else was redacted
-- No column is ever null, which spares every row the eight bytes that would say which are.
CREATE TABLE records (
    sid       bigint NOT NULL,
    position  bigint NOT NULL,
    at        bigint NOT NULL,
    epoch     integer NOT NULL,
    actor     text NOT NULL,
    payloads  bytea NOT NULL,
    sizes     bytea NOT NULL,
    digests   bytea NOT NULL,
    originals bytea NOT NULL DEFAULT '',
    PRIMARY KEY (sid, position)
);

CREATE TABLE blobs (
    digest  bytea PRIMARY KEY,
    content bytea NOT NULL
);

-- Which records need a blob: their own large payload, or one that the event names. The last to go takes it along.
CREATE TABLE blob_uses (
    digest   bytea NOT NULL,
    sid      bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (sid, position, digest)
);

CREATE INDEX blob_uses_by_digest ON blob_uses (digest);

CREATE TABLE idempotency_keys (
    key            text COLLATE "C" PRIMARY KEY,
    body_digest    text NOT NULL,
    sid            bigint NOT NULL,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL,
    at             bigint NOT NULL
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);

CREATE TABLE budgets (
    scope    text COLLATE "C" NOT NULL,
    unit     text COLLATE "C" NOT NULL,
    ceiling  bigint NOT NULL,
    spent    bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    at       bigint NOT NULL,
    PRIMARY KEY (scope, unit)
) WITH (fillfactor = 50);

CREATE TABLE reservations (
    key    text COLLATE "C" NOT NULL,
    scope  text COLLATE "C" NOT NULL,
    unit   text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (key, scope, unit)
);

CREATE TABLE holds (
    scope           text COLLATE "C" PRIMARY KEY,
    at              bigint NOT NULL,
    held_by         text NOT NULL,
    reason          text NOT NULL,
    effect_session  text,
    effect_position bigint
);

CREATE TABLE versions (
    project text COLLATE "C" NOT NULL,
    agent   text COLLATE "C" NOT NULL,
    number  integer NOT NULL,
    version text COLLATE "C" NOT NULL,
    at      bigint NOT NULL,
    spec    bytea NOT NULL,
    PRIMARY KEY (project, agent, number),
    UNIQUE (project, agent, version)
);

CREATE INDEX versions_by_digest ON versions (version);

CREATE TABLE projections (
    name text COLLATE "C" PRIMARY KEY
);

INSERT INTO projections VALUES ('usage');

CREATE TABLE cursors (
    projection text COLLATE "C" NOT NULL,
    sid        bigint NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (projection, sid)
) WITH (fillfactor = 70);

CREATE TABLE usage_hours (
    hour               bigint NOT NULL,    -- the first microsecond of the hour
    sid                bigint NOT NULL,
    agent              text NOT NULL,
    user_name          text NOT NULL,
    project            text NOT NULL,
    model              text NOT NULL,
    calls              bigint NOT NULL,
    unpriced_calls     bigint NOT NULL,
    usd_micros         bigint NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cached_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens   bigint NOT NULL,
    PRIMARY KEY (sid, hour, model, agent, user_name, project)
) WITH (fillfactor = 70);
