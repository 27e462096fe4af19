import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mmlocalmamba.inference.drawing import Artist
from mmlocalmamba.inference.predictors import Predictor, _detections
from mmlocalmamba.inference.results import Detections
from mmlocalmamba.inference.slicing import Slices


def test_a_batch_gives_what_single_pictures_give(predictor_of, photo) -> None:
    predictor = predictor_of('classification', batch_size=4)
    frames = [predictor.pipeline.take_frame(photo[:, ::step].copy(), '', 0) for step in (1, -1, 1)]

    together = predictor.predict(frames)
    alone = [predictor.predict([frame])[0] for frame in frames]

    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.scores, other.scores)
    assert not torch.equal(together[0].scores, together[1].scores)


def test_slices_are_not_for_classifiers(predictor_of) -> None:
    with pytest.raises(ValueError, match='--slices is for detectors and segmenters'):
        predictor_of('classification', slices=Slices(32, 0.2))


def test_a_batch_of_nothing_is_refused(predictor_of) -> None:
    with pytest.raises(ValueError, match='--batch-size 0: want at least 1'):
        predictor_of('classification', batch_size=0)


def test_a_picture_in_one_slice_is_predicted_as_a_whole(predictor_of, photo) -> None:
    predictor = predictor_of('segmentation')
    picture = predictor.pipeline.take_frame(photo, '', 0)
    sliced = Predictor(predictor.trained, slices=Slices(100, 0.2))

    assert np.array_equal(sliced.predict([picture])[0].labels, predictor.predict([picture])[0].labels)


def test_models_without_upright_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match='predicts no boxes'):
        _detections({})
    with pytest.raises(ValueError, match='the model gives 5'):
        _detections({'pred_instances': InstanceData(bboxes=torch.zeros(1, 5))})


def test_objects_are_drawn_where_they_are_found(predictor_of) -> None:
    mask = np.zeros((60, 90), dtype=np.uint8, order='F')
    mask[10:40, 20:50] = 1
    boxes = torch.tensor([[20.0, 10, 50, 40], [60, 30, 80, 50]])
    found = Detections(boxes, torch.tensor([0.9, 0.1]), torch.tensor([0, 1]), tuple([coco_mask.encode(mask)] * 2))
    image = np.zeros((60, 90, 3), dtype=np.uint8)

    drawn = Artist(predictor_of('detection').trained, 0.5).draw(image, found)

    assert drawn.shape == image.shape
    assert drawn[20:38, 30:48].any(axis=2).all()
    assert not drawn[35:, 60:].any()
