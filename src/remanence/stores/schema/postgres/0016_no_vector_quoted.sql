-- As in `0006_nothing_quoted.sql` and `0013_nobody_quoted.sql`: a vector tells what it was made of to whoever has the model.
ALTER TABLE memory_vectors ALTER COLUMN vector TYPE bytea, ALTER COLUMN vector SET STATISTICS 0;

-- The copies for pgvector, where there are any.
DO $$
DECLARE
    kind text;
BEGIN
    SELECT format_type(atttypid, atttypmod) INTO kind FROM pg_attribute
    WHERE attrelid = 'memory_vectors'::regclass AND attname = 'embedding' AND NOT attisdropped;
    IF FOUND THEN
        EXECUTE format('ALTER TABLE memory_vectors ALTER COLUMN embedding TYPE %s, ALTER COLUMN embedding SET STATISTICS 0', kind);
    END IF;
END $$;
