-- As in `0006_nothing_quoted.sql`, of the columns that say who: an erasure puts pseudonyms into them, and the planner
-- shall not keep the names. Setting a type, to what it is, drops what the planner keeps already, and writes no table anew.
ALTER TABLE sessions ALTER COLUMN user_name TYPE text, ALTER COLUMN user_name SET STATISTICS 0;
ALTER TABLE records ALTER COLUMN actor TYPE text, ALTER COLUMN actor SET STATISTICS 0;
ALTER TABLE idempotency_keys ALTER COLUMN key TYPE text COLLATE "C", ALTER COLUMN key SET STATISTICS 0;
ALTER TABLE budgets ALTER COLUMN scope TYPE text COLLATE "C", ALTER COLUMN scope SET STATISTICS 0;
ALTER TABLE reservations ALTER COLUMN scope TYPE text COLLATE "C", ALTER COLUMN scope SET STATISTICS 0;
ALTER TABLE holds ALTER COLUMN held_by TYPE text, ALTER COLUMN held_by SET STATISTICS 0;
ALTER TABLE usage_hours ALTER COLUMN user_name TYPE text, ALTER COLUMN user_name SET STATISTICS 0;
ALTER TABLE usage_days ALTER COLUMN name TYPE text COLLATE "C", ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE registry ALTER COLUMN id TYPE text COLLATE "C", ALTER COLUMN id SET STATISTICS 0;
ALTER TABLE memory_places ALTER COLUMN scope TYPE text COLLATE "C", ALTER COLUMN scope SET STATISTICS 0;
ALTER TABLE memories
    ALTER COLUMN id TYPE text COLLATE "C", ALTER COLUMN id SET STATISTICS 0,
    ALTER COLUMN author TYPE text, ALTER COLUMN author SET STATISTICS 0,
    ALTER COLUMN speaker TYPE text, ALTER COLUMN speaker SET STATISTICS 0;
ALTER TABLE memory_closings ALTER COLUMN id TYPE text COLLATE "C", ALTER COLUMN id SET STATISTICS 0;
ALTER TABLE memory_names ALTER COLUMN name TYPE text COLLATE "C", ALTER COLUMN name SET STATISTICS 0;
