"""Small untrained models of the three tasks, as a user has them: a config and a checkpoint."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

import mmlocalmamba  # noqa: F401  before mmdet

ROOT = Path(__file__).resolve().parents[2]

CLASSIFIER = """
default_scope = 'mmengine'
model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(type='mmlocalmamba.ClassificationDataPreprocessor', num_classes=3),
    backbone=dict(type='mmlocalmamba.LocalVMamba', arch='micro', out_indices=(3,), out_norm=False),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=256, num_classes=3),
)
test_dataloader = dict(
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmlocalmamba.ImageFolder',
        metainfo=dict(classes=('cat', 'dog', 'owl')),
        pipeline=[dict(type='mmlocalmamba.TimmTransform', input_size=64, is_training=False)],
    ),
)
"""


@pytest.fixture(autouse=True)
def clean_process(tmp_path, monkeypatch) -> None:
    """Start in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config_of(tmp_path):
    """Give the config of a task's small model, with the scores of a fresh model let through."""

    def config(task: str) -> Config:
        if task == 'classification':
            path = tmp_path / 'classifier.py'
            path.write_text(CLASSIFIER)
            return Config.fromfile(path)
        name = {'detection': 'mask_rcnn', 'segmentation': 'upernet'}[task]
        cfg = Config.fromfile(ROOT / f'configs/demo/{name}_localvmamba_micro_shapes.py')
        if task == 'detection':
            cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
            cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
        return cfg

    return config


@pytest.fixture
def fresh_checkpoint(tmp_path):
    """Save the initial weights of a config's model, and what else a checkpoint holds."""

    def save(cfg: Config, meta: dict | None = None) -> str:
        from mmengine.registry import MODELS, init_default_scope

        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        path = tmp_path / 'weights' / 'fresh.pth'
        path.parent.mkdir(exist_ok=True)
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': meta or {}}, path)
        return os.path.relpath(path)

    return save


@pytest.fixture
def predictor_of(config_of, fresh_checkpoint):
    """Build the predictor of a task's small model."""
    from mmlocalmamba.inference.predictors import Predictor
    from mmlocalmamba.inference.trained import load_model

    def build(task: str, **settings):
        cfg = config_of(task)
        return Predictor(load_model(cfg, fresh_checkpoint(cfg), torch.device('cpu')), **settings)

    return build


@pytest.fixture
def photo() -> np.ndarray:
    """A picture, uint8 (60, 90, 3)."""
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
