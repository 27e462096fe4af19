"""Large pictures in overlapping slices: where they lie, and how their results become the picture's.

MMDetection's ``merge_results_by_nms`` does not move masks, and leaves the halves of objects that a slice's edge cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import batched_nms

from .results import RLE, Detections, LabelMap

NMS_IOU = 0.5
"""Two boxes of a class that overlap by more are one object."""
_COVERED = 0.7
"""Part of a cut box's area that a whole one must cover to be the same object."""


class Window(NamedTuple):
    """A part of a picture; the right column and the bottom row are not in it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Slices:
    """How a large picture is cut.

    Attributes:
        side: Side of the square slices in pixels.
        overlap: Part of its side that a slice shares with its neighbour, from 0 up to, not including, 1.

    Raises:
        ValueError: If a value is out of range.
    """

    side: int
    overlap: float

    def __post_init__(self) -> None:
        if self.side < 1 or not 0 <= self.overlap < 1:
            raise ValueError(
                f'slices want a side of at least 1 pixel and an overlap in [0, 1), got {self.side} and {self.overlap}'
            )

    def windows(self, width: int, height: int) -> list[Window]:
        """Cover a picture, row by row. The last slices of a row and a column overlap more, rather than jut out.

        Example:
            >>> Slices(100, 0.5).windows(120, 80)
            [Window(left=0, top=0, right=100, bottom=80), Window(left=20, top=0, right=120, bottom=80)]
        """
        return [
            Window(left, top, min(left + self.side, width), min(top + self.side, height))
            for top, left in product(self._starts(height), self._starts(width))
        ]

    def _starts(self, length: int) -> list[int]:
        last = max(length - self.side, 0)
        step = max(round(self.side * (1 - self.overlap)), 1)
        return [*range(0, last, step), last]


def merge_detections(parts: Sequence[Detections], windows: Sequence[Window], size: tuple[int, int]) -> Detections:
    """Make one result out of those of slices.

    A box that ends at an edge of its slice, inside the picture, may be part of an object. It is dropped where a whole
    box of its class from another slice covers most of it and has at least half its score. Then non-maximum suppression
    per class leaves one box per object.

    Args:
        parts: The detections of each slice, in the slice's own pixels.
        windows: Where the slices lie. One may be the whole picture, for objects that fit in no slice.
        size: The picture's width and height.

    Returns:
        In the picture's pixels, by falling score.
    """
    offsets = [torch.tensor([window.left, window.top] * 2, dtype=torch.float32) for window in windows]
    cut = torch.cat([_is_cut(part.boxes, window, size) for part, window in zip(parts, windows, strict=True)])
    source = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))
    merged = Detections.concatenate(
        [
            Detections(part.boxes + offset, part.scores, part.labels, part.masks)
            for part, offset in zip(parts, offsets, strict=True)
        ]
    )
    kept = (~_is_part(merged, cut)).nonzero()[:, 0]
    kept = kept[batched_nms(merged.boxes[kept], merged.scores[kept], merged.labels[kept], NMS_IOU)]
    chosen = merged.select(kept)
    if chosen.masks is None:
        return chosen
    places = [windows[index] for index in source[kept].tolist()]
    masks = tuple(_move_mask(mask, window, size) for mask, window in zip(chosen.masks, places, strict=True))
    return Detections(chosen.boxes, chosen.scores, chosen.labels, masks)


def _is_cut(boxes: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Tell, bool (n,), which boxes (n, 4) end within a pixel of an edge that their slice has inside the picture."""
    left, top, right, bottom = boxes.unbind(1)
    width, height = window.right - window.left, window.bottom - window.top
    cut = torch.zeros(len(boxes), dtype=torch.bool)
    if window.left > 0:
        cut |= left < 1
    if window.top > 0:
        cut |= top < 1
    if window.right < size[0]:
        cut |= right > width - 1
    if window.bottom < size[1]:
        cut |= bottom > height - 1
    return cut


def _is_part(detections: Detections, cut: Tensor) -> Tensor:
    """Tell, bool (n,), which of the cut boxes a whole one covers."""
    boxes, scores, labels = detections.boxes, detections.scores, detections.labels
    part = torch.zeros(len(boxes), dtype=torch.bool)
    whole = (~cut).nonzero()[:, 0]
    for index in cut.nonzero()[:, 0].tolist():
        rivals = whole[(labels[whole] == labels[index]) & (scores[whole] >= scores[index] / 2)]
        corners = torch.maximum(boxes[rivals, :2], boxes[index, :2]), torch.minimum(boxes[rivals, 2:], boxes[index, 2:])
        common = (corners[1] - corners[0]).clamp(min=0).prod(1)
        area = (boxes[index, 2:] - boxes[index, :2]).prod()
        part[index] = bool((common >= _COVERED * area).any())
    return part


def _move_mask(mask: RLE, window: Window, size: tuple[int, int]) -> RLE:
    """Put a slice's mask in its place in the picture."""
    whole = np.zeros((size[1], size[0]), dtype=np.uint8, order='F')
    whole[window.top : window.bottom, window.left : window.right] = coco_mask.decode(mask)
    return coco_mask.encode(whole)


def stitch_label_maps(parts: Sequence[LabelMap], windows: Sequence[Window], size: tuple[int, int]) -> LabelMap:
    """Make one label map out of those of slices: each pixel is taken from the slice whose middle is nearest.

    Near its edges a slice sees too little around a pixel. So where two overlap, the seam is in the middle.

    Args:
        parts: The label map of each slice.
        windows: Where the slices lie: a grid, as :meth:`Slices.windows` gives it.
        size: The picture's width and height.
    """
    columns = _owned({(window.left, window.right) for window in windows})
    rows = _owned({(window.top, window.bottom) for window in windows})
    whole = np.zeros((size[1], size[0]), dtype=parts[0].labels.dtype)
    for part, window in zip(parts, windows, strict=True):
        left, right = columns[window.left]
        top, bottom = rows[window.top]
        whole[top:bottom, left:right] = part.labels[
            top - window.top : bottom - window.top, left - window.left : right - window.left
        ]
    return LabelMap(whole)


def _owned(spans: set[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Share a length out among the spans that cover it: from the middle of one overlap to that of the next."""
    ordered = sorted(spans)
    seams = [(end + start) // 2 for (_, end), (start, _) in pairwise(ordered)]
    starts, ends = [ordered[0][0], *seams], [*seams, ordered[-1][1]]
    return {span[0]: (start, end) for span, start, end in zip(ordered, starts, ends, strict=True)}
