-- Embeddings of memories, an option beside the words. A model answers once every memory has had a vector of it
-- (`complete`), so that nobody is ever answered by half an index; see `ports.MemoryVectors`.

CREATE TABLE memory_vectors (
    model    TEXT NOT NULL,
    place    INTEGER NOT NULL,
    document INTEGER NOT NULL,
    vector   BLOB NOT NULL,             -- 4 bytes for each dimension, little-endian floats, of length 1 together
    PRIMARY KEY (model, place, document)
) WITHOUT ROWID;

CREATE TABLE memory_models (
    model      TEXT PRIMARY KEY,
    dimensions INTEGER NOT NULL,
    complete   INTEGER NOT NULL
) WITHOUT ROWID;
