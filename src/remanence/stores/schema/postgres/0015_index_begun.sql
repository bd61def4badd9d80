-- How often the index of the memory was begun anew: what was read of it between two equal answers is of one index.
CREATE TABLE memory_index (begun bigint NOT NULL);

INSERT INTO memory_index VALUES (0);
