import json
import math
from pathlib import Path

import pytest

from mmlocalmamba.datasets.bad_samples import BadSampleList
from mmlocalmamba.engine.data_check import check_data, clean_annotations

from .conftest import TRAIN, VAL


def test_bad_records_are_left_out_counted_and_listed(demo, edit) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(bbox=[1, math.nan, 5, 5]))
    edit(VAL, lambda content: content['annotations'][0].update(category_id=77))
    cfg = demo('mask_rcnn', bad_samples='skip')
    count, original = len(json.loads(VAL.read_text())['annotations']), TRAIN.read_text()

    train, val = clean_annotations(cfg, ['train', 'val'])

    clean = Path('out/clean_annotations').absolute()
    assert cfg.train_dataloader.dataset.ann_file == str(clean / TRAIN.name)
    assert cfg.val_dataloader.dataset.ann_file == cfg.val_evaluator.ann_file == str(clean / VAL.name)
    assert len(json.loads((clean / TRAIN.name).read_text())['annotations']) == 35
    assert len(json.loads((clean / VAL.name).read_text())['annotations']) == count - 1
    assert TRAIN.read_text() == original
    assert f"bad_samples='skip': 1 annotation of {TRAIN} left out" in train
    assert 'bad_samples.txt' in val
    assert BadSampleList('out').read() == [
        (f'annotation 4 of {TRAIN}', 'has bbox [1, nan, 5, 5], not all of which is finite'),
        (f'annotation 1 of {VAL}', 'has category_id 77, which the categories of the file lack'),
    ]
    assert check_data(cfg, ['train', 'val']) == []
    assert clean_annotations(cfg, ['train', 'val']) == []


def test_annotations_of_bad_images_go_with_them(demo, edit) -> None:
    edit(TRAIN, lambda content: content['images'][0].pop('width'))
    cfg = demo('mask_rcnn', bad_samples='skip')
    clean_annotations(cfg, ['train'])
    content = json.loads(Path(cfg.train_dataloader.dataset.ann_file).read_text())
    assert len(content['images']) == 7
    assert {annotation['image_id'] for annotation in content['annotations']} == set(range(1, 8))


def test_sound_files_stay_where_they_are(demo) -> None:
    cfg = demo('mask_rcnn', bad_samples='skip')
    before = cfg.to_dict()
    assert clean_annotations(cfg, ['train', 'val']) == []
    assert cfg.to_dict() == before
    assert not Path('out').exists()


def test_nothing_is_left_out_unless_asked_for(demo, edit) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(bbox=[0]))
    cfg = demo('mask_rcnn')
    before = cfg.to_dict()
    assert clean_annotations(cfg, ['train']) == []
    assert cfg.to_dict() == before


def test_a_split_of_which_nothing_is_left_is_still_refused(demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: [annotation.update(bbox=[0]) for annotation in content['annotations']])
    cfg = demo('mask_rcnn', bad_samples='skip')
    clean_annotations(cfg, ['train'])
    assert 'has no box for training: it has no annotations' in complaint(cfg, 'train')


def test_files_of_one_name_stay_apart(demo, edit) -> None:
    cfg = demo('mask_rcnn', bad_samples='skip')
    other = Path('other') / TRAIN.name
    other.parent.mkdir()
    other.write_bytes(VAL.read_bytes())
    for path in (TRAIN, other):
        edit(path, lambda content: content['annotations'][0].update(bbox=[0]))
    cfg.val_dataloader.dataset.ann_file = str(other.absolute())
    clean_annotations(cfg, ['train', 'val'])
    assert Path(cfg.val_dataloader.dataset.ann_file).name == 'instances_train_2.json'
    assert Path(cfg.train_dataloader.dataset.ann_file).name == 'instances_train.json'


def test_other_policies_are_refused(demo) -> None:
    for function in (clean_annotations, check_data):
        with pytest.raises(ValueError, match="bad_samples='drop': want 'raise'"):
            function(demo('mask_rcnn', bad_samples='drop'), ['train'])
