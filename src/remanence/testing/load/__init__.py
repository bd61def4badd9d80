"""Many sessions over HTTP while workers are killed and the server is restarted: `python -m remanence.testing.load`."""
