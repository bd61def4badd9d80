"""Fault runs: sessions that are killed at every point, and what must hold afterwards.

`python -m remanence.testing.faults --kills N` kills real worker processes; `sweep.sweep` does thousands in one process.
"""
