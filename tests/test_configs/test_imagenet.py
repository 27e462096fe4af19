"""Every ImageNet and search config is built, and takes a training step with tiny inputs."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmlocalmamba.registry import DATASETS, MODELS
from mmlocalmamba.search import search_mixers, set_num_sampled

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
BASELINES = ('vim_s.py', 'vim_t.py', 'vmamba_s.py', 'vmamba_t.py', 'vmamba_v2_t.py')
IMAGENET = [
    *sorted(f'imagenet/{path.name}' for path in (CONFIGS / 'imagenet').glob('*.py')),
    *(f'baselines/{name}' for name in BASELINES),
]
SEARCH = sorted(f'search/{path.name}' for path in (CONFIGS / 'search').glob('*.py') if 'shapes' not in path.name)
PARAMETERS = {
    'local_vmamba_t': 25.53,
    'local_vmamba_s': 49.75,
    'local_vim_t': 7.99,
    'local_vim_s': 27.78,
    'ablation_vim_t_horizontal': 7.15,  # Vim-Ti has 7 M in table 2
    'ablation_vim_t_local': 7.15,
    'ablation_local_vim_t_mixed_no_scattn': 7.23,
    'ablation_local_vim_t_mixed': 7.99,
}


def load(path):
    cfg = Config.fromfile(CONFIGS / path)
    cfg.optim_wrapper.type = 'OptimWrapper'
    del cfg.optim_wrapper['loss_scale']
    return cfg


def build(cfg):
    """Build the model of a config for images of 64 x 64 pixels, without drop path, which can leave blocks out."""
    cfg.model.backbone.drop_path_rate = 0.0
    if cfg.model.backbone.type.endswith('Vim'):
        cfg.model.backbone.img_size = 64
    return MODELS.build(cfg.model)


def step(model, cfg):
    """Take one step on two images; returns the loss."""
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    data = dict(inputs=torch.randn(2, 3, 64, 64), labels=torch.tensor([1, 7]))
    return model.train_step(data, wrapper)['loss'].item()


@pytest.mark.parametrize('name', IMAGENET)
def test_an_imagenet_config_builds_and_every_parameter_moves(name):
    cfg = load(name)
    model = build(cfg)
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    assert 5 < step(model, cfg) < 9  # log(1000) = 6.9
    assert [key for key, parameter in model.named_parameters() if torch.equal(parameter, before[key])] == []


@pytest.mark.parametrize('name', SEARCH)
def test_a_search_config_builds_and_every_alpha_moves(name):
    cfg = load(name)
    model = build(cfg)
    hook = next(hook for hook in cfg.custom_hooks if hook.type.endswith('DirectionSearchHook'))
    set_num_sampled(model, hook.get('num_sampled'))
    alphas = [mixer.merge.alpha for mixer in search_mixers(model).values()]
    before = [alpha.detach().clone() for alpha in alphas]
    assert 5 < step(model, cfg) < 9
    for old, alpha in zip(before, alphas, strict=True):
        assert (alpha != old).all()


@pytest.mark.parametrize('name', PARAMETERS)
def test_parameters_are_those_of_the_paper(name):
    model = MODELS.build(load(f'imagenet/{name}.py').model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(PARAMETERS[name], abs=0.005)


@pytest.mark.parametrize(
    'name',
    [
        'imagenet/local_vim_t.py',
        'imagenet/local_vim_t_middle_cls.py',
        'imagenet/local_vmamba_t.py',
        'baselines/vim_t.py',
        'baselines/vmamba_v2_t.py',
    ],
)
def test_only_matrices_decay(name):
    cfg = load(name)
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    per_direction = ('A_log', '.D', 'dt_proj_bias', 'conv_bias', 'alpha', 'pos_embed', 'cls_token', 'cls_pos_embed')
    for parameter_name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or parameter_name.endswith(per_direction)
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), parameter_name


def test_alpha_does_not_decay():
    cfg = load('search/local_vim_search.py')
    model = MODELS.build(cfg.model)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    assert {decay[id(mixer.merge.alpha)] for mixer in search_mixers(model).values()} == {0.0}


@pytest.mark.parametrize('name', [*IMAGENET, *SEARCH])
def test_the_recipe(name):
    """Paper 5.1; CutMix as in the works that it follows."""
    cfg = Config.fromfile(CONFIGS / name)
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, 0.05)
    assert cfg.optim_wrapper.clip_grad.max_norm > 0
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    epochs = 100 if name in SEARCH else 300
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == epochs
    assert [scheduler.type for scheduler in cfg.param_scheduler] == ['LinearLR', 'CosineAnnealingLR']
    assert cfg.param_scheduler[0].end == 20
    (transform,) = cfg.train_dataloader.dataset.pipeline
    assert (transform.auto_augment, transform.re_prob) == ('rand-m9-mstd0.5-inc1', 0.25)
    mix = cfg.model.data_preprocessor
    assert (mix.mixup, mix.cutmix, mix.num_classes) == (0.2, 1.0, cfg.model.head.num_classes)
    assert cfg.val_evaluator.topk == (1, 5)
    assert cfg.default_hooks.num_classes.type == 'mmlocalmamba.NumClassesHook'


@pytest.mark.parametrize('name', IMAGENET)
def test_the_first_hook_averages_the_weights(name):
    """The options for gradient accumulation rely on its place."""
    hook = Config.fromfile(CONFIGS / name).custom_hooks[0]
    assert (hook.type, hook.ema_type) == ('EMAHook', 'mmlocalmamba.WarmupEMA')
    assert 1 - hook.momentum == 0.9999


@pytest.mark.parametrize('name', SEARCH)
def test_the_first_hook_searches(name):
    cfg = Config.fromfile(CONFIGS / name)
    assert cfg.custom_hooks[0].type == 'mmlocalmamba.DirectionSearchHook'
    assert not any(hook.type == 'EMAHook' for hook in cfg.custom_hooks)
    arch = cfg.model.backbone.arch
    assert arch.get('embed_dim', 128) == 128
    assert arch.get('dims', [32])[0] == 32


@pytest.mark.parametrize(
    ('name', 'directions', 'attn'),
    [
        ('ablation_vim_t_horizontal', ('h', 'h_flip'), False),
        ('ablation_vim_t_local', ('w2', 'w2_flip'), False),
        ('ablation_local_vim_t_mixed_no_scattn', ('h', 'h_flip', 'w2', 'w2_flip'), False),
        ('ablation_local_vim_t_mixed', ('h', 'h_flip', 'w2', 'w2_flip'), True),
    ],
)
def test_the_rows_of_table_5(name, directions, attn):
    backbone = MODELS.build(load(f'imagenet/{name}.py').model).backbone
    assert backbone.directions == (directions,) * (24 if len(directions) == 2 else 20)
    assert {layer.mixer.merge.attn is not None for layer in backbone.layers} == {attn}


def test_data_of_the_config_are_looked_for_where_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = load('imagenet/local_vim_t.py').train_dataloader.dataset
    with pytest.raises(FileNotFoundError, match='data/imagenet/train'):
        DATASETS.build(dataset)


@pytest.mark.parametrize('name', IMAGENET)
def test_the_head_states_the_published_figure(name):
    text = (CONFIGS / name).read_text()
    assert 'Published: ' in text
    assert 'top-1' in text
