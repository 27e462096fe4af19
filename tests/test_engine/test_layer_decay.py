import logging

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

import mmlocalmamba  # noqa: F401
from mmlocalmamba.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.weight_decay import is_free_of_decay

RATE = 0.5


class Detector(nn.Module):
    """A backbone with a head, as a detector has them."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


def make_wrapper(model, **paramwise):
    cfg = dict(
        constructor='mmlocalmamba.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
    )
    if paramwise:
        cfg['paramwise_cfg'] = paramwise
    return build_optim_wrapper(model, cfg)


def settings(model, **paramwise):
    """Give (lr, weight decay) of each parameter by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = make_wrapper(model, **paramwise).optimizer.param_groups
    found = [(names[p], (group['lr'], group['weight_decay'])) for group in groups for p in group['params']]
    assert len(found) == len(dict(found))
    return dict(found)


@pytest.fixture
def vim():
    return Detector(LocalVim(arch='micro', img_size=64, out_indices=(3,)))


@pytest.fixture
def vmamba():
    return Detector(LocalVMamba(arch='micro'))


def test_every_parameter_is_in_one_group(vim, vmamba):
    for model in (vim, vmamba):
        assert set(settings(model, layer_decay_rate=RATE)) == set(dict(model.named_parameters()))


def test_every_parameter_of_local_vim_is_scaled_by_its_layer(vim):
    # 4 blocks: embeddings are layer 0, blocks 1 to 4, the rest layer 5.
    for name, (lr, _) in settings(vim, layer_decay_rate=RATE).items():
        if name.startswith(('backbone.patch_embed', 'backbone.pos_embed')):
            assert lr == RATE**5, name
        elif name.startswith('backbone.layers.'):
            assert lr == RATE ** (4 - int(name.split('.')[2])), name
        else:
            assert name.startswith(('backbone.norm3', 'head')), name
            assert lr == 1, name


def test_every_parameter_of_local_vmamba_is_scaled_by_its_layer(vmamba):
    first = {0: 1, 1: 2, 2: 3, 3: 5}  # layer of each stage's first block; depths 1, 1, 2, 1
    last = {0: 1, 1: 2, 2: 4}
    for name, (lr, _) in settings(vmamba, layer_decay_rate=RATE).items():
        parts = name.split('.')
        if parts[1] == 'patch_embed':
            layer = 0
        elif parts[1] == 'stages':
            stage = int(parts[2])
            layer = last[stage] if parts[3] == 'downsample' else first[stage] + int(parts[4])
        else:
            layer = 6
        assert lr == RATE ** (6 - layer), name


def test_without_layer_decay_all_learning_rates_are_equal(vmamba):
    assert {lr for lr, _ in settings(vmamba).values()} == {1.0}


@pytest.mark.parametrize('fixture', ['vim', 'vmamba'])
def test_what_has_no_weight_decay(fixture, request):
    model = request.getfixturevalue(fixture)
    norms = {
        f'{path}.{name}'
        for path, module in model.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d))
        for name, _ in module.named_parameters()
    }
    for name, (_, decay) in settings(model).items():
        free = name in norms or name.endswith(('bias', 'A_log', '.D', 'pos_embed'))
        assert decay == (0 if free else 0.1), name


def test_class_tokens_have_no_weight_decay():
    model = Detector(LocalVim('micro', img_size=64, out_indices=(3,), rope=False, middle_cls_token=True))
    found = settings(model)
    assert found['backbone.cls_token'][1] == found['backbone.cls_pos_embed'][1] == 0


def test_alpha_of_a_search_has_no_weight_decay():
    arch = dict(dims=[8], depths=[1], directions=[['h', 'v']])
    found = settings(Detector(LocalVMamba(arch=arch, out_indices=(0,), search=True)))
    assert found['backbone.stages.0.blocks.0.mixer.merge.alpha'][1] == 0


def test_learning_rates_are_multiplied_by_name(vim):
    found = settings(vim, layer_decay_rate=RATE, lr_mult={'A_log': 10.0, 'layers.3.mixer.A': 2.0})
    assert found['backbone.layers.3.mixer.A_log'][0] == 20 * RATE
    assert found['backbone.layers.2.mixer.A_log'][0] == 10 * RATE**2
    assert found['backbone.layers.3.mixer.D'][0] == RATE


def test_a_name_that_fits_no_parameter_is_refused(vim):
    with pytest.raises(ValueError, match="lr_mult='merge.alpha' is part of no parameter name of this Detector"):
        make_wrapper(vim, lr_mult={'merge.alpha': 10.0})


@pytest.mark.parametrize('factor', [0, -1.0, float('nan')])
def test_a_factor_out_of_range_is_refused(factor, vim):
    with pytest.raises(ValueError, match="lr_mult\\['A_log'\\]=.* is out of range: it must be above 0"):
        make_wrapper(vim, lr_mult={'A_log': factor})


def test_projections_keep_their_weight_decay(vmamba):
    found = settings(vmamba)
    for name in ('in_proj.weight', 'x_proj_weight', 'dt_proj_weight', 'out_proj.weight', 'conv.weight'):
        assert found[f'backbone.stages.0.blocks.0.mixer.{name}'][1] == 0.1


def test_frozen_parameters_are_left_out():
    model = Detector(LocalVMamba(arch='micro', frozen_stages=1))
    assert not any(name.startswith(('backbone.patch_embed', 'backbone.stages.0.blocks')) for name in settings(model))


def test_shared_parameters_are_counted_once(vmamba):
    vmamba.again = vmamba.backbone
    groups = make_wrapper(vmamba, layer_decay_rate=RATE).optimizer.param_groups
    assert sum(len(group['params']) for group in groups) == len(list(vmamba.parameters()))


def test_groups_are_printed_at_debug_level(vim):
    logger = MMLogger.get_instance('layer_decay', log_level='DEBUG')
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append((record.levelno, record.getMessage()))
    logger.addHandler(handler)
    make_wrapper(vim, layer_decay_rate=RATE)
    assert {level for level, _ in messages} == {logging.DEBUG}
    assert any('lr 1, weight decay 0: ' in text and 'backbone.norm3.weight' in text for _, text in messages)


def test_a_step_moves_every_layer_by_its_rate(vim):
    wrapper = make_wrapper(vim, layer_decay_rate=RATE)
    early, late = (vim.backbone.layers[i].mixer.A_log for i in (0, 3))
    before = early.detach().clone(), late.detach().clone()
    early.grad, late.grad = torch.ones_like(early), torch.ones_like(late)
    wrapper.optimizer.step()
    ratio = (late - before[1]).mean() / (early - before[0]).mean()
    torch.testing.assert_close(ratio, torch.tensor(RATE**-3), rtol=1e-3, atol=0)


def test_a_backbone_without_layers_is_refused():
    with pytest.raises(TypeError, match='needs a model whose backbone has get_layer_depth'):
        make_wrapper(Detector(nn.Conv2d(3, 4, 1)), layer_decay_rate=RATE)


@pytest.mark.parametrize('rate', [0, 1.2, -0.5])
def test_a_rate_out_of_range_is_refused(rate, vim):
    with pytest.raises(ValueError, match='is out of range: it must be above 0 and at most 1'):
        make_wrapper(vim, layer_decay_rate=rate)


def test_an_unknown_setting_is_refused(vim):
    with pytest.raises(ValueError, match="unknown settings \\['norm_decay_mult'\\]"):
        make_wrapper(vim, norm_decay_mult=0.0)


def test_an_optimizer_without_learning_rate_is_refused(vim):
    cfg = dict(constructor='mmlocalmamba.LayerDecayOptimWrapperConstructor', optimizer=dict(type='AdamW'))
    with pytest.raises(ValueError, match='the optimizer needs lr='):
        build_optim_wrapper(vim, cfg)


def test_swins_position_tables_do_not_decay():
    name = 'backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    assert is_free_of_decay(name, nn.Parameter(torch.zeros(169, 3)))


def test_groups_are_plain_dicts_that_compilers_can_guard() -> None:
    optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.1, betas=(0.9, 0.99))
    config = ConfigDict(type='OptimWrapper', optimizer=optimizer)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))

    wrapper = LayerDecayOptimWrapperConstructor(config)(model)

    assert [type(group) for group in wrapper.optimizer.param_groups] == [dict, dict]
