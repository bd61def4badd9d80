"""The runtime: the thin shell that performs what `core.decide` decides."""
