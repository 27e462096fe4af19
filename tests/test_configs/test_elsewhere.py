"""The backbones in configs of others, and others' inferencers with our configs: other folders, nothing imported."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

import mmlocalmamba  # noqa: F401  before mmdet
from mmlocalmamba.compat.startup import enable
from mmlocalmamba.compat.torch_load import FORCE_SAFE
from mmlocalmamba.engine.cli import build_runner

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {
    'retinanet': ('mmdet', 'retinanet/retinanet_r50_fpn_1x_coco.py'),
    'upernet': ('mmseg', 'upernet/upernet_r50_4xb4-160k_ade20k-512x512.py'),
}

# What `python -m mmlocalmamba.compat enable` does for a whole environment, for one process.
ENABLED = 'import site, sys; sys.path.append({root!r}); site.addsitedir({folder!r})\n'

# RetinaNet's pyramid begins at stride 8: a map of stride 4 would have a norm that nothing trains.
LOCAL_VMAMBA_IN_RETINANET = """
model = dict(
    backbone=dict(_delete_=True, type='mmlocalmamba.LocalVMamba', arch='micro', out_indices=(1, 2, 3)),
    neck=dict(in_channels=[64, 128, 256], start_level=0),
)
"""
LOCAL_VIM_IN_RETINANET = """
model = dict(
    backbone=dict(_delete_=True, type='mmlocalmamba.LocalVim', arch='micro', out_indices=(3,)),
    neck=dict(_delete_=True, type='mmlocalmamba.SimpleFPN', in_channels=64, out_channels=256, num_outs=5),
    bbox_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32, 64])),
)
"""
LOCAL_VMAMBA_IN_UPERNET = """
model = dict(
    pretrained=None,
    backbone=dict(_delete_=True, type='mmlocalmamba.LocalVMamba', arch='micro'),
    decode_head=dict(in_channels=[32, 64, 128, 256]),
    auxiliary_head=dict(in_channels=128),
)
"""
LOCAL_VIM_IN_UPERNET = """
model = dict(
    pretrained=None,
    backbone=dict(_delete_=True, type='mmlocalmamba.LocalVim', arch='micro', out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[64, 64, 64, 64]),
    auxiliary_head=dict(in_channels=64),
)
"""

TRAIN_ONE_STEP = """
from mmengine.config import Config
from mmengine.runner import Runner

cfg = Config.fromfile('mine.py')
cfg.work_dir = 'out'
cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
loader = cfg.train_dataloader
loader.num_workers, loader.persistent_workers, loader.batch_size = 0, False, 2
loader.dataset.indices = 2
for step in loader.dataset.pipeline:
    if 'scale' in step:
        step.scale = (96, 64)
    if 'crop_size' in step:
        step.crop_size = (64, 64)
if cfg.default_scope == 'mmseg':
    cfg.model.data_preprocessor.size = (64, 64)
cfg.train_cfg['max_epochs' if 'max_epochs' in cfg.train_cfg else 'max_iters'] = 1
cfg.param_scheduler = []
cfg.default_hooks.logger.interval = 1
runner = Runner.from_cfg(cfg)
before = {name: value.detach().clone() for name, value in runner.model.backbone.named_parameters()}
runner.train()
after = dict(runner.model.backbone.named_parameters())
print('loss', runner.message_hub.get_scalar('train/loss').current())
print('unmoved', [name for name in before if before[name].equal(after[name])])
"""


def run(code, folder, **settings):
    """Run code in a process of its own that has imported nothing, with a folder as its working directory."""
    enable(folder / 'site')
    start = ENABLED.format(root=str(ROOT), folder=str(folder / 'site'))
    done = subprocess.run([sys.executable, '-c', start + code], capture_output=True, text=True, cwd=folder, **settings)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('retinanet', LOCAL_VMAMBA_IN_RETINANET),
        ('retinanet', LOCAL_VIM_IN_RETINANET),
        ('upernet', LOCAL_VMAMBA_IN_UPERNET),
        ('upernet', LOCAL_VIM_IN_UPERNET),
    ],
)
def test_a_backbone_trains_in_a_config_that_the_mm_packages_ship(name, change, small_data, tmp_path):
    package, config = SHIPPED[name]
    shipped = Path(find_spec(package).origin).parent / '.mim/configs' / config
    (tmp_path / 'mine.py').write_text(f'_base_ = [{str(shipped)!r}]\n{change}')
    (tmp_path / 'data').symlink_to(small_data / 'data')
    done = run(TRAIN_ONE_STEP, tmp_path)
    lines = dict(line.split(' ', 1) for line in done.stdout.splitlines() if line.startswith(('loss ', 'unmoved ')))
    assert 0 < float(lines['loss']) < 100
    assert lines['unmoved'] == '[]'


# With it, no loader can fall back to full unpickling.
SAFELY = {'env': {**os.environ, FORCE_SAFE: '1'}}

INFER_DET = """
from mmdet.apis import DetInferencer

inferencer = DetInferencer(model={config!r}, weights={checkpoint!r}, device='cpu', show_progress=False)
inferencer({image!r}, out_dir='out', no_save_pred=False, pred_score_thr=0.0)
"""
INFER_SEG = """
from mmseg.apis import MMSegInferencer

inferencer = MMSegInferencer(model={config!r}, weights={checkpoint!r}, device='cpu')
inferencer({image!r}, out_dir='out', show=False)
"""
CONFIGS_TO_INFER = {
    'det': 'demo/mask_rcnn_localvmamba_micro_shapes.py',
    'seg': 'demo/upernet_localvim_micro_shapes.py',
}
KEEP_PREDICTIONS = {'det': 'model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0)))\n', 'seg': ''}


@pytest.fixture
def trained(one_step_config, tmp_path):
    """Give the paths of a config, of the checkpoint of a run of it, and of an image."""

    def make(kind):
        name = CONFIGS_TO_INFER[kind]
        cfg = one_step_config(name)
        cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=kind == 'det')
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
        build_runner(cfg).train()
        (checkpoint,) = tmp_path.glob('*_1.pth')
        image = next(Path('data/shapes/val').glob('*')).resolve()
        config = tmp_path / 'mine.py'
        config.write_text(f'_base_ = [{str(ROOT / "configs" / name)!r}]\n{KEEP_PREDICTIONS[kind]}')
        return dict(config=str(config), checkpoint=str(checkpoint), image=str(image))

    return make


@pytest.mark.slow
@pytest.mark.parametrize('first', ['', 'import mmlocalmamba\n'], ids=['enabled', 'imported'])
def test_det_inferencer_takes_our_configs(first, trained, tmp_path):
    paths = trained('det')
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    done = run(first + INFER_DET.format(**paths), folder, **SAFELY)
    assert 'do not match exactly' not in done.stdout + done.stderr  # mmengine's word for weights that do not fit
    (prediction,) = (folder / 'out/preds').glob('*.json')
    found = json.loads(prediction.read_text())
    assert 0 < len(found['labels']) == len(found['bboxes']) == len(found['masks'])
    assert set(found['labels']) <= set(range(6))
    (picture,) = (folder / 'out/vis').glob('*')
    assert cv2.imread(str(picture)).shape == cv2.imread(paths['image']).shape


@pytest.mark.slow
def test_mmseg_inferencer_takes_our_configs(trained, tmp_path):
    paths = trained('seg')
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    done = run(INFER_SEG.format(**paths), folder, **SAFELY)
    assert 'do not match exactly' not in done.stdout + done.stderr
    size = cv2.imread(paths['image']).shape[:2]
    (prediction,) = (folder / 'out/pred').glob('*.png')
    labels = cv2.imread(str(prediction), cv2.IMREAD_UNCHANGED)
    assert labels.shape[:2] == size
    assert labels.max() < 7
    (picture,) = (folder / 'out/vis').glob('*')
    assert cv2.imread(str(picture)).shape[:2] == size
