"""The runs that kill_runs.py stops: the demo configs, made small enough to be repeated a hundred times."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'

_COMMON = """
_base_ = ['{base}']
max_epochs = 3
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
model = dict(backbone=dict(drop_path_rate=0.5))
"""
_BY_ITERATION = """
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=6, val_interval=3)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
crop_size = (64, 64)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model['data_preprocessor'] = dict(size=crop_size)
"""
_TEXTURES = """
_base_ = ['{base}']
train_dataloader = dict(dataset=dict(num_images={images}))
val_dataloader = dict(dataset=dict(num_images=32))
train_cfg = dict(max_epochs=4, val_interval=2)
default_hooks = dict(
    checkpoint=dict(interval=1, save_best='accuracy/top1', rule='greater'),
    iteration_seed=dict(type='mmlocalmamba.IterationSeedHook'),
)
"""
_EMA = "custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='mmlocalmamba.NonFiniteHook')]\n"

SCENARIOS = {
    # Name: (base config, settings, processes)
    'direction search, sampled': (
        'demo/textures_search.py',
        _TEXTURES.replace('{images}', '96')
        + "custom_hooks = [dict(type='mmlocalmamba.DirectionSearchHook', interval=2, num_sampled=2)]\n",
        1,
    ),
    'classifier with EMA, two processes': (
        'demo/textures_fixed.py',
        _TEXTURES.replace('{images}', '192') + _EMA,
        2,
    ),
    'segmenter with EMA, max_keep_ckpts=2': (
        'demo/upernet_localvim_micro_shapes.py',
        _COMMON + _BY_ITERATION + _EMA + 'default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=2))\n',
        1,
    ),
    'segmenter, by iteration, max_keep_ckpts=1': (
        'demo/upernet_localvmamba_micro_shapes.py',
        _COMMON
        + _BY_ITERATION
        + "default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=['mIoU', 'aAcc']))\n",
        1,
    ),
    'detector, by epoch, max_keep_ckpts=1': (
        'demo/mask_rcnn_localvmamba_micro_shapes.py',
        _COMMON
        + """
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
train_dataloader['dataset'] = dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
])
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=1, save_best='coco/bbox_mAP'))
""",
        1,
    ),
}


def write_config(name: str, folder: Path) -> tuple[Path, int]:
    """Write the config of a scenario.

    Args:
        name: A key of :data:`SCENARIOS`.
        folder: Where it goes.

    Returns:
        The config file, and the number of processes.
    """
    base, settings, processes = SCENARIOS[name]
    path = folder / f'config_{list(SCENARIOS).index(name)}.py'
    path.write_text(settings.replace('{base}', str(CONFIGS / base)), encoding='utf-8')
    return path, processes
