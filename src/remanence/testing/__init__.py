"""Published with the package: the store contract, scripted models, faults, and a PostgreSQL for tests."""
