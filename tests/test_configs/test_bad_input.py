"""What a user may get wrong in a config stops it before training, with a message that says what is wanted."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet
from mmlocalmamba.engine.cli import apply_pretrained
from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.engine.weight_check import check_weights
from mmlocalmamba.models import LocalVim, LocalVMamba

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
VMAMBA, VIM = 'demo/mask_rcnn_localvmamba_micro_shapes.py', 'demo/upernet_localvim_micro_shapes.py'
ONE_BLOCK = dict(dims=[8], depths=[1], directions=[['h', 'v']])


def read(name, **backbone):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.update(backbone)
    return cfg


def build(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    ('name', 'backbone', 'message'),
    [
        (VMAMBA, dict(arch='base'), r"no arch 'base': choose from \['micro', 'small', 'tiny'\]"),
        (VIM, dict(arch='base'), r"no arch 'base': choose from \['micro', 'small'"),
        (VMAMBA, dict(arch=dict(ONE_BLOCK, directions=[['diagonal']])), "unknown scan direction 'diagonal': use"),
        (VMAMBA, dict(arch=dict(ONE_BLOCK, depths=[2])), 'directions for 1 blocks, but the network has 2'),
        (VIM, dict(arch=dict(embed_dim=8, depth=4, directions=[['h']] * 5)), 'directions for 5 blocks.* has 4'),
        (VMAMBA, dict(arch=dict(ONE_BLOCK, directions='no.json')), r'no\.json.* is no file'),
        (VMAMBA, dict(out_indices=(0, 1, 2, 4)), r'out_indices=\(0, 1, 2, 4\) must name .* 0 to 3'),
        (VIM, dict(out_indices=(-5,)), r'out_indices=\(-5,\) must name .* 0 to 3'),
        (VIM, dict(img_size=4), 'img_size=4 is smaller than one patch of patch_size=8'),
        (VMAMBA, dict(depth=50), "unexpected keyword argument 'depth'"),
    ],
)
def test_a_bad_backbone_is_refused_when_the_model_is_built(name, backbone, message):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        build(read(name, **{'out_indices': (0,), **backbone}))


@pytest.mark.parametrize('name', [VMAMBA, VIM])
def test_an_image_without_pixels_is_refused(name):
    model = build(read(name))
    with pytest.raises(ValueError, match=r'the image is 0 x 40 pixels: want at least one'):
        model.backbone(torch.zeros(1, 3, 0, 40))


@pytest.mark.parametrize(
    ('name', 'other', 'message'),
    [
        (
            VMAMBA,
            lambda: LocalVMamba(dict(LocalVMamba.arch_zoo['micro'], dims=(16, 32, 64, 128))),
            'of another shape: ',
        ),
        (VIM, lambda: LocalVim(dict(LocalVim.arch_zoo['micro'], embed_dim=32), patch_size=8, out_indices=(3,)), 'want'),
        (
            VMAMBA,
            lambda: LocalVim('micro', out_indices=(3,)),
            'does not fit this LocalVMamba.* missing: .* unexpected: ',
        ),
        (VIM, lambda: torch.nn.Conv2d(3, 4, 1), 'does not fit this LocalVim.* missing: .* unexpected: weight, bias'),
    ],
    ids=['another width', 'another width', 'the other backbone', 'another model'],
)
def test_weights_of_another_model_are_refused_when_the_model_takes_them(name, other, message, tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=other().state_dict()), file)
    cfg = read(name)
    apply_pretrained(cfg, str(file))
    check_weights(cfg)
    with pytest.raises(ValueError, match=message):
        build(cfg).init_weights()


def test_a_missing_checkpoint_is_refused_before_anything_is_built():
    cfg = read(VMAMBA)
    apply_pretrained(cfg, 'nowhere/weights.pth')
    with pytest.raises(FileNotFoundError, match=r'init_cfg\.checkpoint = nowhere/weights\.pth: there is no such file'):
        check_weights(cfg)


@pytest.mark.parametrize(
    ('name', 'path', 'remedy'),
    [
        ('mask_rcnn_localvmamba_t_1x.py', 'data/coco/annotations/instances_train2017.json', 'ln -s /path/to/coco'),
        ('upernet_localvim_t_160k_ade20k.py', 'data/ade/ADEChallengeData2016/images/training', 'ln -s /path/to/ade'),
        ('imagenet/local_vmamba_t.py', 'data/imagenet/train', 'one folder per class'),
        (VMAMBA, 'data/shapes/train', 'python tools/make_demo_data.py data/shapes'),
        (VIM, 'data/shapes/ade-like/annotations/training', 'python tools/make_demo_data.py data/shapes'),
    ],
)
def test_a_missing_data_set_is_named_with_its_remedy(name, path, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        check_data(read(name), ['train', 'val'])
    assert f' = {path}\n' in str(caught.value)
    assert remedy in str(caught.value)


def test_a_data_set_one_folder_too_deep_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('train2017', 'val2017', 'annotations'):
        (tmp_path / 'data/coco/coco2017' / folder).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='one folder too deep: move everything in data/coco/coco2017 up'):
        check_data(read('mask_rcnn_localvmamba_t_1x.py'), ['train', 'val'])
