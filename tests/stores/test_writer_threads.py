"""What the threads of a store decode, many at once and for the first time."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import sys, threading
sys.setswitchinterval(1e-6)
for _ in range(15):
    for name in [name for name in sys.modules if name.startswith("remanence")]:
        del sys.modules[name]
    from remanence.spec import AgentSpec, decode_spec
    encoded = b'{"name":"a","model":"m","limits":{},"settings":{},"rules":[],"tools":[]}'
    start, found = threading.Barrier(4), []
    def first():
        start.wait()
        found.append(decode_spec(encoded))
    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [AgentSpec("a", "m")] * 4
"""


def test_a_spec_is_first_decoded_by_several_threads_at_once() -> None:
    """The codec crashes the process when threads build what it knows of one type together; it is built on import."""
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
