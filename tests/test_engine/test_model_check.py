import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmlocalmamba.engine.model_check import check_model
from mmlocalmamba.models import LocalVim, LocalVMamba

ARCH = dict(dims=[8], depths=[1], directions=[['h']])
BACKBONE = dict(type='mmlocalmamba.LocalVMamba', arch=ARCH, out_indices=(0,), d_state=1, out_norm=False)


@MODELS.register_module()
class LooksAtNumbers(nn.Module):
    """Cannot be built without memory."""

    built = 0

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, rate, 3)]
        LooksAtNumbers.built += 1


def classifier(**backbone) -> Config:
    head = dict(type='mmlocalmamba.ClassificationHead', in_channels=8, num_classes=2)
    return Config(dict(model=dict(type='mmlocalmamba.ImageClassifier', backbone={**BACKBONE, **backbone}, head=head)))


def test_a_sound_model_passes_and_the_random_numbers_stay_the_same() -> None:
    cfg = classifier()
    before, state = cfg.to_dict(), torch.get_rng_state()

    check_model(cfg)

    assert cfg.to_dict() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_what_the_model_raises_is_raised() -> None:
    with pytest.raises(ValueError, match='out_indices'):
        check_model(classifier(out_indices=(7,)))


def test_a_model_that_looks_at_numbers_is_built_on_the_cpu() -> None:
    check_model(Config(dict(model=dict(type='LooksAtNumbers', rate=0.1))))

    assert LooksAtNumbers.built == 1


def test_a_checkpoint_of_another_backbone_is_named_as_such(tmp_path) -> None:
    vim = LocalVim(arch=dict(embed_dim=8, depth=1, directions=[['h']]), img_size=32, out_indices=(0,), d_state=1)
    torch.save(vim.state_dict(), tmp_path / 'vim.pth')
    cfg = classifier(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vim.pth')))

    with pytest.raises(ValueError, match='LocalVim'):
        check_model(cfg)


def test_a_checkpoint_that_fits_passes(tmp_path) -> None:
    backbone = LocalVMamba(arch=ARCH, out_indices=(0,), d_state=1, out_norm=False)
    torch.save(backbone.state_dict(), tmp_path / 'ours.pth')

    check_model(classifier(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'ours.pth'))))
