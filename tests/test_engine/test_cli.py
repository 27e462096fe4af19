import pytest
from mmengine.config import Config

from mmlocalmamba.engine.cli import apply_pretrained


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
