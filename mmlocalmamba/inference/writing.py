"""Results in files: JSON, COCO's format, label maps, overlays and videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np

from .drawing import top_classes
from .pipeline import Picture
from .results import RLE, Detections, LabelMap, Result
from .trained import TrainedModel


class JsonStream:
    """A JSON object whose last member is a list that grows: what is written stays, and is valid, if the run breaks off.

    Args:
        path: The file.
        start: The members before the list.
        name: Name of the list; with None the file is the list alone.
    """

    def __init__(self, path: Path, start: dict[str, Any] | None = None, name: str | None = None) -> None:
        self._opening = '[' if name is None else json.dumps(start or {})[:-1] + (', ' if start else '')
        if name is not None:
            self._opening += f'{json.dumps(name)}: ['
        self._closing = '\n]\n' if name is None else '\n]}\n'
        self._path = path
        self._file: IO[str] | None = None
        self._separator = '\n'

    def __enter__(self) -> JsonStream:
        self._file = self._path.open('w', encoding='utf-8')
        self._file.write(self._opening)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.write(self._closing)
            self._file.close()

    def append(self, item: Any) -> None:
        """Add an item to the list."""
        if self._file is None:
            raise RuntimeError('the file is not open: use it in a with statement')
        self._file.write(self._separator + json.dumps(item))
        self._separator = ',\n'


def summary(name: str, picture: Picture, result: Result, trained: TrainedModel, score_thr: float) -> dict[str, Any]:
    """Say what a result holds, in JSON's types and rounded for people.

    Args:
        name: Name of the file.
        picture: The picture.
        result: What the model predicts for it.
        trained: The model.
        score_thr: Objects with lower scores are left out.

    Returns:
        ``file``, ``width``, ``height``, and for detection ``objects`` (class, score, and ``bbox``: left, top, width,
        height), for segmentation ``classes`` (the part of the pixels that each class has), for classification
        ``classes`` (the likeliest, with their scores).
    """
    width, height = picture.size
    head = {'file': name, 'width': width, 'height': height}
    if isinstance(result, Detections):
        found = result.above(score_thr)
        rows = zip(found.labels.tolist(), found.scores.tolist(), _xywh(found), strict=True)
        objects = [
            {'class': trained.classes[label], 'score': round(score, 4), 'bbox': [round(value, 2) for value in box]}
            for label, score, box in rows
        ]
        return {**head, 'objects': objects}
    if isinstance(result, LabelMap):
        labels, counts = np.unique(result.labels, return_counts=True)
        parts = {
            trained.classes[label]: round(count / result.labels.size, 4)
            for label, count in zip(labels, counts, strict=True)
        }
        return {**head, 'classes': parts}
    return {**head, 'classes': {trained.classes[label]: round(score, 4) for label, score in top_classes(result)}}


def coco_results(image_id: int, found: Detections, trained: TrainedModel) -> list[dict[str, Any]]:
    """Give detections in COCO's results format, whatever their scores are: what ``COCO.loadRes`` reads."""
    rows = zip(found.labels.tolist(), found.scores.tolist(), _xywh(found), strict=True)
    entries: list[dict[str, Any]] = [
        {'image_id': image_id, 'category_id': trained.category_ids[label], 'bbox': box, 'score': score}
        for label, score, box in rows
    ]
    for entry, mask in zip(entries, found.masks or (), strict=False):
        entry['segmentation'] = rle_json(mask)
    return entries


def rle_json(mask: RLE) -> dict[str, Any]:
    """Give a mask in JSON's types, as COCO's files have it."""
    return {'size': list(mask['size']), 'counts': mask['counts'].decode('ascii')}


def coco_categories(trained: TrainedModel) -> list[dict[str, Any]]:
    """Give the classes as COCO's ``categories``."""
    return [{'id': number, 'name': name} for number, name in zip(trained.category_ids, trained.classes, strict=True)]


def _xywh(found: Detections) -> list[list[float]]:
    """Give boxes as left, top, width and height, which are COCO's."""
    boxes = found.boxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def write_image(path: Path, image: np.ndarray) -> None:
    """Write uint8 (height, width, 3) of red, green, blue, or a label map (height, width), making folders as needed.

    Raises:
        OSError: If the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image):
        raise OSError(f'{path} could not be written: is there space, and is the folder writable?')


class VideoOut:
    """Writes a video, frame by frame, as MP4.

    Args:
        path: The file.
        size: Width and height of the frames.
        fps: Frames per second.

    Raises:
        OSError: If OpenCV cannot write such a video here.
    """

    def __init__(self, path: Path, size: Sequence[int], fps: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), fps, (size[0], size[1]))
        if not self._writer.isOpened():
            raise OSError(f'{path} cannot be written: this OpenCV does not write MP4 of {size[0]} x {size[1]} pixels')

    def append(self, image: np.ndarray) -> None:
        """Add a frame: uint8 (height, width, 3), red, green, blue."""
        self._writer.write(np.ascontiguousarray(image[..., ::-1]))

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()
