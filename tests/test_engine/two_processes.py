"""What each of two processes runs for test_distributed.py: every scenario in turn, results into files.

    python -m torch.distributed.run --nproc_per_node 2 -m test_engine.two_processes DATA OUT

One launch for all of them spares most of the time, which goes into starting Python.
"""

import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch.distributed import get_rank

from .scenarios import SCENARIOS


def main(data: Path, out: Path) -> None:
    """Run every scenario, and save what it gives or the error that it raises."""
    for name, scenario in SCENARIOS.items():
        result: dict[str, Any]
        try:
            result = scenario(data, out / 'work' / name, launcher='pytorch')
        except Exception:
            result = {'error': traceback.format_exc()}
        torch.save(result, out / f'{name}.{get_rank()}.pth')


if __name__ == '__main__':
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
