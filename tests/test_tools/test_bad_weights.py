"""Checkpoints without, or with bad, weights in every door of the tools, of a model with our backbone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmlocalmamba.compat.torch_load import register_safe_globals

STEM, WEIGHT = 'backbone.stages.3.', 'backbone.stages.1.blocks.0.mixer.out_proj.weight'


def without_a_stage(state: dict[str, Tensor]) -> dict:
    return {'state_dict': {name: value for name, value in state.items() if not name.startswith(STEM)}}


def changed(value: object) -> object:
    def change(state: dict[str, Tensor]) -> dict:
        new = state[WEIGHT].to(value) if isinstance(value, torch.dtype) else torch.full_like(state[WEIGHT], value)
        return {'state_dict': {**state, WEIGHT: new}}

    return change


FAULTS = {
    'a stage less': (without_a_stage, r'does not fit this LocalVMamba.*missing: stages\.3\.'),
    'empty': (lambda state: {'state_dict': {}}, 'no tensor|no state dict|holds no tensors'),
    'nothing': (lambda state: {}, 'no tensor|no state dict|holds no tensors'),
    'only meta': (lambda state: {'meta': {'epoch': 1, 'iter': 2}}, 'no tensor|no state dict|holds no tensors'),
    'NaN': (changed(float('nan')), f'weights.pth has NaN or infinity in 1 of .* tensors: {WEIGHT}'),
    'inf': (changed(float('inf')), f'weights.pth has NaN or infinity in 1 of .* tensors: {WEIGHT}'),
    'int8': (changed(torch.int8), f'weights.pth has 1 tensors that are no weights: {WEIGHT} is int8. Want float32'),
    'bool': (changed(torch.bool), f'no weights: {WEIGHT} is bool'),
    'complex': (changed(torch.complex64), f'no weights: {WEIGHT} is complex64'),
    'numbers for names': (
        lambda state: {'state_dict': dict(enumerate(state.values()))},
        r'weights.pth has \d+ tensors under keys that are no names \(0, 1',
    ),
}


ARGUMENTS = {
    'test': ['test', '{config}', 'weights.pth', '--work-dir', 'out'],
    'load_from': ['train', '{config}', '--work-dir', 'out', '--cfg-options', 'load_from=weights.pth'],
    'pretrained': ['train', '{config}', '--work-dir', 'out', '--cfg-options', 'pretrained=weights.pth'],
    'infer': ['infer', 'data/ade/images', '--config', '{config}', '--checkpoint', 'weights.pth'],
}
DOORS = ('load_from', 'pretrained', 'infer')
SOME = [(door, fault) for door in DOORS for fault in ('a stage less', 'only meta', 'NaN')]


@pytest.fixture
def config(seg_config) -> Path:
    """A segmenter with our backbone."""
    text = seg_config.read_text().replace(
        "dict(type='ResNetV1c', depth=18, norm_cfg=norm)", "dict(type='mmlocalmamba.LocalVMamba', arch='micro')"
    )
    seg_config.write_text(text.replace('in_channels=512', 'in_channels=256'))
    return seg_config


@pytest.mark.parametrize(('door', 'fault'), [('test', fault) for fault in FAULTS] + [*SOME, ('load_from', 'int8')])
def test_bad_weights_are_refused(tool, config, model_state, door, fault) -> None:
    make, words = FAULTS[fault]
    torch.save(make(model_state(config)), 'weights.pth')
    name, *arguments = [argument.format(config=config) for argument in ARGUMENTS[door]]

    with pytest.raises(ValueError, match=words):
        tool(name).main(arguments)

    assert not any('mIoU' in path.read_text() for path in Path('out').glob('*/*.json'))


def test_a_run_that_diverged_is_not_resumed(tool, config) -> None:
    arguments = [str(config), '--work-dir', 'out', '--cfg-options', 'train_cfg.max_iters=2']
    tool('train').main(arguments)
    register_safe_globals()
    checkpoint = torch.load('out/iter_2.pth', weights_only=True)
    checkpoint['state_dict'][WEIGHT].fill_(float('nan'))
    torch.save(checkpoint, 'out/iter_2.pth')

    with pytest.raises(ValueError, match=f'out/iter_2.pth has NaN or infinity in 1 of .* tensors: {WEIGHT}'):
        tool('train').main([*arguments[:-1], 'train_cfg.max_iters=3', '--resume'])
