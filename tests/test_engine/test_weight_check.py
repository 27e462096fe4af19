from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmlocalmamba.engine.cli import apply_pretrained
from mmlocalmamba.engine.weight_check import PUBLISHED_WEIGHTS, check_weights, starting_point
from mmlocalmamba.models import Vim, VMamba


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch) -> Path:
    """Relative paths start in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_config() -> Config:
    return Config({'model': {'backbone': {'type': 'mmlocalmamba.LocalVMamba'}}})


def test_missing_weights_are_named() -> None:
    cfg = model_config()
    apply_pretrained(cfg, 'checkpoints/weights.pth')

    with pytest.raises(FileNotFoundError, match='model.backbone.init_cfg.checkpoint = checkpoints/weights.pth'):
        check_weights(cfg)


def test_missing_load_from_is_named() -> None:
    cfg = model_config()
    cfg.load_from = 'epoch_12.pth'

    with pytest.raises(FileNotFoundError, match='load_from = epoch_12.pth'):
        check_weights(cfg)


def test_folder_in_place_of_weights_is_refused(tmp_path) -> None:
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights/file').write_text('')
    cfg = model_config()
    cfg.load_from = 'weights'

    with pytest.raises(FileNotFoundError, match='It is a folder'):
        check_weights(cfg)


def test_good_weights_and_urls_pass() -> None:
    torch.save({'state_dict': {}}, 'weights.pth')
    cfg = model_config()
    apply_pretrained(cfg, 'weights.pth')
    cfg.load_from = 'https://example.org/weights.pth'

    check_weights(cfg)


def test_log_says_from_scratch_and_what_was_never_published() -> None:
    text = starting_point(model_config())

    assert "LocalVMamba (arch='tiny') trains FROM SCRATCH" in text
    assert 'No weights of this size were ever published' in text
    assert '--cfg-options pretrained=' in text


def test_log_names_published_weights() -> None:
    cfg = model_config()
    cfg.model.backbone.update(arch='small')

    assert 'local_vssm_small.ckpt' in starting_point(cfg)


def test_log_says_how_local_vmamba_t_can_be_started() -> None:
    assert 'vssmtiny_dp01_ckpt_epoch_292.pth warm_start=True' in starting_point(model_config())


@pytest.mark.parametrize(
    ('kind', 'arch', 'file'),
    [
        ('VMamba', 'tiny_s1l8', 'vssm1_tiny_0230s_ckpt_epoch_264.pth'),
        ('Vim', 'small', 'vim_s_midclstok_80p5acc.pth'),
    ],
)
def test_log_names_the_published_weights_of_baselines(kind, arch, file) -> None:
    cfg = model_config()
    cfg.model.backbone.update(type=f'mmlocalmamba.{kind}', arch=arch)

    text = starting_point(cfg)

    assert f'The backbone {kind} (arch={arch!r}) trains FROM SCRATCH' in text
    assert file in text


def test_every_published_architecture_of_baselines_has_its_weights() -> None:
    for cls in (VMamba, Vim):
        named = {arch for kind, arch in PUBLISHED_WEIGHTS if kind == cls.__name__}
        assert named == {arch for arch in cls.arch_zoo if 'micro' not in arch}


def test_log_says_that_a_start_is_warm() -> None:
    cfg = model_config()
    apply_pretrained(cfg, 'vmamba.pth', warm_start=True)

    assert starting_point(cfg) == 'The backbone starts from vmamba.pth, by a warm start.'


def test_log_for_an_architecture_of_ones_own() -> None:
    cfg = model_config()
    cfg.model.backbone.update(arch={'dims': [8], 'depths': [1], 'directions': [['h']]})

    assert 'No weights of this size' in starting_point(cfg)


def test_log_says_no_more_than_it_knows_of_other_backbones() -> None:
    cfg = model_config()
    cfg.model.backbone.type = 'ResNet'

    assert 'the backbone ResNet starts as its own defaults say' in starting_point(cfg)


def test_log_names_given_weights() -> None:
    cfg = model_config()
    apply_pretrained(cfg, 'weights.pth')

    assert starting_point(cfg) == 'The backbone starts from weights.pth.'


def test_log_names_what_is_resumed() -> None:
    cfg = model_config()
    cfg.update(resume=True, load_from='epoch_1.pth')

    assert starting_point(cfg) == 'Training resumes from epoch_1.pth.'


def test_log_does_not_promise_that_a_whole_model_is_loaded() -> None:
    cfg = model_config()
    cfg.load_from = 'model.pth'

    assert starting_point(cfg) == 'The model starts from model.pth: how many of its tensors are loaded is said below.'


def test_checking_changes_no_config() -> None:
    torch.save({'state_dict': {}}, 'weights.pth')
    cfg = model_config()
    cfg.load_from = 'weights.pth'
    before = cfg.to_dict()

    check_weights(cfg)

    assert cfg.to_dict() == before
