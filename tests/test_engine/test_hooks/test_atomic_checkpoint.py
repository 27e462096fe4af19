import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmlocalmamba.compat.torch_load import check_checkpoint, register_safe_globals
from mmlocalmamba.engine import checkpoint_files
from mmlocalmamba.engine.hooks import AtomicCheckpointHook
from mmlocalmamba.engine.resume import settle_resume
from mmlocalmamba.models.weights.damage import damage


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(100))

    def forward(self, inputs: Tensor, mode: str) -> Any:
        return {'loss': ((self.weight - inputs.mean()) ** 2).sum()} if mode == 'loss' else [0]


class Score(BaseMetric):
    """Gives one score after the other."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores = scores

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        score = self.scores.pop(0)
        return {'score': score, 'other': -score}


def train(
    work_dir: Path,
    by_epoch: bool,
    end: int,
    scores: list[float] | None = None,
    resume: str | None = None,
    optim_wrapper: dict | None = None,
    custom_hooks: list | None = None,
    **settings: Any,
) -> Runner:
    """Train one step per epoch, or one per iteration, and evaluate after each; settings are those of the hook."""
    loader = {'batch_size': 2, 'num_workers': 0, 'dataset': [{'inputs': torch.ones(3)}] * 2}
    loader['sampler'] = {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': False}
    loader['collate_fn'] = {'type': 'default_collate'}
    length = {'max_epochs': end, 'val_interval': 1} if by_epoch else {'max_iters': end, 'val_interval': 1}
    val_loader = {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    evaluated = {
        'val_dataloader': val_loader,
        'val_cfg': {},
        'val_evaluator': [Score(scores)] if scores else [],
    }
    hook = {'type': 'mmlocalmamba.AtomicCheckpointHook', 'by_epoch': by_epoch, 'interval': 1}
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        optim_wrapper=optim_wrapper or {'optimizer': {'type': 'SGD', 'lr': 0.01}},
        custom_hooks=custom_hooks,
        train_cfg={'by_epoch': by_epoch, **length},
        default_hooks={'checkpoint': {**hook, **settings}},
        log_processor={'by_epoch': by_epoch},
        experiment_name=f'{work_dir.name}_{end}_{len(MessageHub._instance_dict)}',
        load_from=resume,
        resume=resume is not None,
        **(evaluated if scores else {}),
    )
    runner.train()
    return runner


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


def load(path: Path) -> dict:
    register_safe_globals()
    return torch.load(path, weights_only=True)


@pytest.fixture
def operations(monkeypatch) -> list[str]:
    """The names of files that are renamed to and deleted, in order."""
    done: list[str] = []
    replace, unlink = os.replace, os.unlink

    def noted_replace(old, new) -> None:
        done.append(f'new {Path(new).name}')
        replace(old, new)

    def noted_unlink(path, **kwargs) -> None:
        done.append(f'delete {Path(path).name}')
        unlink(path, **kwargs)

    monkeypatch.setattr(checkpoint_files.os, 'replace', noted_replace)
    for name in ('unlink', 'remove'):
        monkeypatch.setattr(checkpoint_files.os, name, noted_unlink)
    return done


@pytest.mark.parametrize(('by_epoch', 'name'), [(True, 'epoch'), (False, 'iter')])
def test_the_old_one_is_deleted_last(by_epoch, name, tmp_path, operations) -> None:
    train(tmp_path, by_epoch, 3, max_keep_ckpts=1)

    assert operations == [f'new {name}_1.pth', 'new last_checkpoint'] + [
        what
        for step in (2, 3)
        for what in (f'new {name}_{step}.pth', 'new last_checkpoint', f'delete {name}_{step - 1}.pth')
    ]
    assert names(tmp_path) == [f'{name}_3.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / f'{name}_3.pth')


def test_the_former_best_is_deleted_when_the_last_one_knows_the_new_one(tmp_path, operations) -> None:
    train(tmp_path, True, 2, [0.1, 0.2], max_keep_ckpts=1, save_best='score', rule='greater')

    assert operations[-7:] == [
        'new epoch_2.pth',
        'new last_checkpoint',
        'delete epoch_1.pth',
        'new best_score_epoch_2.pth',
        'new epoch_2.pth',
        'new last_checkpoint',
        'delete best_score_epoch_1.pth',
    ]
    info = load(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']
    assert (info['best_score'], Path(info['best_ckpt']).name) == (0.2, 'best_score_epoch_2.pth')


def test_several_metrics_each_have_their_best(tmp_path) -> None:
    rules = {'save_best': ['score', 'other'], 'rule': 'greater'}
    train(tmp_path, False, 3, [0.2, 0.3, 0.1], max_keep_ckpts=1, **rules)

    assert names(tmp_path) == ['best_other_iter_3.pth', 'best_score_iter_2.pth', 'iter_3.pth', 'last_checkpoint']


def test_a_resumed_run_deletes_what_was_left_over(tmp_path, operations) -> None:
    """It was killed after the new checkpoint, before ``last_checkpoint`` named it and the old one was deleted."""
    train(tmp_path, True, 1, max_keep_ckpts=1)
    old = (tmp_path / 'epoch_1.pth').read_bytes()
    train(tmp_path, True, 2, max_keep_ckpts=1, resume=str(tmp_path / 'epoch_1.pth'))
    (tmp_path / 'epoch_1.pth').write_bytes(old)
    (tmp_path / 'epoch_3.pth.partial').write_bytes(b'half')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    operations.clear()

    train(tmp_path, True, 2, max_keep_ckpts=1, resume=str(tmp_path / 'epoch_2.pth'))

    assert names(tmp_path) == ['epoch_2.pth', 'last_checkpoint']
    assert operations == ['new last_checkpoint', 'delete epoch_1.pth', 'delete epoch_3.pth.partial']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize('what', ['gone', 'damaged'])
def test_a_best_checkpoint_that_is_not_whole_is_not_trusted(what, tmp_path) -> None:
    best = {'save_best': 'score', 'rule': 'greater'}
    train(tmp_path, True, 1, [0.9], **best)
    path = tmp_path / 'best_score_epoch_1.pth'
    path.unlink() if what == 'gone' else path.write_bytes(path.read_bytes()[:-500])

    train(tmp_path, True, 2, [0.1], resume=str(tmp_path / 'epoch_1.pth'), **best)

    assert damage(tmp_path / 'best_score_epoch_2.pth') is None
    log = ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert f'{path}, cannot be used: it is {"gone" if what == "gone" else "cut off"}' in log


def test_a_full_disk_ends_the_run_and_names_the_last_whole_one(tmp_path, monkeypatch) -> None:
    train(tmp_path, True, 1)
    whole = (tmp_path / 'epoch_1.pth').read_bytes()
    fsync = os.fsync

    def full(handle: int) -> None:
        if os.path.exists(tmp_path / 'epoch_3.pth.partial'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(checkpoint_files.os, 'fsync', full)
    with pytest.raises(OSError, match=r'epoch_3.pth, which needs [\d,]+ bytes: No space left on device \([\d,]+ bytes'):
        train(tmp_path, True, 3, resume=str(tmp_path / 'epoch_1.pth'))

    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint']
    assert (tmp_path / 'epoch_1.pth').read_bytes() == whole
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


def test_files_elsewhere_are_left_to_mmengines_backend(tmp_path) -> None:
    hook = AtomicCheckpointHook(interval=1, backend_args={'backend': 'local'})
    runner = train(tmp_path, True, 1)
    hook.before_train(runner)

    assert hook.backend_args == {'backend': 'local'}


def test_a_metric_is_chosen_by_mmengines_rule(tmp_path) -> None:
    train(tmp_path, True, 2, [0.2, 0.1], save_best='auto', rule='less')

    assert 'best_score_epoch_2.pth' in names(tmp_path)
    assert 'best_score_epoch_1.pth' not in names(tmp_path)


@pytest.mark.parametrize('name', [b'gr\xc3\xb6\xc3\x9fe', b'gr\xf6\xdfe'])
def test_paths_of_other_encodings_are_saved_to_and_resumed_from(name, tmp_path) -> None:
    """In the locale C, every letter beyond ASCII is what the second one is elsewhere: bytes that are no text."""
    work_dir = tmp_path / os.fsdecode(name)

    train(work_dir, True, 1)

    path = work_dir / 'epoch_1.pth'
    assert (work_dir / 'last_checkpoint').read_bytes() == os.fsencode(path)
    cfg = Config({'work_dir': str(work_dir)})
    assert settle_resume(cfg, 'auto') is None
    assert cfg.load_from == str(path)
    check_checkpoint(path)
