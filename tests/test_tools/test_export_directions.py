"""From a search in a detector or a segmenter to the training of what it found, by the commands of docs/search.md."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmlocalmamba.datasets.shapes import write_shapes
from mmlocalmamba.directions import CANDIDATES
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.weights.loading import load_backbone
from mmlocalmamba.registry import MODELS
from mmlocalmamba.search import search_mixers
from mmlocalmamba.search.hook import read_log

SMALL = {
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'val_dataloader.dataset.indices': 1,
    'custom_hooks.0.interval': 1,
}
TASKS = {
    'mask_rcnn_localvmamba': {'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.interval': 1},
    'upernet_localvim': {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2},
}


@pytest.fixture(params=TASKS)
def searched(request, tool, repo_dir):
    """Search for a step or two and export; returns the checkpoint. DIR is 'work'."""
    write_shapes(Path('data/shapes'), {'train': 4, 'val': 2})
    config = str(repo_dir / f'configs/search/{request.param}_micro_shapes_search.py')
    settings = {**SMALL, **TASKS[request.param]}
    options = [f'{key}={value}' for key, value in settings.items()]
    tool('train').main([config, '--work-dir', 'work', '--cfg-options', *options])
    checkpoint = Path('work/last_checkpoint').read_text()
    # The config that the work dir has, not the one in configs: that is what was trained.
    tool('search/export_directions').main([f'work/{Path(config).name}', checkpoint])
    return checkpoint


@pytest.mark.slow
def test_a_detector_searches_and_trains_on_with_what_it_found(searched, tool, capsys):
    export = json.loads(Path('work/directions.json').read_text())
    records = read_log('work/directions_log.jsonl')
    assert [record['iter'] for record in records] == [0, 1, 2]
    for block, probability in zip(export['directions'], export['probabilities'], strict=True):
        assert len(block) == 4
        assert min(probability[name] for name in block) >= max(
            (p for name, p in probability.items() if name not in block), default=0
        )

    cfg = Config.fromfile('work/searched.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    supernet = MODELS.build(Config.fromfile(next(Path('work').glob('*_shapes_search.py'))).model)
    supernet.load_state_dict(torch.load(searched, weights_only=True)['state_dict'])
    load_backbone(model.backbone, 'work/searched_weights.pth')
    for name, mixer in search_mixers(supernet).items():
        ours = model.get_submodule(name)
        chosen = [mixer.directions.index(direction) for direction in ours.directions]
        torch.testing.assert_close(ours.x_proj_weight, mixer.x_proj_weight[chosen])
        torch.testing.assert_close(ours.A_log, mixer.A_log[chosen])
    with pytest.raises(ValueError, match='is a supernet of the direction search'):
        load_backbone(model.backbone, searched)

    length = 'train_cfg.max_epochs=1' if 'max_epochs' in cfg.train_cfg else 'train_cfg.max_iters=1'
    train = tool('train')
    train.main(
        ['work/searched.py', '--work-dir', 'again', '--cfg-options', 'pretrained=work/searched_weights.pth', length]
    )
    assert 'The backbone starts from work/searched_weights.pth' in ''.join(
        path.read_text() for path in Path('again').glob('*/*.log')
    )
    assert not Path('again/directions_log.jsonl').exists(), 'it searches no more'


CONFIG = """
default_scope = 'mmengine'
candidates = ['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']
model = dict(
    type='mmlocalmamba.ImageClassifier',
    backbone=dict(
        type='mmlocalmamba.LocalVim',
        arch=dict(embed_dim=8, depth=2, directions=[candidates] * 2),
        img_size=32,
        patch_size=16,
        out_indices=(-1,),
        d_state=2,
        search=True,
    ),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=8, num_classes=2),
)
custom_hooks = [dict(type='mmlocalmamba.DirectionSearchHook')]
"""


@pytest.fixture
def supernet(tmp_path):
    """A config file of a supernet, and a checkpoint in which block 0 wants h, v, w2 and w7."""
    (tmp_path / 'search.py').write_text(CONFIG)
    model = MODELS.build(Config.fromfile('search.py').model)
    model.backbone.layers[0].mixer.merge.alpha.data = torch.tensor([2.0, 0, 2, 0, 2, 0, 2, 0])
    torch.save(dict(state_dict=model.state_dict()), 'search.pth')
    return ['search.py', 'search.pth']


def test_it_prints_the_choice_and_names_its_files(tool, supernet, capsys):
    tool('search/export_directions').main([*supernet, '--out-dir', 'out'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['block', '0:', 'h', '0.220', 'v', '0.220', 'w2', '0.220', 'w7', '0.220']
    assert lines[-3:] == ['out/directions.json', 'out/searched.py', 'out/searched_weights.pth']
    assert all(Path(name).is_file() for name in lines[-3:])


def test_a_target_config_gets_the_directions(tool, supernet):
    Path('target.py').write_text(CONFIG.replace('search=True', 'search=False').replace('embed_dim=8', 'embed_dim=16'))
    tool('search/export_directions').main([*supernet, '--target', 'target.py', '--top-k', '2', '--out-dir', 'out'])
    backbone = LocalVim(**{k: v for k, v in Config.fromfile('out/searched.py').model.backbone.items() if k != 'type'})
    assert backbone.pos_embed.shape[-1] == 16
    assert [len(block) for block in backbone.directions] == [2, 2]


def test_more_directions_than_candidates_are_refused(tool, supernet):
    with pytest.raises(ValueError, match='cannot choose 9 directions in block 0, which has 8 candidates'):
        tool('search/export_directions').main([*supernet, '--top-k', '9'])


def test_a_target_of_another_depth_is_refused(tool, supernet):
    Path('target.py').write_text(CONFIG.replace('depth=2', 'depth=3').replace('* 2', '* 3'))
    with pytest.raises(ValueError, match='directions for 2 blocks, but the network has 3'):
        tool('search/export_directions').main([*supernet, '--target', 'target.py'])


def test_a_checkpoint_of_another_model_is_refused(tool, supernet):
    fixed = Config.fromfile('search.py').model
    fixed.backbone.update(search=False)
    torch.save(MODELS.build(fixed).state_dict(), 'fixed.pth')
    with pytest.raises(ValueError, match=r'fixed directions.*this LocalVim is a supernet'):
        tool('search/export_directions').main(['search.py', 'fixed.pth'])


@pytest.mark.parametrize('kind', [LocalVim, LocalVMamba])
@pytest.mark.parametrize(
    ('blocks', 'message'),
    [
        ([['h', 'diagonal']], r"d\.json: unknown scan direction 'diagonal'"),
        ([['h', 'v']] * 3, 'got directions for 3 blocks, but the network has'),
        ([['h', 'h']], r'd\.json: block 0 repeats'),
        ([[]], r'd\.json: block 0 has no scan direction'),
        ('h', 'must hold one list of direction names per block'),
    ],
)
def test_wrong_directions_in_a_file_are_refused_when_the_model_is_built(kind, blocks, message):
    Path('d.json').write_text(json.dumps({'directions': blocks}))
    sizes = dict(embed_dim=8, depth=1) if kind is LocalVim else dict(dims=[8], depths=[1])
    with pytest.raises(ValueError, match=message):
        kind(arch={**sizes, 'directions': 'd.json'}, out_indices=(0,))


def test_all_candidates_of_the_paper_are_in_the_configs(repo_dir):
    for path in (repo_dir / 'configs/search').glob('*.py'):
        names = Config.fromfile(path).model.backbone.arch.directions[0]
        assert set(CANDIDATES) <= set(names), path.name


def test_a_search_that_has_decided_nothing_is_a_warning(tool, supernet, capsys):
    tool('search/export_directions').main([*supernet, '--out-dir', 'out'])
    assert 'WARNING: the search is undecided in 1 of 2 blocks' in capsys.readouterr().out
