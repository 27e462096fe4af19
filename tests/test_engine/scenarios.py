"""What test_distributed.py runs: in two processes all of it, in one process what the results are compared with."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from .small_runs import BACKBONES, evaluate, small_config, train_for

MAX_NORM = 0.5
FROZEN = {'model.backbone.frozen_stages': 1, 'model.backbone.with_cp': True}
FEWER_OUTPUTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ('mask_rcnn', 'LocalVMamba'): {'model.backbone.out_indices': (0, 2), 'model.neck.in_channels': [32, 128]},
    ('mask_rcnn', 'LocalVim'): {'model.backbone.out_indices': (1,)},
    ('upernet', 'LocalVMamba'): {
        'model.backbone.out_indices': (1, 2),
        'model.decode_head.in_channels': [64, 128],
        'model.decode_head.in_index': [0, 1],
        'model.auxiliary_head.in_index': 1,
    },
    ('upernet', 'LocalVim'): {
        'model.backbone.out_indices': (0, 2),
        'model.decode_head.in_channels': [64, 64],
        'model.decode_head.in_index': [0, 1],
        'model.auxiliary_head.in_index': 1,
    },
}
SYNC_BN = {'model.decode_head.norm_cfg.type': 'SyncBN'}
LAST_STAGE_UNUSED = {'model.decode_head.in_channels': [32, 64, 128], 'model.decode_head.in_index': [0, 1, 2]}


def steps(
    kind: str, backbone: str, with_cp: bool, data: Path, work_dir: Path, launcher: str = 'none'
) -> dict[str, Any]:
    """Take two steps on four images each, with gradients that are clipped."""
    cfg = small_config(kind, backbone, data, work_dir, launcher)
    cfg.model.backbone.with_cp = with_cp
    # AdamW's first steps hardly depend on how large the gradients are.
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.05)
    cfg.optim_wrapper.clip_grad = dict(max_norm=MAX_NORM)
    return train_for(cfg, 2, batch_size=4 if launcher == 'none' else 2)


def steps_with(
    kind: str, backbone: str, options: Mapping[str, Any], data: Path, work_dir: Path, launcher: str = 'none'
) -> dict[str, Any]:
    """Take two steps with changes to the config: the second one finds out what the first one left unused."""
    cfg = small_config(kind, backbone, data, work_dir, launcher)
    cfg.merge_from_dict(options)
    return train_for(cfg, 2, batch_size=2)


def metrics(kind: str, backbone: str, data: Path, work_dir: Path, launcher: str = 'none') -> dict[str, Any]:
    """Evaluate on five images, which two processes cannot share evenly."""
    return evaluate(small_config(kind, backbone, data, work_dir, launcher))


SCENARIOS: dict[str, Callable[..., dict[str, Any]]] = {
    'SyncBN': partial(steps_with, 'upernet', 'LocalVMamba', SYNC_BN),
    'last stage unused': partial(steps_with, 'upernet', 'LocalVMamba', LAST_STAGE_UNUSED),
    'metrics mask_rcnn': partial(metrics, 'mask_rcnn', 'LocalVMamba'),
    'metrics upernet': partial(metrics, 'upernet', 'LocalVim'),
    'metrics classifier': partial(metrics, 'classifier', 'LocalVim'),
}
for _kind, _backbone in product(('mask_rcnn', 'upernet', 'classifier'), BACKBONES):
    for _with_cp in (False, True):
        SCENARIOS[f'steps {_kind} {_backbone} {_with_cp}'] = partial(steps, _kind, _backbone, _with_cp)
for (_kind, _backbone), _fewer in FEWER_OUTPUTS.items():
    SCENARIOS[f'frozen {_kind} {_backbone}'] = partial(steps_with, _kind, _backbone, FROZEN)
    SCENARIOS[f'fewer outputs {_kind} {_backbone}'] = partial(steps_with, _kind, _backbone, _fewer)
for _backbone in BACKBONES:
    SCENARIOS[f'search {_backbone}'] = partial(steps_with, 'search', _backbone, {})
