import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from mmlocalmamba.engine.allocator import keep_freed_memory

if sys.argv[1] == 'keep':
    assert keep_freed_memory()
for _ in range(10):
    torch.zeros(1 << 24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.zeros(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Count the pages that a new process is given while it makes and frees large tensors."""
    done = subprocess.run([sys.executable, '-c', SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='the C library is not glibc')
def test_large_buffers_are_used_again() -> None:
    assert page_faults('keep') < page_faults('as it is') / 10
