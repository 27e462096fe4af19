import pytest
import torch
from mmengine.runner import load_checkpoint

from mmlocalmamba.directions import CANDIDATES
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.weights.loading import load_backbone
from mmlocalmamba.search import candidates, probabilities, search_mixers, set_num_sampled

VIM = dict(embed_dim=16, depth=2, directions=[CANDIDATES, ('h', 'w3', 'w3_flip')])
VMAMBA = dict(dims=[8, 16], depths=[1, 1], directions=[CANDIDATES, CANDIDATES])


def supernet(kind, search=True, **kwargs):
    if kind == 'vim':
        return LocalVim(arch=VIM, img_size=32, patch_size=8, out_indices=(1,), d_state=4, search=search, **kwargs)
    return LocalVMamba(arch=VMAMBA, out_indices=(1,), d_state=4, search=search, **kwargs)


@pytest.mark.parametrize('kind', ['vim', 'vmamba'])
@pytest.mark.parametrize('num_sampled', [None, 2])
@pytest.mark.parametrize('with_cp', [False, True])
def test_gradient_reaches_every_alpha(kind, num_sampled, with_cp):
    model = supernet(kind, with_cp=with_cp)
    set_num_sampled(model, num_sampled)
    model(torch.randn(2, 3, 32, 32))[0].square().sum().backward()
    for mixer in search_mixers(model).values():
        assert (mixer.merge.alpha.grad != 0).all()


@pytest.mark.parametrize('kind', ['vim', 'vmamba'])
def test_a_sampled_step_leaves_no_parameter_without_gradient(kind):
    """Processes that draw different branches can so train together, with no search for unused parameters."""
    model = supernet(kind)
    set_num_sampled(model, 1)
    model(torch.randn(1, 3, 32, 32))[0].square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize('kind', ['vim', 'vmamba'])
def test_sampling_reaches_every_parameter_over_time(kind):
    model = supernet(kind)
    set_num_sampled(model, 2)
    for _ in range(25):
        model(torch.randn(1, 3, 32, 32))[0].square().sum().backward()
    for mixer in search_mixers(model).values():
        assert (mixer.x_proj_weight.grad.flatten(1).abs().sum(1) > 0).all()


def test_candidates_may_differ_between_blocks():
    assert candidates(supernet('vim')) == (CANDIDATES, ('h', 'w3', 'w3_flip'))


def test_probabilities_are_softmax_of_alpha_by_name():
    model = supernet('vim')
    model.layers[1].mixer.merge.alpha.data = torch.tensor([0.0, 1.0, 0.0])
    block = probabilities(model)[1]
    assert block == pytest.approx({'h': 0.2119416, 'w3': 0.5761168, 'w3_flip': 0.2119416})


def test_a_model_that_does_not_search_is_refused():
    with pytest.raises(ValueError, match='search=True'):
        probabilities(supernet('vim', search=False))


def test_sampling_more_branches_than_a_block_has_is_refused():
    with pytest.raises(ValueError, match='num_sampled=4 does not fit layers.1.mixer, which has 3'):
        set_num_sampled(supernet('vim'), 4)


REFUSED = r'is a supernet of the direction search.*export_directions\.py'


@pytest.fixture(params=['vim', 'vmamba'])
def both(request):
    """Give a supernet and a model of the same sizes with four directions."""
    four = [('h', 'v', 'w2', 'w7')] * 2
    if request.param == 'vim':
        model = LocalVim(arch={**VIM, 'directions': four}, img_size=32, patch_size=8, out_indices=(1,), d_state=4)
    else:
        model = LocalVMamba(arch={**VMAMBA, 'directions': four}, out_indices=(1,), d_state=4)
    return supernet(request.param), model


def test_a_supernet_checkpoint_refuses_to_start_a_searched_model(both, tmp_path):
    torch.save(both[0].state_dict(), tmp_path / 'supernet.pth')
    with pytest.raises(ValueError, match=REFUSED):
        load_backbone(both[1], tmp_path / 'supernet.pth')


def test_a_supernet_checkpoint_refuses_to_load_as_a_whole_model(both, tmp_path):
    """MMEngine's load_from is not strict: it would leave the mixers as they were."""
    state = {f'backbone.{name}': value for name, value in both[0].state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'supernet.pth')
    model = torch.nn.ModuleDict(dict(backbone=both[1]))
    with pytest.raises(ValueError, match=REFUSED):
        load_checkpoint(model, str(tmp_path / 'supernet.pth'), strict=False)


def test_a_checkpoint_of_fixed_directions_refuses_to_load_into_a_supernet(both):
    with pytest.raises(ValueError, match=r'fixed directions.*supernet \(search=True\)'):
        both[0].load_state_dict(both[1].state_dict(), strict=False)


@pytest.mark.parametrize('kind', ['vim', 'vmamba'])
def test_a_search_goes_on_from_its_own_checkpoint(kind):
    first, second = supernet(kind), supernet(kind)
    second.load_state_dict(first.state_dict())
    assert probabilities(second) == probabilities(first)


def test_search_works_inside_a_segmenter():
    from mmseg.models import EncoderDecoder

    backbone = dict(type='mmlocalmamba.LocalVMamba', arch=VMAMBA, out_indices=(1,), d_state=4, search=True)
    head = dict(type='FCNHead', in_channels=16, in_index=0, channels=8, num_convs=1, num_classes=3, norm_cfg=None)
    model = EncoderDecoder(backbone=backbone, decode_head=head, train_cfg=dict(), test_cfg=dict(mode='whole'))
    set_num_sampled(model, 2)
    model._forward(torch.randn(1, 3, 32, 32)).square().sum().backward()
    assert [len(block) for block in probabilities(model)] == [8, 8]
    assert all((mixer.merge.alpha.grad != 0).all() for mixer in search_mixers(model).values())
