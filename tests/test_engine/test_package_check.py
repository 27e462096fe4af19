import sys

import pytest
from mmengine.config import Config

from mmlocalmamba.engine.package_check import check_packages


@pytest.fixture
def without(monkeypatch):
    """Hide a package."""

    def hide(name: str) -> None:
        import mmlocalmamba.engine.package_check as module

        monkeypatch.setattr(module, 'find_spec', lambda asked: None if asked == name else sys)

    return hide


def test_a_package_that_is_there_is_no_problem() -> None:
    check_packages(Config(dict(default_scope='mmdet', model=dict(type='mmseg.EncoderDecoder'))))


def test_configs_of_no_mm_package_need_none(without) -> None:
    without('mmdet')
    check_packages(Config(dict(default_scope='mmlocalmamba', hooks=[dict(type='torch.optim.SGD')], extra=None)))


def test_a_missing_default_scope_is_named(without) -> None:
    without('mmdet')
    with pytest.raises(ModuleNotFoundError, match=r"needs MMDetection \(default_scope names 'mmdet'\).*doctor.py"):
        check_packages(Config(dict(default_scope='mmdet')))


def test_a_missing_scope_of_a_type_is_named_by_its_key(without) -> None:
    without('mmseg')
    cfg = Config(dict(default_scope='mmdet', heads=[dict(a=1), dict(head=dict(type='mmseg.FCNHead'))]))
    with pytest.raises(ModuleNotFoundError, match=r"MMSegmentation \(heads\[1\].head.type names 'mmseg'\)"):
        check_packages(cfg)
