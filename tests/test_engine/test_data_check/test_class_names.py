import shutil
from pathlib import Path

import pytest

from mmlocalmamba.engine.data_check import check_data

from .conftest import TRAIN, VAL

NAMES = ('disc', 'square', 'triangle', 'star', 'ring', 'cross')
KEY = 'train_dataloader.dataset.metainfo.classes'


def rename(names):
    return lambda content: [
        category.update(name=name) for category, name in zip(content['categories'], names, strict=True)
    ]


def test_a_name_that_differs_a_little_is_named_with_its_match(demo, edit, complaint) -> None:
    edit(TRAIN, rename(('Disc', *NAMES[1:])))
    text = complaint(demo('mask_rcnn'))
    assert f'1 class of {KEY} (disc) is not in {TRAIN}' in text
    assert "it has 'Disc' in place of 'disc'. Labels after" in text


def test_the_file_of_the_metric_is_compared_too(demo, edit, complaint) -> None:
    shutil.copy(VAL, 'other.json')
    edit(Path('other.json'), rename(('circle', *NAMES[1:])))
    assert 'not in other.json (val_evaluator.ann_file)' in complaint(
        demo('mask_rcnn', val_evaluator__ann_file='other.json')
    )


def test_names_that_are_all_wrong_are_answered_with_the_files(demo, complaint) -> None:
    cfg = demo('mask_rcnn')
    for split in ('train', 'val'):
        del cfg[f'{split}_dataloader'].dataset.metainfo
    text = complaint(cfg)
    assert f'None of the 80 classes of {KEY} (person, bicycle, ' in text
    assert 'which has 6 categories: disc, square, triangle, star, ring, cross. Set ' in text
    assert 'num_classes' not in text


def test_another_order_is_named_since_mmdet_keeps_to_the_file(demo, complaint) -> None:
    order = ['square', 'disc', *NAMES[2:]]
    cfg = demo('mask_rcnn')
    cfg.train_dataloader.dataset.metainfo.classes = cfg.val_dataloader.dataset.metainfo.classes = order
    text = complaint(cfg)
    assert "label 0 is 'square' in the config and 'disc' in the file" in text
    assert f'Set {KEY} to {NAMES}' in text


def test_mmdet_gives_labels_in_the_order_of_the_file(demo) -> None:
    """What the check above rests on."""
    from mmdet.datasets import CocoDataset

    cfg = demo('mask_rcnn')
    part = cfg.train_dataloader.dataset
    settings = dict(data_root=part.data_root, ann_file=part.ann_file, data_prefix=dict(part.data_prefix))
    other = ('square', 'disc', *NAMES[2:])
    given = CocoDataset(**settings, metainfo=dict(classes=NAMES))
    swapped = CocoDataset(**settings, metainfo=dict(classes=other))
    assert swapped.cat2label == given.cat2label


def test_a_choice_of_the_files_classes_passes(demo) -> None:
    heads = {f'model__roi_head__{kind}_head__num_classes': 2 for kind in ('bbox', 'mask')}
    cfg = demo('mask_rcnn', **heads)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.metainfo = dict(classes=('disc', 'star'))
    check_data(cfg, ['train', 'val'])


@pytest.mark.parametrize('kind', ['mask_rcnn', 'upernet'])
def test_splits_with_other_classes_are_named(kind, demo, complaint) -> None:
    cfg = demo(kind)
    metainfo = cfg.val_dataloader.dataset.metainfo
    metainfo.classes = tuple(reversed(metainfo.classes))
    text = complaint(cfg)
    assert 'The classes of train_dataloader.dataset' in text
    assert 'differ in their order' in text
