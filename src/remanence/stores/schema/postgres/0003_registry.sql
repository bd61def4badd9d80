-- Declared things that are no session and no agent's version: API keys, agents as a wire format names them. `seq` is the
-- order in which they were made; `body` is JSON.

CREATE TABLE registry (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         bigint NOT NULL,
    updated_at bigint NOT NULL,
    revision   bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    project    text COLLATE "C" NOT NULL,
    body       bytea NOT NULL,
    UNIQUE (kind, id)
);

CREATE INDEX registry_by_project ON registry (kind, project, seq);
