"""Overlays: a picture with its boxes and masks, its label map, or its class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer
from pycocotools import mask as coco_mask

from .results import ClassScores, Detections, LabelMap, Result
from .trained import TrainedModel

SHOWN_CLASSES = 5
"""How many of the likeliest classes are written on a picture."""


class Artist:
    """Draws results with the visualizers of the mm packages.

    Args:
        trained: The model whose results are drawn: its task, the names and colours of its classes.
        score_thr: Objects with lower scores are not drawn.
    """

    def __init__(self, trained: TrainedModel, score_thr: float) -> None:
        self.classes, self.score_thr = trained.classes, score_thr
        self._visualizer: Any = _visualizer(trained.task)
        self._visualizer.dataset_meta = {'classes': trained.classes, 'palette': list(trained.palette)}

    def draw(self, image: np.ndarray, result: Result) -> np.ndarray:
        """Draw a result over its picture.

        Args:
            image: uint8 (height, width, 3): red, green, blue.
            result: What the model predicts.

        Returns:
            As ``image``.
        """
        if isinstance(result, Detections):
            return self._draw_detections(image, result.above(self.score_thr))
        if isinstance(result, LabelMap):
            return self._draw_label_map(image, result)
        return self._draw_classes(image, result)

    def _draw_detections(self, image: np.ndarray, found: Detections) -> np.ndarray:
        from mmdet.structures import DetDataSample

        if len(found) == 0:
            return image
        instances = InstanceData(bboxes=found.boxes, scores=found.scores, labels=found.labels)
        if found.masks is not None:
            instances.masks = torch.from_numpy(np.stack([coco_mask.decode(mask) for mask in found.masks])).bool()
        sample = DetDataSample(pred_instances=instances)
        self._visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=-1.0)
        return self._visualizer.get_image()

    def _draw_label_map(self, image: np.ndarray, result: LabelMap) -> np.ndarray:
        from mmseg.structures import SegDataSample

        labels = torch.from_numpy(result.labels.astype(np.int64))[None]
        sample = SegDataSample(pred_sem_seg=PixelData(data=labels))
        self._visualizer.add_datasample('', image, sample, draw_gt=False)
        return self._visualizer.get_image()

    def _draw_classes(self, image: np.ndarray, result: ClassScores) -> np.ndarray:
        lines = [f'{self.classes[label]}: {100 * score:.1f}' for label, score in top_classes(result)]
        self._visualizer.set_image(image)
        self._visualizer.draw_texts(
            '\n'.join(lines),
            np.array([[4, 4]]),
            font_sizes=max(7, min(image.shape[:2]) // 28),
            colors='white',
            bboxes=dict(facecolor='black', alpha=0.7, pad=2, edgecolor='none'),
        )
        return self._visualizer.get_image()


def top_classes(result: ClassScores) -> list[tuple[int, float]]:
    """Give the likeliest classes and their scores, at most ``SHOWN_CLASSES``."""
    scores, labels = result.scores.topk(min(SHOWN_CLASSES, len(result.scores)))
    return list(zip(labels.tolist(), scores.tolist(), strict=True))


def _visualizer(task: str) -> Visualizer:
    if task == 'detection':
        from mmdet.visualization import DetLocalVisualizer

        return DetLocalVisualizer()
    if task == 'segmentation':
        from mmseg.visualization import SegLocalVisualizer

        return SegLocalVisualizer(alpha=0.6)
    return Visualizer()
