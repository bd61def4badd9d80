"""Where journals are kept: SQLite and PostgreSQL behind one contract (`remanence.testing.conformance`).

Each backend is a package with its own `database`; they do not know each other. What they do alike lies beside them:
`rows` (what a write becomes), `refusals` (what they say), `migrations` over `schema/`, and the pieces of the views.
`schema_state` asks the one that an address names.
"""
