"""SQLite: one file, one thread that commits many appends at once, readers beside it; `database` puts it together."""
