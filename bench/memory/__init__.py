"""How well and how fast the memory recalls: `python -m bench.memory --help`."""
