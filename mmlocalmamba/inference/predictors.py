"""From pictures to results, for each of the three tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from .pipeline import Picture, PicturePipeline
from .results import RLE, ClassScores, Detections, LabelMap, Result
from .slicing import Slices, Window, merge_detections, stitch_label_maps
from .trained import TrainedModel


class Predictor:
    """Predicts with a trained model, a batch of pictures or slices at a time.

    Args:
        trained: The model.
        batch_size: Pictures, or slices of a picture, that go through the model at once.
        slices: How large pictures are cut; None for whole pictures.

    Raises:
        ValueError: If the batch size is below 1, or a classifier is to cut pictures.
    """

    def __init__(self, trained: TrainedModel, batch_size: int = 1, slices: Slices | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f'--batch-size {batch_size}: want at least 1')
        if slices is not None and trained.task == 'classification':
            raise ValueError('--slices is for detectors and segmenters: a class belongs to the whole picture')
        self.trained, self.batch_size, self.slices = trained, batch_size, slices
        self.pipeline = PicturePipeline(trained.cfg)
        self._read_out = _READERS[trained.task]

    def predict(self, pictures: Sequence[Picture]) -> list[Result]:
        """Predict.

        Returns:
            One result per picture, in its own pixels.
        """
        if self.slices is None:
            return self._predict_whole(pictures)
        return [self._predict_sliced(picture, self.slices) for picture in pictures]

    def _predict_whole(self, pictures: Sequence[Picture]) -> list[Result]:
        results: list[Result] = []
        model: Any = self.trained.model
        for start in range(0, len(pictures), self.batch_size):
            items = self.pipeline.prepare(pictures[start : start + self.batch_size])
            for batch in self.pipeline.collate(items):
                with torch.no_grad():
                    samples = model.test_step(batch)
                results += [self._read_out(sample) for sample in samples]
        return results

    def _predict_sliced(self, picture: Picture, slices: Slices) -> Result:
        """Predict slice by slice. Detectors see the whole picture too, for objects that fit in no slice."""
        windows = slices.windows(*picture.size)
        detects = self.trained.task == 'detection'
        if detects and len(windows) > 1:
            windows.append(Window(0, 0, *picture.size))
        parts: Any = self._predict_whole([picture.crop(*window) for window in windows])
        return (merge_detections if detects else stitch_label_maps)(parts, windows, picture.size)


class _ReadOut(Protocol):
    def __call__(self, sample: Any) -> Result: ...


def _detections(sample: Any) -> Detections:
    """Read MMDetection's DetDataSample out.

    Raises:
        ValueError: If it holds no instances, or boxes other than upright ones.
    """
    instances = sample.get('pred_instances')
    if instances is None:
        raise ValueError('the model predicts no boxes (a panoptic one?): there is nothing to write')
    boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
    if boxes.shape[-1] != 4:
        raise ValueError(f'want boxes of 4 numbers, left, top, right, bottom; the model gives {boxes.shape[-1]}')
    masks = _encode(instances.masks) if 'masks' in instances else None
    return Detections(boxes.float().cpu(), instances.scores.float().cpu(), instances.labels.cpu(), masks)


def _encode(masks: Tensor | np.ndarray) -> tuple[RLE, ...]:
    """Encode masks (n, height, width) one by one; all together would need them a second time in memory."""
    arrays = masks.cpu().numpy() if isinstance(masks, Tensor) else masks
    return tuple(coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in arrays)


def _label_map(sample: Any) -> LabelMap:
    """Read MMSegmentation's SegDataSample out."""
    labels = sample.pred_sem_seg.data[0]
    return LabelMap(labels.to(torch.int32).cpu().numpy().astype(np.uint16 if int(labels.max()) > 255 else np.uint8))


def _class_scores(sample: Any) -> ClassScores:
    """Read our ImageClassifier's dict out."""
    return ClassScores(sample['pred_scores'].float().cpu())


_READERS: dict[str, _ReadOut] = {
    'detection': _detections,
    'segmentation': _label_map,
    'classification': _class_scores,
}
