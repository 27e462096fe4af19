"""Demo runs that are stopped and resumed by tools/train.py, with all that is random in them left on."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.compat.torch_load import register_safe_globals
from mmlocalmamba.datasets.shapes import write_shapes

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parents[2] / 'configs/demo'
SETTINGS = [
    'model.backbone.drop_path_rate=0.5',
    'train_dataloader.batch_size=2',
    'default_hooks.checkpoint.interval=1',
    # Workers that are left to the garbage collector take five seconds each to end.
    'train_dataloader.persistent_workers=False',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
]
RUNS = [
    ('mask_rcnn_localvmamba_micro_shapes', 'train_cfg.max_epochs', 'epoch', 1),
    ('upernet_localvmamba_micro_shapes', 'train_cfg.max_iters', 'iter', 0),
    ('upernet_localvim_micro_shapes', 'train_cfg.max_iters', 'iter', 0),
]


@pytest.mark.parametrize(('name', 'length', 'unit', 'workers'), RUNS)
def test_resuming_changes_nothing(name, length, unit, workers, tool, monkeypatch) -> None:
    write_shapes(Path('data/shapes'), {'train': 6, 'val': 1})
    monkeypatch.setattr(Config, 'pretty_text', '')  # takes longer than the training

    def train(work_dir: str, end: int, *arguments: str) -> dict:
        options = ['--work-dir', work_dir, *arguments, '--cfg-options', *SETTINGS, f'{length}={end}']
        options.append(f'train_dataloader.num_workers={workers}')
        tool('train').main([str(DEMO / f'{name}.py'), *options])
        register_safe_globals()
        return torch.load(f'{work_dir}/{unit}_{end}.pth', weights_only=True)

    stopped = train('stopped', 1)
    resumed, whole = train('stopped', 2, '--resume'), train('whole', 2)

    moved = [key for key, value in stopped['state_dict'].items() if not torch.equal(value, whole['state_dict'][key])]
    assert len(moved) > len(whole['state_dict']) / 2, 'what comes after the stop must matter'
    different = [
        key for key, value in whole['state_dict'].items() if not torch.equal(value, resumed['state_dict'][key])
    ]
    assert not different
    for number, state in whole['optimizer']['state'].items():
        for key, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(resumed['optimizer']['state'][number][key]))
    assert resumed['optimizer']['param_groups'] == whole['optimizer']['param_groups']
