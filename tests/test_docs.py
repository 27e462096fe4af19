"""What the pages in docs name exists, and their example config works."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet
from mmlocalmamba.search import candidates

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.name for path in (ROOT / 'docs').glob('*.md'))


@pytest.mark.parametrize('name', PAGES)
def test_every_file_that_is_named_exists(name):
    text = (ROOT / 'docs' / name).read_text(encoding='utf-8')
    paths = set(re.findall(r'\b(?:configs|tools|mmlocalmamba|examples)/[\w./-]+\.\w+', text))
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []
    links = re.findall(r'\]\(([^)#:]+)\)', text)
    assert [link for link in links if not (ROOT / 'docs' / link).exists()] == []


@pytest.mark.parametrize(('name', 'folder'), [('search.md', 'search'), ('imagenet.md', 'imagenet')])
def test_every_config_is_in_the_table_of_its_page(name, folder):
    text = (ROOT / 'docs' / name).read_text(encoding='utf-8')
    assert [path.name for path in (ROOT / 'configs' / folder).glob('*.py') if f'`{path.name}`' not in text] == []


def test_the_example_of_a_supernet_builds(tmp_path):
    (example,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/search.md').read_text(encoding='utf-8'), re.DOTALL)
    (tmp_path / 'my_detector.py').write_text(f"_base_ = ['{ROOT}/configs/mask_rcnn_localvmamba_t_1x.py']\n")
    (tmp_path / 'my_search.py').write_text(example)
    cfg = Config.fromfile(tmp_path / 'my_search.py')
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert [len(block) for block in candidates(model)] == [8] * 15
    assert cfg.custom_hooks[0].type == 'mmlocalmamba.DirectionSearchHook'


def test_the_example_on_the_base_files_of_mmsegmentation_builds(tmp_path):
    pytest.importorskip('mmseg')
    text = (ROOT / 'docs/other_configs.md').read_text(encoding='utf-8')
    (example,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    (tmp_path / 'mine.py').write_text(example)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == 'LocalVMamba'
    assert cfg.train_dataloader.dataset.type == 'ADE20KDataset'
