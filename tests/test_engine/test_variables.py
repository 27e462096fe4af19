"""Settings that stand for several others, written in a config file or given on the command line."""

import pytest
from mmengine.config import Config

import mmlocalmamba  # noqa: F401
from mmlocalmamba.engine.cli import load_config, make_parser

BASE = """
pretrained = 'base.pth'
data_root = 'data/coco/'
model = dict(
    backbone=dict(type='mmlocalmamba.LocalVMamba', init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=8),
    data_preprocessor=dict(type='mmlocalmamba.ClassificationDataPreprocessor', num_classes=1000),
)
train_dataloader = dict(dataset=dict(type='CocoDataset', data_root=data_root, ann_file='train.json'))
val_dataloader = dict(dataset=dict(type='CocoDataset', data_root=data_root, ann_file='val.json'))
val_evaluator = [dict(type='CocoMetric', ann_file=data_root + 'annotations/val.json')]
"""
CHILD = "_base_ = ['base.py']\n"


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a config as the tools do: the base and a file on it, and perhaps one on that, with options."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *options: str, grandchild: str | None = None) -> Config:
        (tmp_path / 'base.py').write_text(BASE)
        (tmp_path / 'child.py').write_text(text)
        file = 'child.py'
        if grandchild is not None:
            file = 'grandchild.py'
            (tmp_path / file).write_text("_base_ = ['child.py']\n" + grandchild)
        return load_config(make_parser('test').parse_args([file, *(['--cfg-options', *options] if options else [])]))

    return load


def checkpoint(cfg: Config) -> str | None:
    init_cfg = cfg.model.backbone.init_cfg
    return init_cfg and init_cfg.checkpoint


def roots(cfg: Config) -> list[str]:
    data = [cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val')]
    return [*data, cfg.val_evaluator[0].ann_file]


def test_pretrained_of_a_config_file_reaches_the_backbone(read) -> None:
    assert checkpoint(read(CHILD)) == 'base.pth'
    assert checkpoint(read(CHILD + "pretrained = 'mine.pth'")) == 'mine.pth'
    assert checkpoint(read(CHILD + 'pretrained = None')) is None


def test_pretrained_of_a_file_between_reaches_the_backbone(read) -> None:
    assert checkpoint(read(CHILD + "pretrained = 'mine.pth'", grandchild='seed = 1')) == 'mine.pth'
    assert checkpoint(read(CHILD, grandchild="pretrained = 'mine.pth'")) == 'mine.pth'


def test_what_a_file_says_about_the_backbone_itself_counts_more(read) -> None:
    explicit = "model = dict(backbone=dict(init_cfg=dict(checkpoint='explicit.pth')))"

    assert checkpoint(read(CHILD + explicit)) == 'explicit.pth'
    assert checkpoint(read(CHILD + "pretrained = 'mine.pth'", grandchild=explicit)) == 'explicit.pth'
    assert checkpoint(read(CHILD + 'model = dict(backbone=dict(init_cfg=None))')) is None
    assert checkpoint(read(CHILD + explicit, grandchild="pretrained = 'mine.pth'")) == 'mine.pth'


def test_options_count_more_than_files(read) -> None:
    assert checkpoint(read(CHILD + "pretrained = 'mine.pth'", 'pretrained=option.pth')) == 'option.pth'
    option = 'model.backbone.init_cfg.checkpoint=option.pth'
    assert checkpoint(read(CHILD + "pretrained = 'mine.pth'", option)) == 'option.pth'


def test_a_file_that_contradicts_itself_is_left_as_it_is_and_the_log_says_so(read, capfd) -> None:
    whole = BASE + "pretrained = 'mine.pth'"

    assert checkpoint(read(whole)) == 'base.pth'
    assert "pretrained = 'mine.pth' is not used: the config gives" in ''.join(capfd.readouterr())


def test_a_backbone_without_any_checkpoint_takes_that_of_the_file(read) -> None:
    replaced = "pretrained = 'mine.pth'\nmodel = dict(backbone=dict(_delete_=True, type='mmlocalmamba.LocalVim'))"

    assert checkpoint(read(CHILD + replaced)) == 'mine.pth'


def test_the_choice_of_weights_reaches_the_backbone(read) -> None:
    wanted = {'type': 'Pretrained', 'checkpoint': 'base.pth', 'weights': 'raw'}

    assert read(CHILD, 'pretrained_weights=raw').model.backbone.init_cfg.to_dict() == wanted
    assert read(CHILD + "pretrained_weights = 'raw'").model.backbone.init_cfg.to_dict() == wanted
    with pytest.raises(ValueError, match="pretrained_weights='ema': want averaged or raw"):
        read(CHILD, 'pretrained_weights=ema')
    with pytest.raises(ValueError, match='pretrained=<file or URL> of a checkpoint with both'):
        read(CHILD, 'pretrained_weights=raw', 'pretrained=None')


@pytest.mark.parametrize('root', ['mine', 'mine/'])
def test_one_folder_moves_all_data(root, read) -> None:
    wanted = ['mine/', 'mine/', 'mine/annotations/val.json']

    assert roots(read(CHILD, f'data_root={root}')) == wanted
    assert roots(read(CHILD + f"data_root = '{root}'")) == wanted
    assert roots(read(CHILD + f"data_root = '{root}'", grandchild='seed = 1')) == wanted


def test_a_data_set_with_its_own_folder_keeps_it(read) -> None:
    own = "train_dataloader = dict(dataset=dict(data_root='own'))"
    wanted = ['own', 'mine/', 'mine/annotations/val.json']

    assert roots(read(CHILD + own, 'data_root=mine')) == wanted
    assert roots(read(CHILD + own)) == ['own', 'data/coco/', 'data/coco/annotations/val.json']


def test_a_variable_that_the_data_sets_do_not_use_is_left_alone(read) -> None:
    base = "_base_ = []\ntrain_dataloader = dict(dataset=dict(type='CocoDataset', ann_file='data/train.json'))\n"

    cfg = read(base + "data_root = 'data/'", grandchild="data_root = 'mine/'")

    assert cfg.train_dataloader.dataset.ann_file == 'data/train.json'


def test_a_folder_that_nothing_lies_in_is_refused(read) -> None:
    scattered = (
        "train_dataloader = dict(dataset=dict(data_root='a'))\nval_dataloader = dict(dataset=dict(data_root='b'))"
    )
    with pytest.raises(ValueError, match='the data sets of the config lie in a, b: give each its own'):
        read(CHILD + scattered, 'data_root=mine')


def test_one_number_of_classes_sets_all_heads(read) -> None:
    model = read(CHILD, 'num_classes=3').model

    assert (model.head.num_classes, model.data_preprocessor.num_classes) == (3, 3)


@pytest.mark.parametrize('count', ['0', 'three'])
def test_no_number_of_classes_is_refused(count, read) -> None:
    with pytest.raises(ValueError, match='want a positive integer as num_classes'):
        read(CHILD, f'num_classes={count}')
