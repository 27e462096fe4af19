"""What the README names exists, and its example config works."""

import re

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet
from mmlocalmamba.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.registry import OPTIM_WRAPPER_CONSTRUCTORS


def test_every_file_that_is_named_exists(repo_dir) -> None:
    text = (repo_dir / 'README.md').read_text(encoding='utf-8')
    paths = set(re.findall(r'\b(?:configs|tools|docs)/[\w./-]+\w', text))
    missing = sorted(path for path in paths if not (repo_dir / path).exists())

    assert len(paths) > 10
    assert not missing


def test_every_make_target_that_is_named_exists(repo_dir) -> None:
    text = (repo_dir / 'README.md').read_text(encoding='utf-8')
    targets = set(re.findall(r'(?:^|`)make ([a-z-]+)', text, re.MULTILINE))
    known = set(re.findall(r'^([a-z-]+):', (repo_dir / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE))

    assert {'demo', 'test'} <= targets <= known


def test_example_config_builds_in_any_folder(repo_dir, tmp_path, monkeypatch) -> None:
    (example,) = re.findall(r'```python\n(.*?)```', (repo_dir / 'README.md').read_text(encoding='utf-8'), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_retinanet.py').write_text(example)
    cfg = Config.fromfile('my_retinanet.py')
    cfg.model.backbone.init_cfg = None  # the weights are on the internet
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)

    assert isinstance(model.backbone, LocalVMamba)
    assert model.backbone.depths == (2, 2, 27, 2)
    assert model.neck.in_channels == [192, 384, 768]
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(cfg.optim_wrapper.constructor)
    assert constructor is LayerDecayOptimWrapperConstructor
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
