-- What screens ask besides lists: a projection of the journals, made again from them whenever it is emptied.
--
-- `search_words` holds one row for each record that says something: its words, each once, already without case and
-- accents. Only whether a word is there is asked, so no positions are kept.

CREATE TABLE search_words (
    sid      bigint NOT NULL,
    position bigint NOT NULL,
    words    tsvector NOT NULL,
    PRIMARY KEY (sid, position)
);

CREATE INDEX search_words_by_word ON search_words USING gin (words);

CREATE TABLE search_tags (
    sid   bigint NOT NULL,
    key   text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (sid, key)
);

CREATE INDEX search_tags_by_value ON search_tags (key, value);

CREATE TABLE search_doubts (
    sid  bigint NOT NULL,
    call text COLLATE "C" NOT NULL,
    PRIMARY KEY (sid, call)
);

CREATE TABLE turn_minutes (
    project   text COLLATE "C" NOT NULL,
    minute    bigint NOT NULL,
    completed bigint NOT NULL,
    failed    bigint NOT NULL,
    cancelled bigint NOT NULL,
    PRIMARY KEY (project, minute)
) WITH (fillfactor = 70);
