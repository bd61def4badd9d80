-- As in `0013_nobody_quoted.sql`: under which keys a session's metadata stands is chosen by who opens it, and is erased
-- with it.
ALTER TABLE search_tags ALTER COLUMN key TYPE text COLLATE "C", ALTER COLUMN key SET STATISTICS 0;
