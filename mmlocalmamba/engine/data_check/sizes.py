"""How many samples does a data set have?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmlocalmamba.datasets.image_folder import ImageFolder, class_folders, image_files

from .coco import reads_coco, reads_masks
from .coco_file import scan_coco_file
from .data_sets import DataSet, data_set_of
from .masks import reads_maps, segmentation_samples


def num_samples(key: str, part: dict[str, Any], cfg: Config, enough: float = math.inf) -> int | None:
    """Count the samples of a data set, or of a wrapper.

    Args:
        key: Where it is in the config.
        part: Its config.
        cfg: The whole config.
        enough: A number from which on files need not be counted; the result may then be any number above it.

    Returns:
        None if that cannot be told from the config and its files.
    """
    if isinstance(part.get('datasets'), (list, tuple)):
        counts = [num_samples(f'{key}.datasets.{i}', inner, cfg, enough) for i, inner in enumerate(part['datasets'])]
        return None if None in counts else sum(count or 0 for count in counts)
    if isinstance(part.get('dataset'), dict):
        count = num_samples(f'{key}.dataset', part['dataset'], cfg, enough)
        kind = str(part.get('type')).split('.')[-1]
        if kind == 'RepeatDataset' and count is not None:
            return count * part.get('times', 1)
        return count if kind == 'MultiImageMixDataset' else None
    count = _leaf(data_set_of(key, part, cfg), cfg, enough)
    indices = part.get('indices')
    if count is None or indices is None:
        return count
    return min(count, indices) if isinstance(indices, int) else len(indices)


def _leaf(data_set: DataSet, cfg: Config, enough: float) -> int | None:
    if reads_coco(data_set.cls):
        return _coco_images(data_set, cfg)
    if reads_maps(data_set.cls):
        samples = segmentation_samples(data_set)
        return len(samples) if isinstance(samples, list) else None
    folder = data_set.path('data_prefix')
    if data_set.cls is ImageFolder and folder is not None and folder.is_dir():
        return _folder_images(folder, enough)
    return None


def _folder_images(folder: Path, enough: float) -> int:
    """Count the images of the classes in a folder until there are enough: listing ImageNet takes a while."""
    count = 0
    for name in class_folders(folder):
        if count >= enough:
            break
        count += len(image_files(folder / name))
    return count


def _coco_images(data_set: DataSet, cfg: Config) -> int | None:
    """Count the images that mmdet leaves in by ``filter_cfg``."""
    path, classes = data_set.path('ann_file'), data_set.classes()
    if path is None or classes is None or not path.is_file():
        return None
    file = scan_coco_file(path, reads_masks(cfg, data_set.split))
    rules = data_set.cfg.get('filter_cfg') or {}
    if data_set.cfg.get('test_mode'):
        rules = {}
    images = set(file.sides)
    if rules.get('filter_empty_gt'):
        images &= {image for number, name in file.categories if name in classes for image in file.images[number]}
    smallest = rules.get('min_size', 0)
    return sum(file.sides[image] >= smallest for image in images)
