import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS

from mmlocalmamba.engine import allocator, cli
from mmlocalmamba.engine.cli import apply_pretrained, build_runner, load_config, make_parser


@MODELS.register_module()
class Empty(BaseModel):
    """Does nothing."""

    def forward(self, inputs: torch.Tensor, mode: str) -> None:
        """Do nothing."""


def test_building_a_runner_changes_neither_the_process_nor_the_config(tmp_path, monkeypatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError('this is a step of its own')

    monkeypatch.setattr(allocator, 'keep_freed_memory', refuse)
    monkeypatch.setattr(allocator.ctypes, 'CDLL', refuse)
    monkeypatch.setattr(torch.distributed, 'init_process_group', refuse)
    cfg = Config({'model': {'type': 'Empty'}, 'work_dir': str(tmp_path), 'launcher': 'none'})
    before = cfg.to_dict()

    build_runner(cfg)

    assert cfg.to_dict() == before


def test_pretrained_option_reaches_the_backbone() -> None:
    cfg = Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})

    apply_pretrained(cfg, 'weights.pth')

    assert cfg.model.backbone.init_cfg == {'type': 'Pretrained', 'checkpoint': 'weights.pth'}
    assert cfg.pretrained == 'weights.pth'


def test_pretrained_none_takes_weights_away() -> None:
    cfg = Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})
    apply_pretrained(cfg, 'weights.pth')

    apply_pretrained(cfg, None)

    assert cfg.model.backbone.init_cfg is None


def test_pretrained_without_backbone_is_refused() -> None:
    with pytest.raises(KeyError, match='no model.backbone'):
        apply_pretrained(Config({'model': {}}), 'weights.pth')


CONFIG = """
pretrained = 'vmamba.pth'
model = dict(
    backbone=dict(type='mmlocalmamba.LocalVMamba', init_cfg=dict(type='Pretrained', checkpoint=pretrained))
)
"""


def init_cfg_with(folder, *options: str) -> dict:
    """Give the backbone's init_cfg as the tools read a config with options."""
    (folder / 'config.py').write_text(CONFIG)
    args = make_parser('test').parse_args([str(folder / 'config.py'), '--cfg-options', *options])
    return load_config(args).model.backbone.init_cfg.to_dict()


def test_warm_start_option_reaches_the_backbone(tmp_path) -> None:
    wanted = {'type': 'Pretrained', 'checkpoint': 'vmamba.pth', 'warm_start': True}

    assert init_cfg_with(tmp_path, 'warm_start=True') == wanted
    assert init_cfg_with(tmp_path, 'pretrained=other.pth', 'warm_start=True') == {**wanted, 'checkpoint': 'other.pth'}


def test_warm_start_at_the_top_of_a_config_reaches_the_backbone(tmp_path) -> None:
    (tmp_path / 'config.py').write_text(CONFIG + 'warm_start = True\n')
    args = make_parser('test').parse_args([str(tmp_path / 'config.py')])

    assert load_config(args).model.backbone.init_cfg.warm_start is True


def test_directions_of_the_source_reach_the_backbone(tmp_path) -> None:
    found = init_cfg_with(tmp_path, 'warm_start=True', 'source_directions=found.json')

    assert found['source_directions'] == 'found.json'


def test_an_option_without_warm_start_takes_none(tmp_path) -> None:
    wanted = {'type': 'Pretrained', 'checkpoint': 'vmamba.pth'}

    assert init_cfg_with(tmp_path, 'model.backbone.arch=tiny') == wanted
    assert init_cfg_with(tmp_path, 'warm_start=False') == wanted


def test_warm_start_without_a_checkpoint_is_refused() -> None:
    cfg = Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})

    with pytest.raises(ValueError, match='warm_start=True needs a checkpoint'):
        apply_pretrained(cfg, None, warm_start=True)
    with pytest.raises(ValueError, match='give warm_start=True too'):
        apply_pretrained(cfg, 'weights.pth', source_directions='found.json')


def test_flexible_runner_in_several_cpu_processes_is_refused_by_name(monkeypatch) -> None:
    monkeypatch.setattr(cli, 'has_accelerator', lambda: False)

    with pytest.raises(ValueError, match='FlexibleRunner.*needs a GPU per process'):
        cli.build_runner(Config(dict(runner_type='FlexibleRunner', launcher='pytorch')))
