"""Do the masks of segmentation data fit the classes and their images? A sample of them is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from .data_sets import DataSet, data_sets
from .findings import Finding, listed, plural
from .settings import parts

NUM_SAMPLES = 32
IGNORED = 255


def unfit_masks(cfg: Config, splits: Sequence[str]) -> Iterator[Finding]:
    """Read some masks of each segmentation data set, evenly over it, and compare them with classes and images.

    With ``bad_samples='skip'``, what is wrong with less than half of them is a note: they are left out when they are
    read. Otherwise it is the config that does not fit.
    """
    seen: set[str] = set()
    for split in splits:
        for data_set in data_sets(cfg, split):
            state = repr(sorted((key, str(value)) for key, value in data_set.cfg.items() if key != 'pipeline'))
            if not reads_maps(data_set.cls) or not data_set.is_local or state in seen:
                continue
            seen.add(state)
            samples = segmentation_samples(data_set)
            if isinstance(samples, str):
                yield Finding(samples)
            elif samples:
                yield from _reduce_zero_label(data_set, samples[0])
                yield from _sampled(data_set, samples, cfg)
            else:
                yield _no_images(data_set)


def reads_maps(cls: type | None) -> bool:
    """Tell whether a data set is one of mmseg's, with one mask file per image."""
    return cls is not None and any(base.__name__ == 'BaseSegDataset' for base in cls.__mro__)


def segmentation_samples(data_set: DataSet) -> list[dict[str, Any]] | str:
    """List the images and masks of a data set as mmseg does, or say why it cannot."""
    if data_set.cls is None:
        return []
    settings = {key: value for key, value in data_set.cfg.items() if key not in ('type', 'pipeline', 'indices')}
    try:
        return data_set.cls(**settings, pipeline=[], lazy_init=True).load_data_list()
    except FileNotFoundError:
        return []  # the check of paths names it
    except Exception as error:  # whatever the class of the user's data set raises, the run would raise, too
        return f'{data_set.key} cannot list its images: {type(error).__name__}: {error}'


def _no_images(data_set: DataSet) -> Finding:
    suffix = data_set.cfg.get('img_suffix', '.jpg')
    folder = data_set.cfg.get('data_prefix', {}).get('img_path')
    where = Path(data_set.cfg.get('data_root') or '', folder or '')
    found = Counter(path.suffix for path in where.rglob('*') if path.is_file()) if where.is_dir() else Counter()
    endings = listed(f'{count} that end in {ending or "nothing"}' for ending, count in found.most_common(3))
    return Finding(
        f'{data_set.key} has no images: {where} has no file that ends in {suffix}, but {endings or "nothing"}. Set '
        f'{data_set.key}.img_suffix and seg_map_suffix to the endings of images and masks.'
    )


def _reduce_zero_label(data_set: DataSet, sample: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the data set's ``reduce_zero_label`` with that of its pipeline, which mmseg asserts to be the same."""
    wanted = sample.get('reduce_zero_label')
    for key, part in parts(data_set.cfg.get('pipeline'), f'{data_set.key}.pipeline'):
        given = part.get('reduce_zero_label')
        if 'LoadAnnotations' in str(part.get('type')) and given is not None and given != wanted:
            yield Finding(
                f'{key}.reduce_zero_label is {given}, but that of {data_set.key} is {wanted}: leave it out in the '
                'pipeline, which then follows the data set.'
            )


def _sampled(data_set: DataSet, samples: Sequence[dict[str, Any]], cfg: Config) -> Iterator[Finding]:
    with_masks = [sample for sample in samples if sample.get('seg_map_path')]
    step = max(len(with_masks) / NUM_SAMPLES, 1)
    chosen = [with_masks[int(i * step)] for i in range(min(NUM_SAMPLES, len(with_masks)))]
    backend = _decoder(data_set)
    problems: dict[str, list[tuple[str, str]]] = {}
    ignored = 0
    for sample in chosen:
        kind, text = _mask_problem(sample, data_set, backend)
        ignored += kind == 'ignored'
        if kind not in ('', 'ignored'):
            problems.setdefault(kind, []).append((sample['seg_map_path'], text))
    for kind, found in problems.items():
        few = cfg.get('bad_samples') == 'skip' and 2 * len(found) < len(chosen)
        yield Finding(_said(data_set, kind, found, len(chosen)), 'note' if few else 'problem')
    if chosen and ignored == len(chosen):
        zero = ' (reduce_zero_label=True ignores label 0)' if chosen[0].get('reduce_zero_label') else ''
        yield Finding(
            f'All {plural(len(chosen), "mask")} that were read of {data_set.key} have no pixel of any class, such as '
            f'{chosen[0]["seg_map_path"]}{zero}: the loss would be 0 and mIoU nan. Write class labels into the masks, '
            f'or set {data_set.key}.reduce_zero_label.'
        )


def _said(data_set: DataSet, kind: str, found: Sequence[tuple[str, str]], read: int) -> str:
    remedies = {
        'labels': f'Set {data_set.key}.metainfo.classes (and num_classes of the heads) to all classes of the masks, '
        'or mend the masks.',
        'size': 'A mask has the height and width of its image.',
        'shape': 'A mask has one label per pixel: convert colours to labels.',
        'file': 'Mend it, or leave the image out.',
    }
    lines = ''.join(f'\n    {path} {text}' for path, text in found[:4])
    more = f'\n    and {len(found) - 4} more' if len(found) > 4 else ''
    return f'{len(found)} of {plural(read, "mask")} that were read of {data_set.key}:{lines}{more}\n  {remedies[kind]}'


def _decoder(data_set: DataSet) -> str:
    """Give the library that the pipeline decodes masks with."""
    for _, part in parts(data_set.cfg.get('pipeline'), ''):
        if 'LoadAnnotations' in str(part.get('type')) and 'imdecode_backend' in part:
            return part['imdecode_backend']
    return 'pillow'


def _mask_problem(sample: Mapping[str, Any], data_set: DataSet, backend: str) -> tuple[str, str]:
    """Give the kind of a mask's problem ('': none; 'ignored': no pixel is of a class) and what is wrong."""
    import mmcv

    path = Path(sample['seg_map_path'])
    if not path.is_file():
        return 'file', f'is missing: the mask of {sample["img_path"]}'
    try:
        mask = mmcv.imfrombytes(path.read_bytes(), flag='unchanged', backend=backend)
    except Exception as error:  # decoders raise what they like
        return 'file', f'cannot be read: {error}'
    if mask is None:
        return 'file', 'cannot be read'
    mask = mask.squeeze()
    if mask.ndim != 2:
        return 'shape', f'has the shape {mask.shape}: colours instead of labels'
    size = _image_size(sample['img_path'])
    if size is not None and size != mask.shape:
        return 'size', f'is {mask.shape[0]} high and {mask.shape[1]} wide, but its image is {size[0]} and {size[1]}'
    return _label_problem(mask, sample, data_set)


def _label_problem(mask: NDArray[Any], sample: Mapping[str, Any], data_set: DataSet) -> tuple[str, str]:
    label_map = sample.get('label_map')  # from all classes of the data set to those that the config wants
    classes = data_set.classes() or ()
    count = len(label_map) if label_map else len(classes)
    first = int(bool(sample.get('reduce_zero_label')))
    labels = np.unique(mask)
    above = labels[(labels >= count + first) & (labels != IGNORED)]
    if count and len(above):
        last = f'the last of {plural(count, "class")} has label {count - 1 + first}'
        return 'labels', f'has labels {listed(above.tolist())}, but {last}'
    learned = [label for label in labels.tolist() if first <= label != IGNORED]
    if label_map:
        learned = [label for label in learned if label_map[label - first] != IGNORED]
    return ('', '') if learned else ('ignored', '')


def _image_size(path: str) -> tuple[int, int] | None:
    """Give the height and width of an image from its header; None if it cannot be told, which reading it will say."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError):
        return None
