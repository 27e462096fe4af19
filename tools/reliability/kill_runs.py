"""Stop training runs with SIGKILL at any moment, resume them, and compare the weights that they end with to the bit.

    python tools/reliability/kill_runs.py OUT [--kills 60] [--seed 0] [--only WORD]

Every scenario of kill_scenarios.py is trained once without a stop. Then it is trained again and again, killed one to
three times, resumed with --resume each time, and compared: the weights, the averaged ones, the optimizer, the
schedules, the best checkpoints and a search's log. After every kill, each file that has the name of a checkpoint must
be whole.

Moments to kill at are of four kinds. Three are aimed: around a step, within an evaluation, and before each operation
on a file, with half of a checkpoint written among them. The fourth is any time. All runs are forked from one process,
which has imported everything. The report is OUT/report.md; the exit status is 1 if any run differs.
"""

import mmlocalmamba  # noqa: F401  # isort: skip  # before any mm package

import argparse
import importlib.util
import json
import math
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmengine.config import Config

from kill_moments import Moments
from kill_scenarios import SCENARIOS, write_config
from mmlocalmamba.compat.torch_load import register_safe_globals
from mmlocalmamba.datasets.shapes import write_shapes
from mmlocalmamba.engine.device import end_process_group
from mmlocalmamba.models.weights.damage import damage
from mmlocalmamba.search.hook import LOG_NAME, read_log

KINDS = ('step', 'evaluation', 'writing', 'any time')
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
LIMIT = 300
"""Seconds after which a run counts as hanging."""


@dataclass
class Scenario:
    """A run that can be started again and again."""

    name: str
    config: Path
    processes: int
    train: ModuleType

    def start(self, work_dir: Path, target: tuple[str, int] | None = None, victim: int = 0) -> list[int]:
        """Fork the processes of a run, which resumes what is in the work dir; gives their ids."""
        work_dir.mkdir(parents=True, exist_ok=True)
        with socket.socket() as server:
            server.bind(('127.0.0.1', 0))
            port = server.getsockname()[1]
        pids = []
        for rank in range(self.processes):
            pid = os.fork()
            if pid == 0:
                self._run(work_dir, rank, port, target if rank == victim else None)
            pids.append(pid)
        return pids

    def _run(self, work_dir: Path, rank: int, port: int, target: tuple[str, int] | None) -> None:
        """Train in a forked process, which ends here."""
        status = 1
        log = os.open(work_dir / f'out_{rank}.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            arguments = [str(self.config), '--work-dir', str(work_dir), '--resume']
            if self.processes > 1:
                env = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': self.processes, 'MASTER_PORT': port}
                os.environ.update({key: str(value) for key, value in env.items()}, MASTER_ADDR='127.0.0.1')
                arguments += ['--launcher', 'pytorch']
            moments = Moments(target)
            moments.watch()
            self.train.main(arguments)
            if rank == 0:
                (work_dir / 'moments.json').write_text(json.dumps(moments.seen))
            end_process_group()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def wait(pids: list[int], seconds: float | None = None) -> bool:
    """Wait for the processes of a run; when one is killed, the others are, too, as a launcher would.

    Args:
        pids: The processes.
        seconds: Kill one of them after so many.

    Returns:
        Whether any was killed.

    Raises:
        RuntimeError: If one failed, or hangs.
    """
    left, statuses, start = list(pids), [], time.monotonic()
    while left:
        for pid in list(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                left.remove(pid)
                statuses.append(os.waitstatus_to_exitcode(status))
        elapsed = time.monotonic() - start
        if left and ((seconds is not None and elapsed > seconds) or any(statuses) or elapsed > LIMIT):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if elapsed > LIMIT:
            raise RuntimeError(f'a run did not end within {LIMIT} s')
        time.sleep(0.01)
    if statuses and all(status >= 0 for status in statuses) and any(statuses):  # not only left alone by a killed one
        raise RuntimeError(f'a run failed with exit statuses {statuses}')
    return any(statuses)


def differences(work_dir: Path, reference: Path) -> list[str]:
    """Name what differs between a run that was killed and one that was not."""
    names = [sorted(path.name for path in folder.glob('*.pth')) for folder in (reference, work_dir)]
    if names[0] != names[1]:
        return [f'the files are {names[1]} in place of {names[0]}']
    different = []
    for name in names[0]:
        ours, theirs = (load(folder / name) for folder in (work_dir, reference))
        different += [f'{part} of {name}' for part in COMPARED if not same(ours.get(part), theirs.get(part))]
    if (reference / LOG_NAME).is_file() and read_log(work_dir / LOG_NAME) != read_log(reference / LOG_NAME):
        different.append(LOG_NAME)
    return different


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint."""
    register_safe_globals()
    return torch.load(path, map_location='cpu', weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Tell whether two parts of checkpoints are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def broken_files(work_dir: Path) -> list[str]:
    """Name the checkpoints that are not whole, and a ``last_checkpoint`` that names none."""
    broken = [f'{path.name}: {damage(path)}' for path in work_dir.glob('*.pth') if damage(path) is not None]
    last = work_dir / 'last_checkpoint'
    if last.is_file() and not Path(last.read_text(encoding='utf-8')).is_file():
        broken.append(f'last_checkpoint: {last.read_text(encoding="utf-8")!r} is no file')
    return broken


@dataclass
class Campaign:
    """The kills of one scenario.

    Attributes:
        kills: How many of each kind there were.
        runs: Runs that were killed and resumed to their end.
        problems: What went wrong.
    """

    scenario: Scenario
    folder: Path
    draw: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    problems: list[str] = field(default_factory=list)

    def train_reference(self) -> None:
        """Train without a stop, and note the moments and how long it takes."""
        start = time.monotonic()
        wait(self.scenario.start(self.folder / 'reference'))
        self.seconds = time.monotonic() - start
        self.moments = json.loads((self.folder / 'reference/moments.json').read_text())

    def run(self, kills: int) -> None:
        """Train, kill and resume until there were so many kills."""
        while self.kills.total() < kills and self.runs < 3 * kills:
            work_dir = self.folder / f'run_{self.runs}'
            for number in range(self.draw.randint(1, 3)):
                self._kill_once(work_dir, share=1.0 / (number + 1))
            wait(self.scenario.start(work_dir))
            self.problems += [f'{work_dir.name}: {what}' for what in differences(work_dir, self.folder / 'reference')]
            self.runs += 1

    def _kill_once(self, work_dir: Path, share: float) -> None:
        """Start or resume a run, kill it, and look at what it leaves; a run that ends before does not count.

        Args:
            work_dir: Of the run.
            share: Part of the run to draw the moment from: what is resumed is shorter than the whole.
        """
        kind = min(KINDS, key=lambda kind: self.kills[kind])
        target, seconds = None, None
        if kind == 'any time':
            seconds = self.draw.uniform(0.0, self.seconds * share)
        else:
            target = (kind, self.draw.randrange(math.ceil(self.moments[kind] * share)))
        victim = self.draw.randrange(self.scenario.processes) if kind == 'step' else 0
        if wait(self.scenario.start(work_dir, target, victim), seconds):
            self.kills[kind] += 1
            self.problems += [f'{work_dir.name} after a kill ({kind}): {what}' for what in broken_files(work_dir)]


def report(campaigns: list[Campaign]) -> str:
    """Write the figures as a table."""
    lines = ['| run | killed and resumed | kills | ' + ' | '.join(KINDS) + ' | differ |', '|---' * 8 + '|']
    for campaign in campaigns:
        kinds = ' | '.join(str(campaign.kills[kind]) for kind in KINDS)
        lines.append(
            f'| {campaign.scenario.name} | {campaign.runs} | {campaign.kills.total()} | {kinds} | '
            f'{len(campaign.problems)} |'
        )
    lines += [f'- {campaign.scenario.name}: {problem}' for campaign in campaigns for problem in campaign.problems]
    return '\n'.join(lines) + '\n'


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Kill training runs, resume them, and compare their weights')
    parser.add_argument('out', type=Path, help='folder for the runs and the report; must not exist')
    parser.add_argument('--kills', type=int, default=60, help='in all scenarios together (default: 60)')
    parser.add_argument('--seed', type=int, default=0, help='seed for the moments (default: 0)')
    parser.add_argument('--only', default='', help='scenarios whose names have this word')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run all scenarios and write the report; the exit status is 1 if anything differs."""
    args = parse_args(arguments)
    names = [name for name in SCENARIOS if args.only in name]
    if not names:
        raise ValueError(f'--only {args.only} fits none of: {"; ".join(SCENARIOS)}')
    args.out.mkdir(parents=True)
    os.chdir(args.out)
    write_shapes(Path('data/shapes'), {'train': 4, 'val': 1})
    Config.pretty_text = ''  # formatting the config takes longer than the training
    torch.set_num_threads(1)

    train = load_train()
    campaigns = []
    for index, name in enumerate(names):
        folder = Path.cwd() / f'scenario_{index}'
        folder.mkdir()
        config, processes = write_config(name, folder)
        scenario = Scenario(name, config, processes, train)
        campaigns.append(Campaign(scenario, folder, random.Random(args.seed)))
        campaigns[-1].train_reference()
        campaigns[-1].run(args.kills * (index + 1) // len(names) - args.kills * index // len(names))
        Path('report.md').write_text(report(campaigns), encoding='utf-8')
    print(report(campaigns))
    return int(any(campaign.problems for campaign in campaigns))


def load_train() -> ModuleType:
    """Import tools/train.py, which is in no package, and what it imports only when it runs."""
    import mmdet.apis  # noqa: F401
    import mmseg.apis  # noqa: F401

    path = Path(__file__).resolve().parents[1] / 'train.py'
    spec = importlib.util.spec_from_file_location('train', path)
    if spec is None or spec.loader is None:
        raise ImportError(f'cannot import {path}')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == '__main__':
    sys.exit(main())
