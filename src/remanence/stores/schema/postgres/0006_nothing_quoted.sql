-- The planner keeps the most common values of a column, word for word, where an erasure does not reach. Of columns that
-- hold what was said it shall keep none: they are never asked for by a range or joined on.
ALTER TABLE records ALTER COLUMN payloads SET STATISTICS 0;
ALTER TABLE blobs ALTER COLUMN content SET STATISTICS 0;
ALTER TABLE sessions ALTER COLUMN title SET STATISTICS 0, ALTER COLUMN snapshot SET STATISTICS 0;
ALTER TABLE memories ALTER COLUMN text SET STATISTICS 0, ALTER COLUMN subjects SET STATISTICS 0;
ALTER TABLE memory_words ALTER COLUMN word SET STATISTICS 0, ALTER COLUMN entries SET STATISTICS 0;
ALTER TABLE memory_subjects ALTER COLUMN subject SET STATISTICS 0;
ALTER TABLE search_words ALTER COLUMN words SET STATISTICS 0;
ALTER TABLE search_tags ALTER COLUMN value SET STATISTICS 0;
ALTER TABLE registry ALTER COLUMN body SET STATISTICS 0;
