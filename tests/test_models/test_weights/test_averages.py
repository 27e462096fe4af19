import pytest
import torch

from mmlocalmamba.models import LocalVMamba
from mmlocalmamba.models.weights.averages import choose_weights
from mmlocalmamba.models.weights.files import read_state_dict

AVERAGED, RAW = {'a': torch.zeros(1)}, {'a': torch.ones(1)}
FILES = {
    'MMEngine': dict(state_dict=AVERAGED, ema_state_dict={'steps': torch.tensor(3), 'module.a': RAW['a']}),
    'timm': dict(state_dict=RAW, state_dict_ema=AVERAGED, arch='x'),
    'VMamba': dict(model=RAW, model_ema=AVERAGED),
}


@pytest.mark.parametrize('file', FILES)
def test_either_set_can_be_had(file, tmp_path) -> None:
    torch.save(FILES[file], tmp_path / 'both.pth')

    assert read_state_dict(tmp_path / 'both.pth', 'averaged') == AVERAGED
    assert read_state_dict(tmp_path / 'both.pth', 'raw') == RAW


def test_without_a_choice_the_first_names_count(tmp_path) -> None:
    torch.save(FILES['MMEngine'], tmp_path / 'both.pth')

    assert read_state_dict(tmp_path / 'both.pth') == AVERAGED


@pytest.mark.parametrize('which', ['averaged', 'raw'])
def test_a_file_with_one_set_leaves_no_choice(which) -> None:
    with pytest.raises(ValueError, match=rf'{which} weights were asked for, but f\.pth holds one set'):
        choose_weights(dict(state_dict=RAW), which, 'f.pth')


def test_another_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="want weights 'averaged' or 'raw', got 'ema'"):
        choose_weights(FILES['timm'], 'ema', 'f.pth')


def test_a_backbone_starts_from_either(tmp_path) -> None:
    settings = dict(arch=dict(dims=[8], depths=[1], directions=[['h']]), out_indices=(0,), d_state=1)
    first, second = LocalVMamba(**settings), LocalVMamba(**settings)
    raw = {f'module.backbone.{name}': value for name, value in second.state_dict().items()}
    averaged = {f'backbone.{name}': value for name, value in first.state_dict().items()}
    torch.save(dict(state_dict=averaged, ema_state_dict=raw), tmp_path / 'both.pth')

    for weights, wanted in ((None, first), ('averaged', first), ('raw', second)):
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'both.pth'), weights=weights)
        backbone = LocalVMamba(**settings, init_cfg=init_cfg)
        backbone.init_weights()
        torch.testing.assert_close(backbone.state_dict(), wanted.state_dict(), rtol=0, atol=0)
