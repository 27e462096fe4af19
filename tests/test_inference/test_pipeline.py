from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmlocalmamba.inference.pipeline import Picture, PicturePipeline


@pytest.mark.parametrize('task', ['detection', 'segmentation', 'classification'])
def test_a_frame_becomes_the_same_input_as_its_file(config_of, photo, task) -> None:
    cfg = config_of(task)
    init_default_scope(cfg.default_scope)
    pipeline = PicturePipeline(cfg)
    cv2.imwrite('photo.png', photo)

    file = pipeline.read(Path('photo.png'), 'photo.png', 7)
    frame = pipeline.take_frame(photo, 'photo.png', 7)

    assert np.array_equal(file.pixels, photo)
    items = pipeline.prepare([file, frame])
    assert torch.equal(items[0]['inputs'], items[1]['inputs'])


def test_batches_hold_pictures_of_one_size(config_of) -> None:
    cfg = config_of('segmentation')
    init_default_scope(cfg.default_scope)
    pipeline = PicturePipeline(cfg)
    shapes = [(60, 90), (60, 90), (90, 60), (60, 90)]
    pictures = [pipeline.take_frame(np.zeros((*shape, 3), dtype=np.uint8), '', 0) for shape in shapes]

    batches = pipeline.collate(pipeline.prepare(pictures))

    assert [len(batch['inputs']) for batch in batches] == [2, 1, 1]


def test_a_part_is_a_picture_of_its_own(config_of, photo) -> None:
    cfg = config_of('detection')
    init_default_scope(cfg.default_scope)
    pipeline = PicturePipeline(cfg)

    part = pipeline.take_frame(photo, '', 0).crop(10, 20, 50, 40)

    assert part.size == (40, 20)
    assert np.array_equal(part.pixels, photo[20:40, 10:50])
    assert pipeline.prepare([part])[0]['data_samples'].ori_shape == (20, 40)


@pytest.mark.parametrize(
    ('pixels', 'wanted'),
    [
        (np.full((2, 2, 3), (1, 2, 3), dtype=np.uint8), (3, 2, 1)),
        (np.full((2, 2, 3), (1, 2, 3), dtype=np.float32), (3, 2, 1)),
        (np.full((2, 2), 9, dtype=np.uint8), (9, 9, 9)),
        (np.full((2, 2, 5), (1, 2, 3, 4, 5), dtype=np.uint8), (3, 2, 1)),
    ],
)
def test_any_number_of_channels_can_be_looked_at(pixels, wanted) -> None:
    shown = Picture('', pixels, {}).shown()

    assert shown.dtype == np.uint8
    assert shown[0, 0].tolist() == list(wanted)


def test_deep_pictures_are_stretched() -> None:
    ramp = np.linspace(1000, 5000, 101).astype(np.uint16).reshape(1, 101, 1)

    shown = Picture('', ramp, {}).shown()[0, :, 0]

    assert shown[0] == 0
    assert shown[-1] == 255
    assert abs(int(shown[50]) - 127) <= 2


def test_a_data_set_without_a_pipeline_is_refused(config_of) -> None:
    cfg = config_of('classification')
    del cfg.test_dataloader.dataset['pipeline']
    with pytest.raises(ValueError, match='has no pipeline'):
        PicturePipeline(cfg)
    cfg.test_dataloader = None
    with pytest.raises(KeyError, match='no test_dataloader.dataset'):
        PicturePipeline(cfg)
