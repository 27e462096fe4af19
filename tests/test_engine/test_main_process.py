from pathlib import Path

import pytest
import torch.multiprocessing
from torch import distributed

from mmlocalmamba.engine.main_process import on_main_process


def fail() -> None:
    raise OSError('no space left')


def in_two_processes(rank: int, folder: Path) -> None:
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2)
    calls = []
    result = on_main_process(lambda: calls.append(rank) or 'written')
    try:
        on_main_process(fail)
        error = 'none'
    except Exception as caught:
        error = f'{type(caught).__name__}: {caught}'
    distributed.barrier()  # neither process is left to wait
    (folder / str(rank)).write_text(f'{calls} {result} {error}')


def test_alone_it_is_a_plain_call() -> None:
    assert on_main_process(lambda: 3) == 3
    with pytest.raises(OSError, match='no space left'):
        on_main_process(fail)


@pytest.mark.slow
def test_results_and_errors_reach_every_process(tmp_path) -> None:
    torch.multiprocessing.spawn(in_two_processes, (tmp_path,), nprocs=2)

    assert (tmp_path / '0').read_text() == '[0] written OSError: no space left'
    assert (tmp_path / '1').read_text() == '[] written RuntimeError: the main process failed: OSError: no space left'
