-- Embeddings of memories, an option beside the words. A model answers once every memory has had a vector of it
-- (`complete`), so that nobody is ever answered by half an index; see `ports.MemoryVectors`.

CREATE TABLE memory_vectors (
    place    bigint NOT NULL,
    document bigint NOT NULL,
    model    text COLLATE "C" NOT NULL,
    vector   bytea NOT NULL,            -- 4 bytes for each dimension, little-endian floats, of length 1 together
    PRIMARY KEY (model, place, document)
);

CREATE TABLE memory_models (
    model      text COLLATE "C" PRIMARY KEY,
    dimensions integer NOT NULL,
    complete   boolean NOT NULL
);
