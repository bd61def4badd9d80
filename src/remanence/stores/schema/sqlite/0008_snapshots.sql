-- Snapshots are kept, not replaced: the state at an older position is then a snapshot and at most a hundred records away,
-- so that a fork costs the same wherever it is taken. They are a cache still: the journal can always be folded from zero.
ALTER TABLE snapshots RENAME TO newest_snapshots;

CREATE TABLE snapshots (
    place INTEGER PRIMARY KEY,      -- of the last record in the state, as in `records`
    state BLOB
);

INSERT INTO snapshots SELECT id << 32 | position, state FROM newest_snapshots WHERE length(state) > 0;

DROP TABLE newest_snapshots;
