"""Settings of the backbones in mmseg's base configs that ours take, too."""

import pytest
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmlocalmamba  # noqa: F401  before mmseg
from mmlocalmamba.models import LocalVim, LocalVMamba


def test_img_size_may_be_height_and_width() -> None:
    backbone = LocalVim('micro', img_size=(64, 64), out_indices=(3,))
    assert backbone.pos_embed.shape == LocalVim('micro', img_size=64, out_indices=(3,)).pos_embed.shape
    with pytest.raises(ValueError, match=r'img_size=\(512, 1024\) must be one number or twice the same'):
        LocalVim('micro', img_size=(512, 1024), out_indices=(3,))


@pytest.mark.parametrize(('cls', 'out'), [(LocalVim, 3), (LocalVMamba, 0)])
def test_pretrained_stands_for_init_cfg(cls, out) -> None:
    assert cls('micro', out_indices=(out,), pretrained=None).init_cfg is None
    backbone = cls('micro', out_indices=(out,), pretrained='weights.pth')
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint='weights.pth')
    with pytest.raises(ValueError, match='exclude each other'):
        cls('micro', out_indices=(out,), pretrained='weights.pth', init_cfg=dict(type='Pretrained', checkpoint='a'))


def test_mmseg_hands_its_pretrained_on() -> None:
    pytest.importorskip('mmseg')
    model = ConfigDict(
        type='mmseg.EncoderDecoder',
        pretrained='weights.pth',
        backbone=dict(type='mmlocalmamba.LocalVim', arch='micro', img_size=(64, 64), out_indices=(3,)),
        decode_head=dict(type='mmseg.FCNHead', in_channels=64, channels=8, num_classes=2),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert MODELS.build(model).backbone.init_cfg['checkpoint'] == 'weights.pth'
