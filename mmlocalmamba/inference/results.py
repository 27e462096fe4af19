"""What models say of one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

RLE = Mapping[str, Any]
"""A mask in COCO's compressed run-length encoding: ``size`` (height, width) and ``counts`` (bytes)."""


@dataclass(frozen=True)
class Detections:
    """Objects in a picture, on the CPU.

    Attributes:
        boxes: float32 (n, 4): left, top, right, bottom in pixels.
        scores: float32 (n,), from 0 to 1.
        labels: int64 (n,), indices into the classes.
        masks: The objects' masks, of the picture's size; None if the model makes none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: tuple[RLE, ...] | None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, chosen: Tensor) -> Detections:
        """Take some: by bool (n,), or by indices in their order."""
        indices = chosen.nonzero()[:, 0] if chosen.dtype == torch.bool else chosen
        masks = None if self.masks is None else tuple(self.masks[index] for index in indices.tolist())
        return Detections(self.boxes[indices], self.scores[indices], self.labels[indices], masks)

    def above(self, threshold: float) -> Detections:
        """Take those with at least that score."""
        return self.select(self.scores >= threshold)

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """Put several together; all have masks, or none."""
        boxes, scores, labels = (
            torch.cat([getattr(part, name) for part in parts]) for name in ('boxes', 'scores', 'labels')
        )
        masks = None if parts[0].masks is None else tuple(mask for part in parts for mask in part.masks or ())
        return cls(boxes, scores, labels, masks)


@dataclass(frozen=True)
class LabelMap:
    """The class of each pixel.

    Attributes:
        labels: uint8 or uint16 (height, width), indices into the classes.
    """

    labels: np.ndarray


@dataclass(frozen=True)
class ClassScores:
    """How likely each class is.

    Attributes:
        scores: float32 (classes,), on the CPU; their sum is 1.
    """

    scores: Tensor


Result = Detections | LabelMap | ClassScores
