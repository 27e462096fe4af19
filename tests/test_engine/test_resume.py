"""A run that is interrupted and resumed ends with the weights of one that never stopped."""

from pathlib import Path

import pytest
import torch

from mmlocalmamba.compat.torch_load import register_safe_globals
from mmlocalmamba.search.hook import LOG_NAME, read_log

from .small_runs import BACKBONES, small_config, start_runner, unformatted, write_data

pytestmark = pytest.mark.slow
STEPS, STOP = 4, 2


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    write_data(folder)
    return folder


def train(cfg, loop: str, end: int, resume: bool = False) -> dict:
    """Train to an iteration or epoch, with a schedule made for STEPS of them; returns the last checkpoint."""
    by_epoch = loop == 'epoch'
    train_cfg = (
        dict(type='EpochBasedTrainLoop', max_epochs=end) if by_epoch else dict(type='IterBasedTrainLoop', max_iters=end)
    )
    cfg.train_cfg, cfg.log_processor, cfg.resume = train_cfg, dict(by_epoch=by_epoch), resume
    cfg.train_dataloader.sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    cfg.train_dataloader.batch_size = 2
    cfg.param_scheduler = [dict(type='PolyLR', power=1.0, begin=0, end=STEPS, by_epoch=by_epoch)]
    cfg.default_hooks.checkpoint = dict(type='mmlocalmamba.AtomicCheckpointHook', interval=1, by_epoch=by_epoch)
    cfg.custom_hooks = [
        *cfg.custom_hooks,
        dict(type='EMAHook', momentum=0.1),
        dict(type='mmlocalmamba.IterationSeedHook'),  # a search may draw the branches that it computes
        dict(type='mmlocalmamba.ResumeHook'),
    ]
    with unformatted:
        start_runner(cfg).train()
    register_safe_globals()
    return torch.load(Path(cfg.work_dir) / f'{loop}_{end}.pth', weights_only=True)


def assert_same(a, b, name: str) -> None:
    assert type(a) is type(b), name
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), name
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_same(a[key], b[key], f'{name}.{key}')
    elif isinstance(a, list):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f'{name}.{index}')
    else:
        assert a == b, name


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize(
    ('kind', 'loop'), [('upernet', 'iter'), ('mask_rcnn', 'iter'), ('classifier', 'epoch'), ('search', 'iter')]
)
def test_resuming_changes_nothing(kind, loop, backbone, data, tmp_path) -> None:
    def config(folder: str):
        return small_config(kind, backbone, data, tmp_path / folder)

    whole = train(config('whole'), loop, STEPS)
    stopped = train(config('stopped'), loop, STOP)
    resumed = train(config('stopped'), loop, STEPS, resume=True)

    moved = [key for key, value in stopped['state_dict'].items() if not torch.equal(value, whole['state_dict'][key])]
    assert len(moved) > len(whole['state_dict']) / 2, 'what comes after the stop must matter'
    if kind == 'search':
        assert read_log(tmp_path / 'stopped' / LOG_NAME)[-1] == read_log(tmp_path / 'whole' / LOG_NAME)[-1]
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_same(whole[part], resumed[part], part)
