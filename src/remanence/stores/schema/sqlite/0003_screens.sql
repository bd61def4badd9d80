-- What screens ask besides lists: a projection of the journals, made again from them whenever it is emptied.
--
-- `search_words` holds one row for each record that says something, under its place; its text is the record's words,
-- each once, already without case and accents, so the tokenizer has nothing left to do but to part them at spaces.
-- Only whether a word is there is asked, so no positions and no lengths are kept.

CREATE VIRTUAL TABLE search_words USING fts5 (words, tokenize = 'ascii', detail = 'none', columnsize = 0);

CREATE TABLE search_tags (
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    id    INTEGER NOT NULL,
    PRIMARY KEY (key, value, id)
) WITHOUT ROWID;

CREATE INDEX search_tags_by_session ON search_tags (id);

CREATE TABLE search_doubts (
    id   INTEGER NOT NULL,
    call TEXT NOT NULL,
    PRIMARY KEY (id, call)
) WITHOUT ROWID;

CREATE TABLE turn_minutes (
    project   TEXT NOT NULL,
    minute    INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    PRIMARY KEY (project, minute)
) WITHOUT ROWID;

-- A session at rest may wait too: for somebody to settle an effect in doubt.
CREATE INDEX summaries_waiting ON summaries (waiting_on) WHERE waiting_on <> '';
