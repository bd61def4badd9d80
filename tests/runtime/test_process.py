"""What a process that serves tells the interpreter and the kernel."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys

from remanence.runtime.process import ranges_of_values

PAGE = 2 * 1024 * 1024
SETTLE = """
import gc
from pathlib import Path
from remanence.runtime.process import settle
def large():
    return int(Path("/proc/self/smaps_rollup").read_text().partition("AnonHugePages:")[2].split()[0])
values = [str(number) for number in range(400_000)]
before = large()
settle()
assert values == [str(number) for number in range(400_000)]
print(before, large(), gc.get_freeze_count())
"""


def takes_large_pages() -> bool:
    """Whether the kernel moves memory into large pages when it is asked to."""
    if sys.platform != "linux":
        return False
    memory = mmap.mmap(-1, 3 * PAGE)
    memory.write(b"x" * 3 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return advise(-(-start // PAGE) * PAGE, PAGE, 25) == 0


def test_values_move_into_large_pages_where_the_kernel_has_them() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLE], capture_output=True, text=True, check=True)
    before, after, frozen = map(int, done.stdout.split())
    assert frozen > 0
    assert after - before >= PAGE // 1024 or not takes_large_pages()


def test_ranges_smaller_than_a_large_page_and_those_of_files_are_left_alone() -> None:
    maps = """\
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f0000300000-7f0000900000 rw-p 00000000 00:00 0
7f0000a00000-7f0000e00000 rw-p 00000000 08:01 42 /usr/lib/some thing.so
7f0001000000-7f0001400000 r--p 00000000 00:00 0
7f0001400000-7f0001a00000 rw-p 00000000 00:00 0 [stack]
555000000000-555000400000 rw-p 00000000 00:00 0 [heap]
"""
    assert list(ranges_of_values(maps)) == [
        (0x7F0000400000, 0x7F0000800000),
        (0x555000000000, 0x555000400000),
    ]
