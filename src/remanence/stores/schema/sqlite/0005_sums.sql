-- What was spent, once more, without the session and by the day: what the first page and the page of costs sum is then
-- a few rows for each day. `field` says what `name` is: agent, user, model, or nothing, which is everything of a day.

CREATE TABLE usage_days (
    project            TEXT NOT NULL,
    field              TEXT NOT NULL,
    day                INTEGER NOT NULL,    -- days since 1970
    name               TEXT NOT NULL,
    calls              INTEGER NOT NULL,
    unpriced_calls     INTEGER NOT NULL,
    usd_micros         INTEGER NOT NULL,
    input_tokens       INTEGER NOT NULL,
    output_tokens      INTEGER NOT NULL,
    cached_tokens      INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens   INTEGER NOT NULL,
    PRIMARY KEY (project, field, day, name)
) WITHOUT ROWID;

INSERT INTO usage_days
SELECT u.project, f.field, u.hour / 86400000000,
    CASE f.field WHEN 'agent' THEN u.agent WHEN 'user' THEN u.user_name WHEN 'model' THEN u.model ELSE '' END AS name,
    sum(u.calls), sum(u.unpriced_calls), sum(u.usd_micros), sum(u.input_tokens), sum(u.output_tokens),
    sum(u.cached_tokens), sum(u.cache_write_tokens), sum(u.reasoning_tokens)
FROM usage_hours u
CROSS JOIN (SELECT '' AS field UNION ALL SELECT 'agent' UNION ALL SELECT 'user' UNION ALL SELECT 'model') f
GROUP BY 1, 2, 3, 4;

-- The words are read again: they now hold who a session is for, so that a search for one person reads no others, and
-- the beginnings of words of two and three letters are found as fast as words.

DROP TABLE search_words;

CREATE VIRTUAL TABLE search_words
USING fts5 (words, tokenize = 'ascii', detail = 'none', columnsize = 0, prefix = '2 3');

DELETE FROM search_tags;
DELETE FROM search_doubts;
DELETE FROM turn_minutes;
DELETE FROM cursors WHERE projection = 'screens';
UPDATE heads SET behind = 1;
