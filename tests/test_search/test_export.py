import json

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.directions import CANDIDATES
from mmlocalmamba.models import LocalVim, LocalVMamba, VMamba
from mmlocalmamba.models.weights.loading import load_backbone
from mmlocalmamba.search import (
    export_weights,
    probabilities,
    search_mixers,
    searched_config,
    top_directions,
    undecided_blocks,
    write_directions,
)

VIM = dict(embed_dim=16, depth=2)
VMAMBA = dict(dims=[8, 16], depths=[1, 1])


def build(kind, directions, **kwargs):
    if kind == 'vim':
        arch = {**VIM, 'directions': directions}
        return LocalVim(arch=arch, img_size=32, patch_size=8, out_indices=(1,), d_state=4, **kwargs)
    if kind == 'vmamba v2':
        arch = dict(VMAMBA, kind='v2', ssm_ratio=1.0)
        return VMamba(arch=arch, directions=directions, out_indices=(1,), attn=True, **kwargs)
    return LocalVMamba(arch={**VMAMBA, 'directions': directions}, out_indices=(1,), d_state=4, **kwargs)


def test_top_directions_come_in_canonical_order():
    block = dict(w7_flip=0.3, v=0.1, h_flip=0.2, h=0.05, w2=0.35)
    assert top_directions([block], 3) == (('h_flip', 'w2', 'w7_flip'),)


@pytest.mark.parametrize('count', [0, 4])
def test_fewer_candidates_than_k_are_refused(count):
    with pytest.raises(ValueError, match=rf'cannot choose {count} directions in block 0, which has 3 candidates'):
        top_directions([dict(h=0.5, v=0.3, w2=0.2)], count)


def test_probabilities_of_a_search_that_diverged_are_refused():
    with pytest.raises(ValueError, match='the probabilities of h, v in block 1 are not finite'):
        top_directions([dict(h=0.5, v=0.3, w2=0.2), dict(h=float('nan'), v=float('nan'), w2=0.2)], 1)


@pytest.mark.parametrize('kind', ['vim', 'vmamba', 'vmamba v2'])
def test_exported_branches_are_the_supernets(kind, tmp_path):
    model = build(kind, [CANDIDATES] * 2, search=True)
    for parameter in model.parameters():
        parameter.data.normal_()
    directions = top_directions(probabilities(model), 4)
    torch.save(dict(state_dict=export_weights(model, directions)), tmp_path / 'weights.pth')
    write_directions(tmp_path / 'directions.json', directions, probabilities(model))
    searched = build(kind, str(tmp_path / 'directions.json'))
    load_backbone(searched, tmp_path / 'weights.pth')

    assert searched.directions == directions
    ours = {name: module for name, module in searched.named_modules() if hasattr(module, 'x_proj_weight')}
    for name, mixer in search_mixers(model).items():
        x = torch.randn(1, 16, mixer.d_inner)
        branches = mixer.scan(x, 4, 4)
        chosen = [mixer.directions.index(direction) for direction in ours[name].directions]
        torch.testing.assert_close(ours[name].scan(x, 4, 4), branches[:, chosen])
        torch.testing.assert_close(ours[name].merge.attn(branches), mixer.merge.attn(branches))


def test_exporting_directions_that_are_no_candidates_is_refused():
    model = build('vim', [('h', 'v', 'w2')] * 2, search=True)
    with pytest.raises(ValueError, match=r'layers\.1\.mixer has no candidate w7'):
        export_weights(model, [('h',), ('w7',)])


def test_exporting_directions_of_another_depth_is_refused():
    with pytest.raises(ValueError, match='directions for 1 blocks, but the supernet has 2'):
        export_weights(build('vim', [CANDIDATES] * 2, search=True), [('h',)])


def test_written_directions_are_json_with_one_block_per_line(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'v'), ('w2',)], [dict(h=0.5, v=0.5), dict(w2=1.0)])
    text = (tmp_path / 'd.json').read_text()
    assert json.loads(text) == {
        'directions': [['h', 'v'], ['w2']],
        'probabilities': [{'h': 0.5, 'v': 0.5}, {'w2': 1.0}],
    }
    assert '    ["h", "v"],\n' in text


def search_config(**backbone):
    backbone = dict(
        type='mmlocalmamba.LocalVim', arch={**VIM, 'directions': [list(CANDIDATES)] * 2}, search=True, **backbone
    )
    hooks = [dict(type='mmlocalmamba.DirectionSearchHook'), dict(type='mmlocalmamba.NonFiniteHook')]
    return Config(dict(model=dict(type='X', backbone=backbone), custom_hooks=hooks))


def test_searched_config_has_no_search_left(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'v')] * 2)
    cfg = search_config()
    searched = searched_config(cfg, tmp_path / 'd.json')
    assert 'search' not in searched.model.backbone
    assert searched.model.backbone.arch == {**VIM, 'directions': str(tmp_path / 'd.json')}
    assert [hook.type for hook in searched.custom_hooks] == ['mmlocalmamba.NonFiniteHook']
    assert cfg.model.backbone.search


def test_searched_config_does_not_start_where_the_search_did(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'v')] * 2)
    cfg = search_config(init_cfg=dict(type='Pretrained', checkpoint='a.pth'))
    cfg.merge_from_dict(dict(work_dir='work_dirs/search', load_from='b.pth', resume=True))
    searched = searched_config(cfg, tmp_path / 'd.json')
    assert 'init_cfg' not in searched.model.backbone
    assert (searched.load_from, searched.resume, searched.get('work_dir')) == (None, False, None)


def test_searched_config_takes_the_sizes_of_a_named_arch(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'v')] * 4)
    cfg = Config(dict(model=dict(backbone=dict(type='mmlocalmamba.LocalVim', arch='micro'))))
    searched = searched_config(cfg, tmp_path / 'd.json')
    assert searched.model.backbone.arch == dict(embed_dim=64, depth=4, directions=str(tmp_path / 'd.json'))


def test_searched_config_of_vmamba_keeps_its_kind(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'w2')] * 5)
    backbone = dict(type='mmlocalmamba.VMamba', arch='micro_s1l2', directions=[list(CANDIDATES)] * 5, search=True)
    searched = searched_config(Config(dict(model=dict(backbone=backbone))), tmp_path / 'd.json').model.backbone
    assert searched.arch == dict(
        dims=[32, 64, 128, 256], depths=[1, 1, 2, 1], kind='v2', ssm_ratio=1.0, directions=str(tmp_path / 'd.json')
    )
    assert set(searched) == {'type', 'arch'}
    assert VMamba(arch=searched.arch.to_dict()).directions == (('h', 'w2'),) * 5


def test_directions_of_another_depth_are_refused(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'v')] * 3)
    with pytest.raises(ValueError, match='directions for 3 blocks, but the network has 2'):
        searched_config(search_config(), tmp_path / 'd.json')


def test_unknown_direction_in_the_json_is_refused(tmp_path):
    write_directions(tmp_path / 'd.json', [('h', 'diagonal')] * 2)
    with pytest.raises(ValueError, match=r"d\.json: unknown scan direction 'diagonal'"):
        searched_config(search_config(), tmp_path / 'd.json')


def test_a_config_without_our_backbone_is_refused(tmp_path):
    with pytest.raises(ValueError, match='one of LocalVMamba, LocalVim, VMamba'):
        searched_config(Config(dict(model=dict(type='X'))), tmp_path / 'd.json')


def test_blocks_that_have_not_decided_are_found():
    even = dict.fromkeys(CANDIDATES, 1 / len(CANDIDATES))
    nearly = {**even, CANDIDATES[0]: even[CANDIDATES[0]] + 1e-3, CANDIDATES[1]: even[CANDIDATES[1]] - 1e-3}
    decided = {**dict.fromkeys(CANDIDATES, 0.1), CANDIDATES[0]: 0.3}
    assert undecided_blocks([even, decided, nearly]) == [0, 2]


def test_the_searched_config_does_not_start_from_the_supernets_checkpoint(tmp_path):
    write_directions(tmp_path / 'directions.json', [('h', 'v')] * 2)
    backbone = dict(type='mmlocalmamba.LocalVim', arch=dict(VIM), search=True, init_cfg=dict(type='Pretrained'))
    cfg = Config(dict(model=dict(backbone=backbone), pretrained='old.pth', pretrained_weights='raw'))
    searched = searched_config(cfg, tmp_path / 'directions.json')
    assert 'pretrained' not in searched
    assert 'pretrained_weights' not in searched
    assert 'init_cfg' not in searched.model.backbone
