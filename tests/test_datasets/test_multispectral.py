import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from mmlocalmamba.datasets.bad_samples import BadSampleList
from mmlocalmamba.datasets.checked_loading import BadSampleError, CheckedLoading
from mmlocalmamba.datasets.multispectral import LoadMultispectralImage, channel_statistics
from mmlocalmamba.datasets.shapes import make_sample, spectral_bands, write_shapes


def pixels(channels, dtype=np.uint16, height=20, width=30):
    values = np.random.default_rng(channels).integers(0, 200, (height, width, channels))
    return (values * 100 if np.dtype(dtype).itemsize > 1 else values).astype(dtype)


def load(path, channels):
    return LoadMultispectralImage(channels)(dict(img_path=str(path)))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 13])
def test_arrays_are_loaded_as_they_are(channels, dtype, tmp_path):
    wanted = pixels(channels, dtype)
    for name, array in {'last': wanted, 'first': wanted.transpose(2, 0, 1)}.items():
        np.save(tmp_path / f'{name}.npy', array)
        results = load(tmp_path / f'{name}.npy', channels)
        np.testing.assert_array_equal(results['img'], wanted)
        assert results['img'].dtype == dtype
        assert results['img'].flags.c_contiguous
        assert results['img_shape'] == results['ori_shape'] == (20, 30)


@pytest.mark.parametrize(('stored', 'loaded'), [(np.float64, np.float32), (np.float16, np.float32), ('>u2', 'uint16')])
def test_other_numbers_become_ones_that_can_be_resized(stored, loaded, tmp_path):
    wanted = pixels(5).astype(stored)
    np.save(tmp_path / 'image.npy', wanted)
    image = load(tmp_path / 'image.npy', 5)['img']
    assert image.dtype == np.dtype(loaded)
    np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_pages_of_a_tiff_file_are_channels(dtype, tmp_path):
    wanted = pixels(13, dtype)
    assert cv2.imwritemulti(str(tmp_path / 'image.tif'), list(np.ascontiguousarray(wanted.transpose(2, 0, 1))))
    image = load(tmp_path / 'image.tif', 13)['img']
    np.testing.assert_array_equal(image, wanted)
    assert image.dtype == dtype


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_channels_are_in_the_files_order(channels, suffix, tmp_path):
    wanted = pixels(channels, np.uint8)
    Image.fromarray(wanted[..., 0] if channels == 1 else wanted).save(tmp_path / f'image.{suffix}')
    np.testing.assert_array_equal(load(tmp_path / f'image.{suffix}', channels)['img'], wanted)


def test_16_bits_of_a_png_file_are_kept(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.png'), pixels(3)[..., ::-1])
    np.testing.assert_array_equal(load(tmp_path / 'image.png', 3)['img'], pixels(3))


@pytest.mark.parametrize('channels', [3, 4])
def test_16_bits_of_a_tiff_file_are_kept(channels, tmp_path):
    wanted = pixels(channels)
    cv2.imwrite(str(tmp_path / 'image.tif'), wanted[..., [2, 1, 0, 3][:channels]])
    np.testing.assert_array_equal(load(tmp_path / 'image.tif', channels)['img'], wanted)


@pytest.mark.parametrize('planes', ['contig', 'separate'])
def test_bands_of_one_page_need_tifffile(planes, tmp_path, monkeypatch):
    tifffile = pytest.importorskip('tifffile')
    wanted = pixels(7)
    array = wanted if planes == 'contig' else wanted.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / 'image.tif', array, planarconfig=planes, photometric='minisblack')
    np.testing.assert_array_equal(load(tmp_path / 'image.tif', 7)['img'], wanted)
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(ImportError, match=r'image\.tif is a TIFF file that OpenCV .*pip install tifffile'):
        load(tmp_path / 'image.tif', 7)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (pixels(4), r'image\.npy has the shape \(20, 30, 4\), but channels=5 wants \(5, height, width\)'),
        (pixels(1)[None], r'has the shape \(1, 20, 30, 1\)'),
        (pixels(5).astype(np.int64), r'image\.npy has numbers of type int64: save them as uint8, uint16'),
    ],
)
def test_images_that_do_not_fit_are_named(array, message, tmp_path):
    np.save(tmp_path / 'image.npy', array)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / 'image.npy', 5)


@pytest.mark.parametrize('suffix', ['npy', 'tif', 'png'])
def test_cut_off_files_are_named(suffix, tmp_path):
    path = tmp_path / f'image.{suffix}'
    if suffix == 'npy':
        np.save(path, pixels(3))
    elif suffix == 'png':
        cv2.imwrite(str(path), pixels(3))
    else:
        cv2.imwritemulti(str(path), list(np.ascontiguousarray(pixels(13).transpose(2, 0, 1))))
    path.write_bytes(path.read_bytes()[:900])
    checked = CheckedLoading(LoadMultispectralImage(3), 'raise', BadSampleList(tmp_path), training=True)
    with pytest.raises(BadSampleError, match=rf'image\.{suffix} (is cut off or damaged|does not load)'):
        checked(dict(img_path=str(path)))


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / 'image.npy', np.array([print], dtype=object))
    with pytest.raises(ValueError, match='allow_pickle'):
        load(tmp_path / 'image.npy', 1)


def test_statistics_are_those_of_all_pixels(tmp_path):
    images = [pixels(5), 2 * pixels(5, height=8)]
    for index, image in enumerate(images):
        np.save(tmp_path / f'{index}.npy', image)
    every = np.concatenate([image.reshape(-1, 5) for image in images]) / 10000
    found = channel_statistics(sorted(tmp_path.iterdir()), 5, scale=10000)
    np.testing.assert_allclose(found.mean, every.mean(0))
    np.testing.assert_allclose(found.std, every.std(0))
    with pytest.raises(ValueError, match='no images'):
        channel_statistics([], 5)


def test_made_up_bands_go_from_blue_to_red():
    image = make_sample(np.random.default_rng(0)).image
    bands = spectral_bands(image, 13)
    assert bands.shape == (*image.shape[:2], 13)
    assert bands.dtype == np.uint16
    assert bands.max() <= 10000
    for band, colour in ((0, 0), (6, 1), (12, 2)):
        correlations = [np.corrcoef(bands[..., band].ravel(), image[..., i].ravel())[0, 1] for i in range(3)]
        assert np.argmax(correlations) == colour


def test_generated_images_have_their_bands(tmp_path):
    write_shapes(tmp_path, {'train': 1}, bands=5)
    (file,) = (tmp_path / 'train').iterdir()
    assert load(file, 5)['img'].dtype == np.uint16
    assert load(tmp_path / 'ade-like/images/training/000000.tif', 5)['img'].max() > 255
    with pytest.raises(ValueError, match='bands=-1'):
        write_shapes(tmp_path, {'train': 1}, bands=-1)
