-- What was spent, once more, without the session and by the day: what the first page and the page of costs sum is then
-- a few rows for each day. `field` says what `name` is: agent, user, model, or nothing, which is everything of a day.

CREATE TABLE usage_days (
    day                bigint NOT NULL,    -- the first microsecond of the day
    calls              bigint NOT NULL,
    unpriced_calls     bigint NOT NULL,
    usd_micros         bigint NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cached_tokens      bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    reasoning_tokens   bigint NOT NULL,
    project            text COLLATE "C" NOT NULL,
    field              text COLLATE "C" NOT NULL,
    name               text COLLATE "C" NOT NULL,
    PRIMARY KEY (project, field, day, name)
) WITH (fillfactor = 70);

INSERT INTO usage_days
SELECT u.hour - u.hour % 86400000000, sum(u.calls), sum(u.unpriced_calls), sum(u.usd_micros), sum(u.input_tokens),
    sum(u.output_tokens), sum(u.cached_tokens), sum(u.cache_write_tokens), sum(u.reasoning_tokens), u.project, f.field,
    CASE f.field WHEN 'agent' THEN u.agent WHEN 'user' THEN u.user_name WHEN 'model' THEN u.model ELSE '' END
FROM usage_hours u CROSS JOIN (VALUES (''), ('agent'), ('user'), ('model')) AS f(field)
GROUP BY 1, u.project, f.field, 12;

-- The words are read again: they now hold who a session is for, so that a search for one person reads no others.

TRUNCATE search_words, search_tags, search_doubts, turn_minutes;
DELETE FROM cursors WHERE projection = 'screens';
UPDATE sessions SET behind = true WHERE NOT behind;
