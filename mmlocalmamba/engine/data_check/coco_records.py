"""What may be wrong with one image or one annotation of a COCO file."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from .run_lengths import list_problem

_NUMBERS = (int, float)
_IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
_ANNOTATION_KEYS = ('id', 'image_id', 'category_id', 'bbox', 'area')
_REACH = 100  # sides of its image that a polygon may go beyond it before pycocotools runs out of memory or time


class RecordProblem(NamedTuple):
    """What is wrong with an annotation.

    Attributes:
        text: The end of a sentence.
        is_left_out: Whether mmdet leaves such an annotation out of training by itself.
    """

    text: str
    is_left_out: bool = False


def image_problem(image: Any, seen: Collection[Any]) -> str | None:
    """Say what is wrong with an entry of ``images``.

    Args:
        image: The entry.
        seen: Ids of those before it.

    Returns:
        The end of a sentence, or None if nothing is wrong.
    """
    if not isinstance(image, Mapping):
        return f'is {_short(image)} instead of an object with {", ".join(_IMAGE_KEYS)}'
    missing = [key for key in _IMAGE_KEYS if key not in image]
    if missing:
        return f'has no {" and no ".join(missing)}'
    if not isinstance(image['id'], (int, str)):
        return f'has the id {_short(image["id"])} instead of a number'
    if image['id'] in seen:
        return 'has the id of another image'
    for key in ('height', 'width'):
        if type(image[key]) is not int or image[key] <= 0:
            return f'has {key} {_short(image[key])} instead of a number of pixels'
    return None


def annotation_problem(
    annotation: Any,
    images: Mapping[Any, Mapping[str, Any]],
    categories: Collection[Any],
    seen: Collection[Any],
    with_masks: bool,
) -> RecordProblem | None:
    """Say what is wrong with an entry of ``annotations``. The counts of compressed masks are left to the caller.

    Args:
        annotation: The entry.
        images: Good images by id.
        categories: Ids of the categories.
        seen: Ids of the annotations before it.
        with_masks: Whether masks will be read.
    """
    if not isinstance(annotation, Mapping):
        return RecordProblem(f'is {_short(annotation)} instead of an object with {", ".join(_ANNOTATION_KEYS)}')
    for key in _ANNOTATION_KEYS:
        if key not in annotation:
            return RecordProblem(f'has no {key}')
    for key in ('id', 'image_id', 'category_id'):
        if not isinstance(annotation[key], (int, str)):
            return RecordProblem(f'has {key} {_short(annotation[key])} instead of a number')
    if annotation['id'] in seen:
        return RecordProblem('has the id of another annotation')
    image = images.get(annotation['image_id'])
    if image is None:
        return RecordProblem(f'is of image {annotation["image_id"]!r}, which is not among the images of the file')
    if annotation['category_id'] not in categories:
        return RecordProblem(f'has category_id {annotation["category_id"]!r}, which the categories of the file lack')
    problem = _box_problem(annotation['bbox'], image['width'], image['height'])
    if problem is None and not _is_number(annotation['area']):
        problem = RecordProblem(f'has area {_short(annotation["area"])} instead of a number')
    if problem is None and with_masks:
        text = _segmentation_problem(annotation.get('segmentation'), image['width'], image['height'])
        problem = None if text is None else RecordProblem(text)
    if problem is None and annotation['area'] <= 0:
        problem = RecordProblem(f'has area {annotation["area"]}', is_left_out=True)
    return problem


def _box_problem(box: Any, width: int, height: int) -> RecordProblem | None:
    if not isinstance(box, list) or len(box) != 4:
        return RecordProblem(f'has bbox {_short(box)} instead of four numbers: x, y, width, height')
    if any(type(number) not in _NUMBERS for number in box):
        return RecordProblem(f'has bbox {_short(box)}, not all of which are numbers')
    if not math.isfinite(sum(box)):
        return RecordProblem(f'has bbox {_short(box)}, not all of which is finite')
    x, y, box_width, box_height = box
    if box_width <= 0 or box_height <= 0:
        return RecordProblem(f'has bbox {_short(box)}, whose area is not above 0', is_left_out=True)
    if x >= width or y >= height or x + box_width <= 0 or y + box_height <= 0:
        text = f'has bbox {_short(box)}, outside its image of {width} x {height} pixels'
        return RecordProblem(text, is_left_out=True)
    return None


def _segmentation_problem(segmentation: Any, width: int, height: int) -> str | None:
    if not segmentation:
        return 'has no segmentation, but masks will be read'
    if isinstance(segmentation, Mapping):
        return _run_length_problem(segmentation, width, height)
    if not isinstance(segmentation, list):
        return f'has segmentation {_short(segmentation)} instead of polygons or run lengths'
    reach = _REACH * max(width, height)
    for polygon in segmentation:
        problem = _polygon_problem(polygon, reach)
        if problem is not None:
            return problem
    return None


def _polygon_problem(polygon: Any, reach: float) -> str | None:
    if not isinstance(polygon, list):
        return f'has {_short(polygon)} instead of a polygon: a list of x, y, x, y, ... is wanted'
    if len(polygon) < 6 or len(polygon) % 2:
        return f'has a polygon of {len(polygon)} numbers: x and y of at least three points are wanted'
    try:
        total, low, high = sum(polygon), min(polygon), max(polygon)
    except TypeError:
        return 'has a polygon with something else than numbers'
    if not math.isfinite(total) or low < -reach or high > reach:
        return f'has a polygon from {low} to {high}, far outside its image'
    return None


def _run_length_problem(mask: Mapping[str, Any], width: int, height: int) -> str | None:
    size, counts = mask.get('size'), mask.get('counts')
    if size != [height, width]:
        return f'has a mask of height and width {_short(size)}, but its image has {[height, width]}'
    if isinstance(counts, list):
        problem = list_problem(counts, height * width)
        return None if problem is None else f'has a run-length mask that {problem}'
    if not isinstance(counts, str):
        return f'has a run-length mask with counts {_short(counts)}'
    return None


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBERS and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
