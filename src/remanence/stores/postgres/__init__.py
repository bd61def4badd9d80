"""PostgreSQL: one schema on a server that many processes share; `database` puts it together."""
