import math
from pathlib import Path

import pytest

from mmlocalmamba.engine.data_check import check_data

from .conftest import TRAIN, VAL

COUNT = 36


def test_sound_data_pass(demo) -> None:
    assert check_data(demo('mask_rcnn'), ['train', 'val', 'test']) == []


@pytest.mark.parametrize(
    ('record', 'said'),
    [
        (dict(bbox=[1, math.nan, 5, 5]), 'has bbox [1, nan, 5, 5], not all of which is finite'),
        (dict(bbox=[1, 2, math.inf, 5]), 'has bbox [1, 2, inf, 5], not all of which is finite'),
        (dict(bbox=[1, 2, 0, 5]), 'has bbox [1, 2, 0, 5], whose area is not above 0'),
        (dict(bbox=[1000, 2, 5, 5]), 'has bbox [1000, 2, 5, 5], outside its image of'),
        (dict(bbox=['1', '2', '3', '4']), "has bbox ['1', '2', '3', '4'], not all of which are numbers"),
        (dict(bbox=[1, 2, 3]), 'has bbox [1, 2, 3] instead of four numbers: x, y, width, height'),
        (dict(image_id=999), 'is of image 999, which is not among the images of the file'),
        (dict(category_id=77), 'has category_id 77, which the categories of the file lack'),
        (dict(area='large'), "has area 'large' instead of a number"),
        (dict(area=0), 'has area 0'),
        (dict(segmentation=[]), 'has no segmentation, but masks will be read'),
        (dict(segmentation=[[1, 2, 3, 4]]), 'has a polygon of 4 numbers: x and y of at least three points are wanted'),
        (dict(segmentation=[[1, 2, math.nan, 4, 5, 6]]), 'has a polygon from'),
        (dict(segmentation=[[1, 2, 1e9, 4, 5, 6]]), 'has a polygon from 1 to 1000000000.0, far outside its image'),
        (dict(segmentation=[['a'] * 6]), 'has a polygon with something else than numbers'),
        (dict(segmentation=dict(size=[3, 4], counts=[12])), 'has a mask of height and width [3, 4], but its image has'),
    ],
)
def test_a_bad_annotation_is_named(record, said, demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(record))
    text = complaint(demo('mask_rcnn'))
    assert f'1 of {COUNT} annotations of {TRAIN} (train_dataloader.dataset.ann_file) cannot be used' in text
    assert f'annotation 4 {said}' in text
    assert '--cfg-options bad_samples=skip' in text


@pytest.mark.parametrize('counts', [[5, 5], '55', [5, -5], 'ooo', [1.5, 2.5]])
def test_run_lengths_that_do_not_cover_the_image_are_named(counts, demo, edit, complaint) -> None:
    def spoil(content: dict) -> None:
        annotation = content['annotations'][3]
        image = next(image for image in content['images'] if image['id'] == annotation['image_id'])
        annotation['segmentation'] = dict(size=[image['height'], image['width']], counts=counts)

    edit(TRAIN, spoil)
    assert 'annotation 4 has a run-length mask that ' in complaint(demo('mask_rcnn'))


def test_masks_that_nothing_reads_are_not_looked_at(demo, edit) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(segmentation=[]))
    cfg = demo('mask_rcnn')
    for step in cfg.train_dataloader.dataset.pipeline:
        step.pop('with_mask', None)
    check_data(cfg, ['train'])


def test_bad_images_are_named(demo, edit, complaint) -> None:
    def spoil(content: dict) -> None:
        content['images'].append(dict(content['images'][0]))
        del content['images'][1]['height']

    edit(TRAIN, spoil)
    text = complaint(demo('mask_rcnn'))
    assert '2 of 9 images and' in text
    assert 'image 1 has no height' in text
    assert 'image 0 has the id of another image' in text


def test_all_files_and_problems_are_named_together_the_first_few_in_words(demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: [annotation.update(bbox=[0]) for annotation in content['annotations'][:20]])
    edit(VAL, lambda content: content['annotations'][0].update(id=content['annotations'][1]['id']))
    text = complaint(demo('mask_rcnn', model__roi_head__mask_head__num_classes=80))
    assert f'20 of {COUNT} annotations' in text
    assert 'and 12 more' in text
    assert 'has the id of another annotation' in text
    assert 'model.roi_head.mask_head.num_classes is 80' in text


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{"images": [', 'is not a JSON file'),
        ('[]', 'is a list instead of an object with images, annotations, categories'),
        ('{"images": []}', 'has no categories: is it in COCO format?'),
        ('{"images": [], "categories": [{"id": 1}]}', "has the category {'id': 1}: an object with id and name"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "has several categories with the name 'a'",
        ),
    ],
)
def test_a_file_of_another_kind_is_named(content, said, demo, complaint) -> None:
    cfg = demo('mask_rcnn')
    TRAIN.write_text(content)
    assert f'{TRAIN} (train_dataloader.dataset.ann_file) {said}' in complaint(cfg)


def test_a_split_without_boxes_is_named_with_the_reason(demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: [annotation.update(iscrowd=1) for annotation in content['annotations']])
    edit(VAL, lambda content: content.update(annotations=[]))
    text = complaint(demo('mask_rcnn'))
    assert f'has no box for training: {COUNT} good annotations of the classes, all of them crowds' in text
    assert 'has no box for the metrics of val: it has no annotations' in text


def test_fractions_in_place_of_pixels_are_recognised(demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: [annotation.update(bbox=[0.1, 0.2, 0.3, 0.4]) for annotation in content['annotations']])
    assert 'none of which is a pixel wide and high' in complaint(demo('mask_rcnn'))


def test_test_images_without_annotations_pass_where_nothing_is_scored(demo, edit) -> None:
    edit(VAL, lambda content: content.pop('annotations'))
    metric = dict(type='CocoMetric', ann_file=str(VAL), format_only=True, outfile_prefix='results')
    cfg = demo('mask_rcnn')
    cfg.test_evaluator = metric
    check_data(cfg, ['test'])


def test_a_few_boxes_without_area_among_many_are_noted(demo, edit) -> None:
    """COCO's own train2017 has two such boxes in 860,001, which mmdet leaves out."""

    def spoil(content: dict) -> None:
        first = dict(content['annotations'][0], segmentation=[[1, 1, 5, 1, 5, 5]])
        content['annotations'] = [dict(first, id=number) for number in range(20_000)]
        content['annotations'][7]['bbox'] = [1, 1, 0, 5]

    edit(TRAIN, spoil)
    note = check_data(demo('mask_rcnn'), ['train'])[0]
    assert 'mmdet leaves 1 of 20,000 annotations' in note
    assert 'annotation 7' in note


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ClassBalancedDataset', 'ConcatDataset', 'MultiImageMixDataset'])
def test_wrapped_data_sets_are_looked_at(wrapper, demo, edit, complaint) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(bbox=[0]))
    cfg = demo('mask_rcnn')
    inner = cfg.train_dataloader.dataset
    key = 'datasets' if wrapper == 'ConcatDataset' else 'dataset'
    cfg.train_dataloader.dataset = dict(type=wrapper, **{key: [inner] if key == 'datasets' else inner})
    assert f'train_dataloader.dataset.{key}' in complaint(cfg)


@pytest.mark.parametrize('change', [dict(type='NoSuchDataset'), dict(backend_args=dict(backend='petrel'))])
def test_unknown_types_and_other_file_systems_are_left_alone(change, demo, edit) -> None:
    edit(TRAIN, lambda content: content['annotations'][3].update(bbox=[0]))
    cfg = demo('mask_rcnn')
    cfg.train_dataloader.dataset.update(change)
    check_data(cfg, ['train'])


def test_checking_changes_nothing(demo) -> None:
    cfg = demo('mask_rcnn', bad_samples='skip')
    before, files = cfg.to_dict(), sorted(Path().rglob('*'))
    check_data(cfg, ['train', 'val', 'test'])
    assert (cfg.to_dict(), sorted(Path().rglob('*'))) == (before, files)
