"""Where journals are kept: SQLite and PostgreSQL behind one contract (`remanence.testing.conformance`)."""
