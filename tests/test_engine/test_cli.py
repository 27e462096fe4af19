import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS

from mmlocalmamba.engine import allocator
from mmlocalmamba.engine.cli import apply_pretrained, build_runner


@MODELS.register_module()
class Empty(BaseModel):
    """Does nothing."""

    def forward(self, inputs: torch.Tensor, mode: str) -> None:
        """Do nothing."""


def test_building_a_runner_changes_neither_the_process_nor_the_config(tmp_path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError('this is a step of its own')

    monkeypatch.setattr(allocator, 'keep_freed_memory', refuse)
    monkeypatch.setattr(allocator.ctypes, 'CDLL', refuse)
    monkeypatch.setattr(torch.distributed, 'init_process_group', refuse)
    cfg = Config({'model': {'type': 'Empty'}, 'work_dir': str(tmp_path), 'launcher': 'none'})
    before = cfg.to_dict()

    build_runner(cfg)

    assert cfg.to_dict() == before


def test_pretrained_option_reaches_the_backbone() -> None:
    cfg = Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})

    apply_pretrained(cfg, 'weights.pth')

    assert cfg.model.backbone.init_cfg == {'type': 'Pretrained', 'checkpoint': 'weights.pth'}
    assert cfg.pretrained == 'weights.pth'


def test_pretrained_none_takes_weights_away() -> None:
    cfg = Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})
    apply_pretrained(cfg, 'weights.pth')

    apply_pretrained(cfg, None)

    assert cfg.model.backbone.init_cfg is None


def test_pretrained_without_backbone_is_refused() -> None:
    with pytest.raises(KeyError, match='no model.backbone'):
        apply_pretrained(Config({'model': {}}), 'weights.pth')
