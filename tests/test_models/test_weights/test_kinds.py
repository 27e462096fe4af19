import pytest

from mmlocalmamba.models import LocalVim, LocalVMamba, Vim, VMamba
from mmlocalmamba.models.weights.fitting import fit_tensors
from mmlocalmamba.models.weights.kinds import kind_of

SMALL = {
    LocalVMamba: dict(arch=dict(dims=(8, 16), depths=(1, 1), directions=[['h', 'v']] * 2), out_indices=(0,)),
    VMamba: dict(arch='tiny', out_indices=(0,)),
    LocalVim: dict(arch=dict(embed_dim=16, depth=2, directions=[['h', 'v']] * 2), img_size=32, out_indices=(0,)),
    Vim: dict(arch='tiny', img_size=32, out_indices=(0,)),
}


@pytest.mark.parametrize('kind', SMALL)
def test_the_names_of_a_backbones_tensors_tell_its_class(kind):
    assert kind_of(kind(**SMALL[kind]).state_dict()) == kind.__name__


@pytest.mark.parametrize(
    ('names', 'wanted'),
    [
        (['layers.0.blocks.0.op.A_logs', 'layers.0.blocks.0.op.multi_scan.attn.norm.weight'], 'LocalVMamba'),
        (['layers.0.blocks.0.self_attention.A_logs'], 'VMamba'),
        (['layers.0.mixer.A_log_0', 'layers.0.mixer.attn.norm.weight'], 'LocalVim'),
        (['layers.0.mixer.A_log', 'layers.0.mixer.A_b_log'], 'Vim'),
        (['layer1.0.conv1.weight'], None),
    ],
)
def test_published_names_tell_it_too(names, wanted):
    assert kind_of(names) == wanted


@pytest.mark.parametrize(('given', 'built'), [(LocalVim, LocalVMamba), (LocalVMamba, LocalVim)])
def test_the_error_names_the_kind_of_checkpoint(given, built):
    state = given(**SMALL[given]).state_dict()

    with pytest.raises(ValueError, match=rf'does not fit this {built.__name__}: it is a {given.__name__}\. Tensors'):
        fit_tensors(built(**SMALL[built]), state, 'file.pth')


def test_another_size_of_the_same_kind_is_no_other_kind():
    wider = LocalVMamba(**{**SMALL[LocalVMamba], 'arch': {**SMALL[LocalVMamba]['arch'], 'dims': (16, 32)}})

    with pytest.raises(ValueError, match=r'does not fit this LocalVMamba\. Tensors'):
        fit_tensors(LocalVMamba(**SMALL[LocalVMamba]), wider.state_dict(), 'file.pth')
