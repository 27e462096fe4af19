from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmlocalmamba.engine.data_check import check_data

MASKS = Path('data/shapes/ade-like/annotations/training')


def spoil(function, count: int = 1) -> list[Path]:
    paths = sorted(MASKS.iterdir())[:count]
    for path in paths:
        Image.fromarray(function(np.array(Image.open(path)))).save(path)
    return paths


def above(mask):
    mask[0, 0] = 9
    return mask


def test_sound_masks_pass(demo) -> None:
    assert check_data(demo('upernet'), ['train', 'val', 'test']) == []


def test_labels_above_the_classes_are_named(demo, complaint) -> None:
    cfg = demo('upernet')
    (path,) = spoil(above)
    text = complaint(cfg)
    assert f'1 of 8 masks that were read of train_dataloader.dataset:\n    {path} has labels 9, but' in text
    assert 'the last of 7 classes has label 7' in text


def test_labels_count_from_0_without_reduce_zero_label(demo, complaint) -> None:
    cfg = demo('upernet')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.reduce_zero_label = False
    assert 'has labels 7, but the last of 7 classes has label 6' in complaint(cfg)


@pytest.mark.parametrize(
    ('function', 'said'),
    [
        (lambda mask: mask[:-3], 'but its image is'),
        (lambda mask: np.stack([mask] * 3, 2), 'colours instead of labels'),
        (lambda mask: mask.astype(np.uint16) + 300, 'has labels 30'),
    ],
)
def test_masks_of_another_size_or_kind_are_named(function, said, demo, complaint) -> None:
    cfg = demo('upernet')
    spoil(function)
    assert said in complaint(cfg)


def test_missing_and_broken_masks_are_named(demo, complaint) -> None:
    cfg = demo('upernet')
    first, second = sorted(MASKS.iterdir())[:2]
    first.unlink()
    second.write_bytes(b'')
    text = complaint(cfg)
    assert f'{first} is missing: the mask of ' in text
    assert f'{second} cannot be read' in text


def test_masks_without_any_class_are_named(demo, complaint) -> None:
    cfg = demo('upernet')
    spoil(np.zeros_like, count=7)
    check_data(cfg, ['train'])
    spoil(np.zeros_like, count=8)
    text = complaint(cfg)
    assert 'All 8 masks that were read of train_dataloader.dataset have no pixel of any class' in text
    assert 'the loss would be 0 and mIoU nan' in text


def test_few_bad_masks_are_noted_where_they_will_be_skipped(demo, complaint) -> None:
    cfg = demo('upernet', bad_samples='skip')
    spoil(above)
    (note,) = check_data(cfg, ['train'])
    assert 'has labels 9' in note
    spoil(above, count=8)
    assert '8 of 8 masks' in complaint(cfg)


def test_another_reduce_zero_label_in_the_pipeline_is_named(demo, complaint) -> None:
    cfg = demo('upernet')
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = False
    assert 'train_dataloader.dataset.pipeline.1.reduce_zero_label is False, but' in complaint(cfg)


def test_a_suffix_that_no_image_has_is_named(demo, complaint) -> None:
    text = complaint(demo('upernet', train_dataloader__dataset__img_suffix='.bmp'))
    assert 'has no file that ends in .bmp, but 8 that end in .jpg' in text


def test_only_a_sample_is_read(demo, monkeypatch) -> None:
    import mmlocalmamba.engine.data_check.masks as module

    cfg = demo('upernet')
    monkeypatch.setattr(module, 'NUM_SAMPLES', 2)
    paths = sorted(MASKS.iterdir())
    for path in paths[1:4]:
        path.write_bytes(b'')
    check_data(cfg, ['train'])
    paths[4].write_bytes(b'')
    with pytest.raises(ValueError, match='1 of 2 masks'):
        check_data(cfg, ['train'])
