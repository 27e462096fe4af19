"""Reads a COCO annotation file once, and keeps what the checks ask about it."""

from __future__ import annotations

import gc
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .coco_records import annotation_problem, image_problem
from .run_lengths import string_problems

_LISTS = ('images', 'annotations', 'categories')


class BadRecord(NamedTuple):
    """An image or an annotation that cannot be used.

    Attributes:
        kind: In which list of the file it is.
        place: Its index in the list.
        name: Its kind and id, such as 'annotation 17'.
        problem: What is wrong with it: the end of a sentence.
        is_left_out: Whether mmdet leaves it out of training by itself.
    """

    kind: Literal['images', 'annotations']
    place: int
    name: str
    problem: str
    is_left_out: bool = False


@dataclass
class CocoFile:
    """What a COCO annotation file holds.

    Attributes:
        path: The file.
        problem: What is wrong with the file as a whole, if anything; then the rest is empty.
        categories: (id, name) in the order of the file, which is the order of mmdet's labels.
        num_annotations: Length of ``annotations``; None if the file has no such list, as COCO's test images.
        sides: The shorter side of each good image, in pixels, by id.
        bad: Images and annotations that cannot be used.
        boxes: Good annotations that mmdet takes, by category.
        crowds: Good annotations with ``iscrowd``, by category.
        tiny: Good annotations narrower or lower than a pixel, which mmdet leaves out, by category.
        images: Ids of the images with an annotation, by category.
    """

    path: Path
    problem: str | None = None
    categories: list[tuple[Any, str]] = field(default_factory=list)
    num_annotations: int | None = None
    sides: dict[Any, int] = field(default_factory=dict)
    bad: list[BadRecord] = field(default_factory=list)
    boxes: Counter[Any] = field(default_factory=Counter)
    crowds: Counter[Any] = field(default_factory=Counter)
    tiny: Counter[Any] = field(default_factory=Counter)
    images: defaultdict[Any, set[Any]] = field(default_factory=lambda: defaultdict(set))


def scan_coco_file(path: Path, with_masks: bool) -> CocoFile:
    """Read a file and look at every record of it, or recall what was found if it has not changed since.

    Args:
        path: A COCO annotation file that is there.
        with_masks: Whether masks will be read.
    """
    state = path.stat()
    return _scan(path.absolute(), path, with_masks, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _scan(_absolute: Path, path: Path, with_masks: bool, _changed: int, _size: int) -> CocoFile:
    try:
        content = read_json(path)
    except ValueError as error:  # of JSON or of its encoding
        return CocoFile(path, f'is not a JSON file: {error}')
    problem = _layout_problem(content)
    if problem is not None:
        return CocoFile(path, problem)
    found = CocoFile(path)
    found.categories = [(category['id'], category['name']) for category in content['categories']]
    annotations = content.get('annotations')
    images = _scan_images(content['images'], found)
    if annotations is not None:
        found.num_annotations = len(annotations)
        _scan_annotations(annotations, images, with_masks, found)
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file. The garbage collector waits: with millions of new objects it takes half of the time."""
    with _collector_off(), path.open('rb') as file:
        return json.load(file)


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _layout_problem(content: Any) -> str | None:
    """Say what is wrong with the outermost layer of a file."""
    if not isinstance(content, Mapping):
        return f'is a {type(content).__name__} instead of an object with {", ".join(_LISTS)}'
    for name in _LISTS:
        if name not in content and name != 'annotations':
            return f'has no {name}: is it in COCO format?'
        if not isinstance(content.get(name, []), list):
            return f'has {name} that are no list'
    for category in content['categories']:
        known = isinstance(category, Mapping) and isinstance(category.get('id'), (int, str))
        if not known or not isinstance(category.get('name'), str):
            return f'has the category {category!r}: an object with id and name is wanted'
    for key in ('id', 'name'):
        counts = Counter(category[key] for category in content['categories'])
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            return f'has several categories with the {key} {twice[0]!r}: mmdet would shift the labels after them'
    return None


def _scan_images(images: list[Any], found: CocoFile) -> dict[Any, Mapping[str, Any]]:
    """Look at the images; give the good ones by id."""
    good: dict[Any, Mapping[str, Any]] = {}
    for index, image in enumerate(images):
        problem = image_problem(image, good)
        if problem is None:
            good[image['id']] = image
            found.sides[image['id']] = min(image['height'], image['width'])
        else:
            found.bad.append(BadRecord('images', index, f'image {_id(image, index)}', problem))
    return good


def _scan_annotations(
    annotations: list[Any], images: Mapping[Any, Mapping[str, Any]], with_masks: bool, found: CocoFile
) -> None:
    """Look at the annotations, those with compressed masks in a second step."""
    categories = {number for number, _ in found.categories}
    seen: set[Any] = set()
    compressed: list[int] = []
    for index, annotation in enumerate(annotations):
        problem = annotation_problem(annotation, images, categories, seen, with_masks)
        if problem is not None:
            _add_bad(found, annotation, index, *problem)
        elif with_masks and isinstance(annotation['segmentation'], dict) and _is_compressed(annotation):
            compressed.append(index)
        else:
            _count(annotation, found)
        if isinstance(annotation, Mapping) and isinstance(annotation.get('id'), (int, str)):
            seen.add(annotation['id'])
    masks = [annotations[index]['segmentation'] for index in compressed]
    pixels = [mask['size'][0] * mask['size'][1] for mask in masks]
    texts = string_problems([mask['counts'] for mask in masks], pixels)
    for index, text in zip(compressed, texts, strict=True):
        if text is None:
            _count(annotations[index], found)
        else:
            _add_bad(found, annotations[index], index, f'has a run-length mask that {text}', False)


def _is_compressed(annotation: Mapping[str, Any]) -> bool:
    return isinstance(annotation['segmentation']['counts'], str)


def _add_bad(found: CocoFile, annotation: Any, index: int, text: str, is_left_out: bool) -> None:
    found.bad.append(BadRecord('annotations', index, f'annotation {_id(annotation, index)}', text, is_left_out))


def _count(annotation: Mapping[str, Any], found: CocoFile) -> None:
    """Count a good annotation, as mmdet takes it."""
    category = annotation['category_id']
    found.images[category].add(annotation['image_id'])
    if annotation.get('iscrowd'):
        found.crowds[category] += 1
    elif annotation['bbox'][2] < 1 or annotation['bbox'][3] < 1:
        found.tiny[category] += 1
    elif not annotation.get('ignore'):
        found.boxes[category] += 1


def _id(record: Any, index: int) -> str:
    """Name a record by its id, or by its place if it has none."""
    number = record.get('id') if isinstance(record, Mapping) else None
    return f'{number!r}' if isinstance(number, (int, str)) else f'at index {index}'
