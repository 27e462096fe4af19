"""Confusion matrices of detectors, segmenters and classifiers: what is true, and what the model takes it for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .saved_results import Boxes, TestResults

NOTHING = '(nothing)'
"""The extra class of detectors: a row for boxes where no object is, a column for objects without a box."""


class Matching(NamedTuple):
    """Which boxes belong to which objects.

    Attributes:
        pairs: (m, 2): index of an object, index of the box that was given to it.
        missed: Indices of the objects without a box, ignored ones left out.
        false: Indices of the boxes without an object, those on ignored objects left out.
    """

    pairs: np.ndarray
    missed: np.ndarray
    false: np.ndarray


def match_boxes(truth: Boxes, found: Boxes, score_thr: float, iou_thr: float) -> Matching:
    """Give each object at most one box, whatever the classes: the surest boxes choose first.

    Args:
        truth: The objects.
        found: The boxes.
        score_thr: Boxes with lower scores do not count.
        iou_thr: Least intersection over union of an object and its box.
    """
    overlaps = iou(truth.boxes, found.boxes)
    free = ~truth.ignored
    pairs, false = [], []
    for box in np.argsort(-found.scores, kind='stable'):
        if found.scores[box] < score_thr:
            break
        fitting = np.flatnonzero(free & (overlaps[:, box] >= iou_thr))
        if len(fitting):
            best = fitting[overlaps[fitting, box].argmax()]
            free[best] = False
            pairs.append((best, box))
        elif not (truth.ignored & (overlaps[:, box] >= iou_thr)).any():
            false.append(box)
    return Matching(np.array(pairs, dtype=int).reshape(-1, 2), np.flatnonzero(free), np.array(false, dtype=int))


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of boxes (n, 4) and (m, 4); returns (n, m), 0 for empty boxes."""
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    opposite = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (opposite - corner).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(-1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def confusion_matrix(results: TestResults, score_thr: float = 0.3, iou_thr: float = 0.5) -> np.ndarray:
    """Count what is taken for what.

    Args:
        results: Of a test run.
        score_thr: For detectors: boxes with lower scores do not count.
        iou_thr: For detectors: least intersection over union of an object and its box.

    Returns:
        int64 (classes, classes), rows the truth, columns the prediction: of pixels (segmenter), images (classifier) or
        objects. For detectors (classes + 1, classes + 1), the last of both being :data:`NOTHING`.
    """
    count = len(results.classes)
    sides = count + (results.task == 'detection')
    matrix = np.zeros((sides, sides), dtype=np.int64)
    for image in results:
        if results.task == 'classification':
            matrix[image.truth, image.found.argmax()] += 1
        elif results.task == 'segmentation':
            matrix += pixel_confusion(image.truth, image.found, count)
        else:
            pairs, missed, false = match_boxes(image.truth, image.found, score_thr, iou_thr)
            np.add.at(matrix, (image.truth.labels[pairs[:, 0]], image.found.labels[pairs[:, 1]]), 1)
            np.add.at(matrix, (image.truth.labels[missed], count), 1)
            np.add.at(matrix, (count, image.found.labels[false]), 1)
    return matrix


def pixel_confusion(truth: np.ndarray, found: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of each true and predicted class; pixels without a true class do not count.

    Raises:
        ValueError: If there are labels above the classes.
    """
    known = truth >= 0
    rows, columns = truth[known], found[known]
    for name, labels in (('true', rows), ('predicted', columns)):
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f'{name} labels go from {labels.min()} to {labels.max()}, but there are {num_classes} classes'
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)
