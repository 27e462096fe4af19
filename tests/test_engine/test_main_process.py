import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed

from mmlocalmamba.engine.main_process import in_every_process, on_main_process


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
    try:
        in_every_process(fail if rank == 0 else lambda: None)
        error += ', none'
    except Exception as caught:
        error += f', {type(caught).__name__}: {caught}'
    distributed.barrier()  # neither process is left to wait
    (folder / str(rank)).write_text(f'{calls} {result} {error}')
    distributed.destroy_process_group()  # its threads could abort the process at its exit


def test_alone_it_is_a_plain_call() -> None:
    assert on_main_process(lambda: 3) == 3
    with pytest.raises(OSError, match='no space left'):
        on_main_process(fail)
    in_every_process(lambda: None)
    with pytest.raises(OSError, match='no space left'):
        in_every_process(fail)


@pytest.mark.slow
def test_results_and_errors_reach_every_process(tmp_path) -> None:
    # This file is the program: what pytest imports it as cannot be imported by another process.
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]

    assert (tmp_path / '0').read_text() == '[0] written OSError: no space left, OSError: no space left'
    assert (tmp_path / '1').read_text() == (
        '[] written RuntimeError: the main process failed: OSError: no space left, '
        'RuntimeError: another process failed: OSError: no space left'
    )


if __name__ == '__main__':
    in_two_processes(int(sys.argv[1]), Path(sys.argv[2]))
