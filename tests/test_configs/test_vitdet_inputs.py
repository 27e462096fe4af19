"""ViTDet's images of 1024 x 1024 pixels: padded for the backbone, while boxes are clipped to what is not padding."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(path.name for path in CONFIGS.glob('*_vitdet.py'))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('split', ['train', 'val'])
def test_an_image_is_padded_to_the_full_size_and_knows_its_own(name, split, small_data, monkeypatch):
    monkeypatch.chdir(small_data)
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope('mmdet')
    sample = DATASETS.build(cfg[f'{split}_dataloader'].dataset)[0]
    height, width = sample['inputs'].shape[1:]
    data = MODELS.build(cfg.model.data_preprocessor)(pseudo_collate([sample]), training=split == 'train')
    (meta,) = data['data_samples']
    assert data['inputs'].shape == (1, 3, 1024, 1024)
    assert meta.img_shape == (height, width)
    if split == 'val':
        assert max(height, width) == 1024 > min(height, width)
    else:
        assert meta.gt_instances.masks.masks.shape[1:] == (1024, 1024)
