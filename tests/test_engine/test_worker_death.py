import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from mmlocalmamba.engine import worker_death
from mmlocalmamba.engine.worker_death import DeadWorkerError, explain_dead_workers


class Deadly(Dataset):
    """A data set whose second sample ends the process that loads it."""

    def __init__(self, number):
        self.number = number

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 1:
            os.kill(os.getpid(), self.number) if self.number else os._exit(3)
        return index


def load(number):
    with explain_dead_workers():
        list(DataLoader(Deadly(number), num_workers=1))


@pytest.mark.parametrize(
    ('number', 'cause'),
    [
        (signal.SIGKILL, r'was killed by a signal \(Killed\).*memory runs out.*smaller num_workers or batch_size'),
        (signal.SIGBUS, r'was killed by a signal \(Bus error\)\. Shared memory ran out: make /dev/shm larger'),
        (0, r'ended unexpectedly\. It ended without saying why.*smaller num_workers'),
    ],
)
def test_a_worker_that_dies_ends_with_the_cause(number, cause):
    with pytest.raises(DeadWorkerError, match=rf'A worker of a data loader \(process \d+\) {cause}.*--resume'):
        load(number)


@explain_dead_workers()
def run_out_of_memory(events):
    events.write_text('low 0\noom 2\noom_kill 2\noom_group_kill 0\n')
    raise RuntimeError('DataLoader worker (pid(s) 12, 13) exited unexpectedly')


def test_the_system_is_asked_whether_memory_ran_out(tmp_path, monkeypatch):
    events = tmp_path / 'memory.events'
    monkeypatch.setattr(worker_death, '_MEMORY_EVENTS', events)
    events.write_text('low 0\noom 1\noom_kill 1\noom_group_kill 0\n')
    with pytest.raises(DeadWorkerError, match='Memory ran out: the system killed'):
        run_out_of_memory(events)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='^something else$'), explain_dead_workers():
        raise RuntimeError('something else')
