"""Loading transforms of the mm packages and of ours, on files that are bad in one way each."""

import logging
import pickle

import cv2
import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.logging import MMLogger
from PIL import Image
from torch.utils.data import Subset

import mmlocalmamba  # noqa: F401  isort: skip  before mmcv

import mmcv.transforms  # noqa: F401  registers its transforms

from mmlocalmamba.datasets import ImageFolder
from mmlocalmamba.datasets.bad_samples import BadSampleList
from mmlocalmamba.datasets.checked_loading import BadSampleError, CheckedLoading, check_loading, leaf_datasets

from .bad_files import BAD, JPEG, ODD, PROBLEMS, noise, write

LOAD = dict(type='LoadImageFromFile')
GOOD = {f'good{i}.jpg': JPEG for i in range(3)}


class Images(BaseDataset):
    """Names of images, from which the pipeline makes samples."""

    def __init__(self, paths, pipeline=(LOAD,), **settings):
        self.paths = [str(path) for path in paths]
        super().__init__(pipeline=list(pipeline), **settings)

    def load_data_list(self):
        return [dict(img_path=path) for path in self.paths]

    def get_cat_ids(self, idx):
        return [0]


@pytest.fixture
def files(tmp_path):
    write(tmp_path, {**BAD, **ODD, **GOOD})
    return tmp_path


@pytest.fixture
def bad(tmp_path):
    return BadSampleList(tmp_path / 'log')


@pytest.mark.parametrize('name', BAD)
def test_a_bad_image_is_named_with_what_is_wrong(name, files, bad):
    dataset = Images([files / name])
    assert check_loading(dataset, 'raise', bad) == 1
    with pytest.raises(BadSampleError, match=rf"{files / name} {PROBLEMS[name]}.*bad_samples='skip'"):
        dataset[0]
    assert len(bad) == 0


@pytest.mark.parametrize('name', BAD)
def test_another_sample_takes_the_place_of_a_bad_one(name, files, bad):
    dataset = Images([files / name, *(files / good for good in GOOD)])
    check_loading(dataset, 'skip', bad)
    assert 'good' in dataset[0]['img_path']
    ((source, problem),) = bad.read()
    assert source == str(files / name)
    assert problem.startswith('is ')


@pytest.mark.parametrize('name', ODD)
def test_odd_images_are_loaded_as_before(name, files, bad):
    plain, checked = Images([files / name]), Images([files / name])
    check_loading(checked, 'raise', bad)
    np.testing.assert_array_equal(checked[0]['img'], plain[0]['img'])
    assert checked[0]['img'].ndim == 3
    assert checked[0]['img'].shape[2] == 3


def test_in_testing_a_bad_image_is_an_error_whatever_the_policy(files, bad):
    dataset = Images([files / 'half.jpg', *(files / good for good in GOOD)], test_mode=True)
    check_loading(dataset, 'skip', bad)
    with pytest.raises(BadSampleError, match=r'half\.jpg is cut off.*results on fewer images could not be compared'):
        dataset[0]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda dataset: RepeatDataset(dataset, 2),
        lambda dataset: ConcatDataset([dataset]),
        lambda dataset: ClassBalancedDataset(dataset, 0.5),
        lambda dataset: Subset(ConcatDataset([dataset]), [0]),
    ],
    ids=['repeat', 'concat', 'balanced', 'nested'],
)
def test_wrapped_data_sets_are_reached(wrap, files, bad):
    inner = Images([files / 'empty.jpg', *(files / good for good in GOOD)])
    dataset = wrap(inner)
    assert list(leaf_datasets(dataset)) == [inner]
    assert check_loading(dataset, 'skip', bad) == 1
    assert 'good' in dataset[0]['img_path']
    assert check_loading(dataset, 'skip', bad) == 0


def test_transforms_of_transforms_are_reached(files, bad):
    dataset = Images([files / 'empty.jpg'], [dict(type='RandomApply', transforms=[LOAD], prob=1.0)])
    assert check_loading(dataset, 'raise', bad) == 1
    with pytest.raises(BadSampleError, match=r'empty\.jpg is empty'):
        dataset[0]


def test_a_checked_data_set_goes_to_spawned_workers(files, bad):
    dataset = Images([files / 'good0.jpg'])
    check_loading(dataset, 'raise', bad)
    assert pickle.loads(pickle.dumps(dataset))[0]['img'].shape == (48, 64, 3)


def test_errors_that_are_not_the_samples_fault_pass(files, bad):
    dataset = Images([files / 'good0.jpg'])
    check_loading(dataset, 'skip', bad)
    dataset.pipeline.transforms[0].transform = lambda results: results['no such key']
    with pytest.raises(KeyError, match='no such key'):
        dataset[0]


def test_running_out_of_memory_is_not_the_samples_fault(files, bad):
    def load(results):
        raise MemoryError

    with pytest.raises(MemoryError):
        CheckedLoading(load, 'skip', bad, training=True)(dict(img_path=str(files / 'half.jpg')))


def test_annotations_that_do_not_load_are_told_by_their_image(files, bad):
    pipeline = [LOAD, dict(type='mmdet.LoadAnnotations', with_bbox=True)]
    dataset = Images([files / 'good0.jpg'], pipeline)
    check_loading(dataset, 'raise', bad)
    data = dict(img_path=str(files / 'good0.jpg'), instances=[dict(bbox='0 0 1 1', bbox_label=0, ignore_flag=0)])
    with pytest.raises(BadSampleError, match=r'good0\.jpg has annotations that do not load: ValueError: '):
        dataset.pipeline(data)


def load_mask(folder, name, mask, training=True, reduce=False, before=(), **settings):
    """Load an image of 48 x 64 pixels and a mask, written unless it is None, by MMSegmentation's transforms."""
    path = folder / f'{name}.png'
    if isinstance(mask, Image.Image):
        mask.save(path)
    elif mask is not None:
        cv2.imwrite(str(path), mask)
    pipeline = [LOAD, *before, dict(type='mmseg.LoadAnnotations', **settings)]
    dataset = Images([folder / 'good0.jpg'], pipeline, test_mode=not training)
    assert check_loading(dataset, 'raise', BadSampleList(folder / 'log')) == 2
    return dataset.pipeline(
        dict(img_path=str(folder / 'good0.jpg'), seg_map_path=str(path), reduce_zero_label=reduce, seg_fields=[])
    )


def test_a_mask_of_another_size_is_named_with_its_image(files):
    with pytest.raises(BadSampleError, match=r'small\.png is 24 x 64 pixels, but its image .*good0\.jpg is 48 x 64'):
        load_mask(files, 'small', noise(24, 64, 1))


def test_a_palette_mask_gives_its_indices(files):
    indices = noise(48, 64, 1) % 5
    mask = Image.fromarray(indices)
    mask.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] * 2)
    assert mask.mode == 'P'
    np.testing.assert_array_equal(load_mask(files, 'palette', mask)['gt_seg_map'], indices)
    with pytest.raises(BadSampleError, match=r"want one number per pixel.*imdecode_backend='pillow'"):
        load_mask(files, 'palette', mask, imdecode_backend='cv2')


def test_a_coloured_mask_is_refused(files):
    with pytest.raises(BadSampleError, match=r'rgb\.png has the shape \(48, 64, 3\): want one number per pixel'):
        load_mask(files, 'rgb', noise(48, 64))


def test_a_mask_without_a_label_is_bad_in_training_alone(files):
    ignored = np.full((48, 64), 255, np.uint8)
    with pytest.raises(BadSampleError, match=r'void\.png has no label: all of its pixels are ignored \(255\)'):
        load_mask(files, 'void', ignored)
    assert load_mask(files, 'void', ignored, training=False)['gt_seg_map'].shape == (48, 64)
    ignored[0, 0] = 3
    assert load_mask(files, 'void', ignored)['gt_seg_map'].max() == 255


def test_a_mask_is_compared_with_the_image_before_it_was_resized(files):
    resize = dict(type='Resize', scale=(96, 96), keep_ratio=True)
    assert load_mask(files, 'fits', noise(48, 64, 1), before=[resize])['img'].shape[:2] == (72, 96)
    with pytest.raises(BadSampleError, match=r'as_resized\.png is 72 x 96 pixels, but its image .* is 48 x 64'):
        load_mask(files, 'as_resized', noise(72, 96, 1), before=[resize])


@pytest.mark.parametrize('size', [(1, 1), (1, 64)])
@pytest.mark.parametrize('reduce', [False, True])
def test_a_mask_of_one_row_is_named(size, reduce, files):
    with pytest.raises(BadSampleError, match=r'thin\.png is one pixel wide or high'):
        load_mask(files, 'thin', noise(*size, 1), reduce=reduce)


def test_a_cut_off_mask_is_named(files):
    data = cv2.imencode('.png', noise(48, 64, 1))[1].tobytes()
    (files / 'cut.png').write_bytes(data[:1500])
    with pytest.raises(BadSampleError, match=r'cut\.png is cut off or damaged'):
        load_mask(files, 'cut', None)


@pytest.mark.parametrize('name', ['16_bits.png', '16_bits.tif'])
def test_lost_bits_are_told_once(name, files, bad, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    try:
        dataset = Images([files / name for name in ('good0.jpg', name, name)])
        check_loading(dataset, 'raise', bad)
        samples = [dataset[i] for i in range(3)]
    finally:
        logger.removeHandler(caplog.handler)
    assert len(samples) == 3
    assert caplog.text.count(f'{name} has 16 bits per channel, of which LoadImageFromFile keeps the upper 8') == 1


def test_images_of_classes_are_checked(tmp_path, bad):
    write(tmp_path / 'cat', {'half.jpg': BAD['half.jpg'], 'good.jpg': JPEG})
    pipeline = [dict(type='mmlocalmamba.TimmTransform', input_size=16, is_training=False)]
    dataset = ImageFolder(tmp_path, pipeline=pipeline)
    assert check_loading(dataset, 'skip', bad) == 1
    half = next(i for i in range(2) if 'half' in dataset.get_data_info(i)['img_path'])
    assert dataset[half]['inputs'].shape == (3, 16, 16)
    assert [sample.source for sample in bad.read()] == [str(tmp_path / 'cat/half.jpg')]
