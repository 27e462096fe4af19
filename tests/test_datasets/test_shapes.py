import hashlib
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmlocalmamba.datasets.shapes import (
    CLASSES,
    MAX_SIDE,
    MIN_SIDE,
    MIN_VISIBLE,
    Sample,
    coco_annotation,
    draw_shape,
    encode_rle,
    make_sample,
    write_shapes,
)


@pytest.fixture(scope='module')
def samples():
    return [make_sample(np.random.default_rng([3, index])) for index in range(30)]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_shapes(folder, {'train': 6, 'val': 3})
    return folder


def digest(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_gives_the_same_bytes(root, tmp_path):
    write_shapes(tmp_path, {'train': 6, 'val': 3})
    assert digest(tmp_path) == digest(root)


def test_another_seed_gives_other_images(root, tmp_path):
    write_shapes(tmp_path, {'val': 3}, seed=1)
    first, second = digest(root), digest(tmp_path)
    assert all(first[name] != second[name] for name in second)


def test_an_image_does_not_depend_on_how_many_there_are(root, tmp_path):
    write_shapes(tmp_path, {'train': 2})
    assert digest(tmp_path)['train/000001.jpg'] == digest(root)['train/000001.jpg']


def test_training_and_held_out_images_differ(root):
    files = digest(root)
    assert files['train/000000.jpg'] != files['val/000000.jpg']


def test_generating_again_leaves_no_older_images(tmp_path):
    write_shapes(tmp_path, {'val': 3})
    write_shapes(tmp_path, {'val': 2})
    assert sorted(path.name for path in (tmp_path / 'val').iterdir()) == ['000000.jpg', '000001.jpg']
    assert len(list((tmp_path / 'ade-like/annotations/validation').iterdir())) == 2


def test_sizes_differ_and_most_are_not_square(samples):
    sizes = {sample.image.shape[:2] for sample in samples}
    assert len(sizes) > 25
    assert all(MIN_SIDE <= side <= MAX_SIDE for size in sizes for side in size)
    assert sum(height != width for height, width in sizes) > 25


def test_visible_parts_never_overlap(samples):
    assert all(sample.masks.sum(0).max() <= 1 for sample in samples)


def test_many_shapes_touch_others(samples):
    touching = 0
    for sample in samples:
        grown = [cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool) for mask in sample.masks]
        touching += any((grown[i] & mask).any() for i in range(1, len(grown)) for mask in sample.masks[:i])
    assert touching > 10


def test_every_class_occurs(samples):
    assert {label for sample in samples for label in sample.labels} == set(range(len(CLASSES)))


def test_the_semantic_mask_agrees_with_the_instances(samples):
    for sample in samples:
        labels = sample.semantic_mask()
        for i in sample.annotated:
            assert (labels[sample.masks[i]] == sample.labels[i] + 2).all()
        assert (labels[~sample.masks.any(0)] == 1).all()


def test_an_almost_covered_shape_is_ignored():
    masks = np.zeros((2, 10, 100), bool)
    masks[0, 0, : MIN_VISIBLE - 1] = True
    masks[1, 5, :MIN_VISIBLE] = True
    sample = Sample(np.zeros((10, 100, 3), np.uint8), masks, [2, 4])
    assert sample.annotated == [1]
    assert (sample.semantic_mask()[masks[0]] == 0).all()
    assert (sample.semantic_mask()[masks[1]] == 6).all()


@pytest.mark.parametrize(('name', 'share'), [('disc', 0.785), ('ring', 0.589), ('square', 0.5), ('cross', 0.46)])
def test_a_shape_has_its_area(name, share):
    mask = draw_shape(name, (201, 201), (100, 100), 100, 0.3)
    assert mask.mean() == pytest.approx(share, abs=0.02)


def test_a_triangle_and_a_star_have_as_many_corners():
    for name, corners in (('triangle', 3), ('star', 10)):
        mask = draw_shape(name, (201, 201), (100, 100), 90, 0.3).astype(np.uint8)
        contour = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        assert len(cv2.approxPolyDP(contour, 6, True)) == corners


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="no shape 'blob': choose one of"):
        draw_shape('blob', (8, 8), (4, 4), 4, 0)


@pytest.mark.parametrize('fill', ['random', 'empty', 'full', 'first', 'last'])
def test_run_lengths_decode_to_the_mask(fill):
    mask = np.random.rand(7, 9) > 0.5
    if fill != 'random':
        mask[:] = fill == 'full'
        if fill in ('first', 'last'):
            mask.flat[0 if fill == 'first' else -1] = True
    rle = encode_rle(mask)
    decoded = coco_mask.decode(coco_mask.frPyObjects(rle, *rle['size']))
    assert (decoded.astype(bool) == mask).all()


def test_a_box_is_that_of_the_mask():
    mask = np.zeros((20, 30), bool)
    mask[3:9, 5:17] = True
    annotation = coco_annotation(mask, label=2, image_id=7, annotation_id=9)
    assert annotation['bbox'] == [5, 3, 12, 6]
    assert annotation['area'] == 72
    assert (annotation['category_id'], annotation['image_id'], annotation['id']) == (3, 7, 9)


def test_pycocotools_reads_the_annotations(root):
    coco = COCO(str(root / 'annotations/instances_train.json'))
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == annotation['area']


def test_files_are_where_their_annotations_say(root):
    for split, folder in {'train': 'training', 'val': 'validation'}.items():
        content = json.loads((root / f'annotations/instances_{split}.json').read_text())
        for image in content['images']:
            size = (image['height'], image['width'])
            name = image['file_name'].removesuffix('.jpg')
            assert cv2.imread(str(root / split / f'{name}.jpg')).shape[:2] == size
            assert cv2.imread(str(root / f'ade-like/images/{folder}/{name}.jpg')).shape[:2] == size
            labels = cv2.imread(str(root / f'ade-like/annotations/{folder}/{name}.png'), cv2.IMREAD_UNCHANGED)
            assert labels.shape == size
            assert labels.max() <= len(CLASSES) + 1


@pytest.mark.parametrize('counts', [{'train': 0}, {'test': 3}])
def test_a_wrong_split_is_refused(counts, tmp_path):
    with pytest.raises(ValueError, match="want 1 or more of each of \\['train', 'val'\\]"):
        write_shapes(tmp_path, counts)
