import numpy as np
import pytest
import torch
from PIL import Image

from mmlocalmamba.datasets import ImageFolder, TimmTransform
from mmlocalmamba.datasets.image_folder import _augmentations, read_rgb

PIPELINE = [dict(type='mmlocalmamba.TimmTransform', input_size=16, is_training=False)]


def write(folder, count=2, size=(24, 32), suffix='JPEG', mode='RGB'):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        shape = size if mode == 'L' else (*size, 3)
        Image.fromarray(np.random.randint(0, 256, shape, dtype=np.uint8), mode).save(folder / f'{index}.{suffix}')


def test_classes_are_the_folders_in_alphabetical_order(tmp_path):
    write(tmp_path / 'train/dog')
    write(tmp_path / 'train/cat', count=1)
    dataset = ImageFolder(tmp_path, 'train', PIPELINE)
    assert dataset.metainfo['classes'] == ('cat', 'dog')
    assert [dataset[i]['labels'] for i in range(len(dataset))] == [0, 1, 1]


def test_images_lie_at_any_depth_and_other_files_are_left_out(tmp_path):
    write(tmp_path / 'cat/kittens', count=3, suffix='png')
    (tmp_path / 'cat/notes.txt').write_text('no image')
    assert len(ImageFolder(tmp_path, pipeline=PIPELINE)) == 3


def test_metainfo_may_order_the_classes(tmp_path):
    for name in ('cat', 'dog'):
        write(tmp_path / name, count=1)
    dataset = ImageFolder(tmp_path, pipeline=PIPELINE, metainfo=dict(classes=('dog', 'cat')))
    assert 'dog' in dataset.get_data_info(0)['img_path']


def test_other_classes_in_metainfo_are_refused(tmp_path):
    write(tmp_path / 'cat', count=1)
    with pytest.raises(ValueError, match=r"differ in \['cat', 'dog'\]"):
        ImageFolder(tmp_path, metainfo=dict(classes=('dog',)))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder .*train'):
        ImageFolder(tmp_path, 'train')


def test_a_folder_without_classes_is_refused(tmp_path):
    write(tmp_path / 'train')
    with pytest.raises(ValueError, match='train has no classes: want one folder per class'):
        ImageFolder(tmp_path, 'train')


def test_a_class_without_images_is_refused(tmp_path):
    write(tmp_path / 'cat')
    (tmp_path / 'dog').mkdir()
    with pytest.raises(ValueError, match='dog has no images'):
        ImageFolder(tmp_path)


@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_evaluation_is_deterministic_and_square(tmp_path, mode):
    write(tmp_path / 'cat', count=1, suffix='png', mode=mode)
    dataset = ImageFolder(tmp_path, pipeline=PIPELINE)
    first, second = dataset[0]['inputs'], dataset[0]['inputs']
    assert first.shape == (3, 16, 16)
    assert torch.equal(first, second)


def test_the_training_recipe_augments(tmp_path):
    write(tmp_path / 'cat', count=1, size=(40, 40))
    transform = TimmTransform(32, True, auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.25)
    item = dict(img_path=str(tmp_path / 'cat/0.JPEG'), gt_label=3)
    first, second = transform(item), transform(item)
    assert first['labels'] == 3
    assert first['inputs'].shape == (3, 32, 32)
    assert not torch.equal(first['inputs'], second['inputs'])


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5-inc1', 'v0r-mstd0.5', 'augmix-m9'])
def test_the_strongest_posterizing_is_survived(tmp_path, policy):
    """At the magnitude of 10, which the recipe draws now and then, timm asks for 0 bits."""
    write(tmp_path / 'cat', count=1, size=(40, 40))
    transform = TimmTransform(32, True, auto_augment=policy)
    operations = [op for op in _augmentations(transform.transform) if op.name == 'PosterizeIncreasing']
    assert operations
    with Image.open(tmp_path / 'cat/0.JPEG') as image:
        for operation in operations:
            operation.prob, operation.magnitude, operation.magnitude_std = 1.0, 10, 0
            assert set(np.asarray(operation(image)).flat) == {0, 128}


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match='auto_augmentation'):
        TimmTransform(16, True, auto_augmentation='rand-m9')


def test_hidden_files_and_folders_are_left_out(tmp_path):
    write(tmp_path / 'cat', count=1)
    write(tmp_path / 'cat/.thumbnails')
    write(tmp_path / '.cache')
    (tmp_path / 'cat/._0.JPEG').write_bytes(b'what macOS writes beside files')
    dataset = ImageFolder(tmp_path, pipeline=PIPELINE)
    assert dataset.metainfo['classes'] == ('cat',)
    assert len(dataset) == 1


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_16_bits_are_scaled_to_8(tmp_path, suffix):
    values = np.array([[0, 255, 256, 40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f'image.{suffix}')
    image = np.asarray(read_rgb(tmp_path / f'image.{suffix}'))
    assert image[0, :, 0].tolist() == [0, 0, 1, 156, 255]
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize(('dtype', 'what'), [(np.float32, 'real numbers'), (np.int32, '32-bit numbers')])
def test_pixels_without_a_known_range_are_refused(tmp_path, dtype, what):
    Image.fromarray(np.ones((4, 4), dtype)).save(tmp_path / 'image.tif')
    with pytest.raises(ValueError, match=rf'image\.tif has {what} as pixels: convert it'):
        read_rgb(tmp_path / 'image.tif')


def test_a_truncated_image_is_named(tmp_path):
    write(tmp_path, count=1)
    path = tmp_path / '0.JPEG'
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(OSError, match=r'0\.JPEG is cut off or damaged: '):
        TimmTransform(16, is_training=False)(dict(img_path=str(path), gt_label=0))


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(OSError, match=r'1\.jpg is not there'):
        read_rgb(tmp_path / '1.jpg')
