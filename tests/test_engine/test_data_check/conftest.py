"""Small copies of the demo data that a test may spoil, and the demo configs over them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

import mmlocalmamba  # noqa: F401  before mmdet

ROOT = Path(__file__).resolve().parents[3]
TRAIN = Path('data/shapes/annotations/instances_train.json')
VAL = Path('data/shapes/annotations/instances_val.json')


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    from mmlocalmamba.datasets.shapes import write_shapes

    root = tmp_path_factory.mktemp('shapes')
    write_shapes(root, {'train': 8, 'val': 2})
    return root


@pytest.fixture
def demo(shapes, tmp_path, monkeypatch) -> Callable[..., Config]:
    """Give a demo config, 'mask_rcnn' or 'upernet', in a folder with its data; settings are as for --cfg-options."""
    shutil.copytree(shapes, tmp_path / 'data/shapes')
    monkeypatch.chdir(tmp_path)

    def load(kind: str, **settings: Any) -> Config:
        cfg = Config.fromfile(ROOT / f'configs/demo/{kind}_localvmamba_micro_shapes.py')
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in settings.items()})
        cfg.work_dir = 'out'
        return cfg

    return load


@pytest.fixture
def edit() -> Callable[..., None]:
    """Change a JSON file by a function of its content."""

    def change(path: Path, function: Callable[[dict], None]) -> None:
        content = json.loads(path.read_text())
        function(content)
        path.write_text(json.dumps(content))

    return change


@pytest.fixture
def complaint() -> Callable[..., str]:
    """Give the message of the check, which must refuse a config."""
    from mmlocalmamba.engine.data_check import check_data

    def refuse(cfg: Config, *splits: str) -> str:
        with pytest.raises(ValueError, match='do not fit') as caught:
            check_data(cfg, splits or ['train', 'val'])
        return str(caught.value)

    return refuse
