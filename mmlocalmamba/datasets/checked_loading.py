"""Loading of images and masks that names a bad file, or goes on without it.

The transforms of a data set that load something are wrapped where they are, so that this works for every data set of
MMEngine's, whatever its config, and inside of wrappers such as ``RepeatDataset``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image

from .bad_samples import BadSample, BadSampleList, BadSamplePolicy
from .image_problems import bits_per_channel, decoding_problem, image_problem, is_local, may_be_cut_off

_DATA_ERRORS = (OSError, ValueError, AssertionError, EOFError, SyntaxError, struct.error, zlib.error, cv2.error)
"""What decoders raise for bad data. Any other error is not the sample's fault, unless its file is bad."""

_IGNORED = 255
_THIN = 'is one pixel wide or high, which the loading of masks in the mm packages does not take'


class BadSampleError(RuntimeError):
    """A sample cannot be used; the message names it and what is wrong with it."""


class CheckedLoading:
    """A loading transform that names a bad file, or gives None for it, so that the data set takes another sample.

    Args:
        transform: A transform that loads an image, annotations or both.
        policy: What to do about a bad sample.
        bad: Where samples that are left out are listed.
        training: Whether a mask without a single label is bad, too: it teaches nothing and gives a loss of 0.
        ignored: Value of the pixels of masks that are ignored.
    """

    def __init__(
        self, transform: Any, policy: BadSamplePolicy, bad: BadSampleList, training: bool, ignored: int = _IGNORED
    ) -> None:
        self.transform, self.policy, self.bad = transform, policy, bad
        self.training, self.ignored = training, ignored
        self._depth_told = False

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Load what the transform loads.

        Raises:
            BadSampleError: If that does not work, and the policy is 'raise'.
        """
        files = self._files(results)
        try:
            loaded = self.transform(results)
        except MemoryError:
            raise
        except Exception as error:
            sample = _explain(files, results, error, self._loads_masks)
            if sample is None:
                raise
            self._reject(sample, error)
            return None
        problem = next(filter(None, map(_cut_off, files)), None) if loaded is not None else None
        if problem is None and loaded is not None and 'gt_seg_map' in loaded and self._loads_masks:
            problem = self._mask_problem(loaded)
        if problem is not None:
            self._reject(problem, None)
            return None
        if loaded is not None and not self._depth_told:
            self._tell_depth(files, loaded)
        return loaded

    def __repr__(self) -> str:
        """Show the transform that is wrapped."""
        return f'CheckedLoading({self.transform!r}, policy={self.policy!r})'

    @property
    def _loads_masks(self) -> bool:
        return bool(getattr(self.transform, 'with_seg', False))

    def _files(self, results: dict[str, Any]) -> list[str]:
        """Name the files that the transform reads; none if they are not local."""
        if self._loads_masks:
            found = results.get('seg_map_path')
        elif _loads_images(self.transform):
            found = results.get('img_path')
        else:
            found = None
        files = found if isinstance(found, (list, tuple)) else [found]
        return [str(file) for file in files if file is not None and is_local(file)]

    def _reject(self, sample: BadSample, error: Exception | None) -> None:
        if self.policy == 'skip':
            self.bad.add(sample)
            return
        advice = "mend or remove it, or go on without such samples: bad_samples='skip' in the config"
        if not self.training:
            advice = 'mend it or remove it from the annotations: results on fewer images could not be compared'
        raise BadSampleError(f'{sample.source} {sample.problem}; {advice}') from error

    def _mask_problem(self, loaded: dict[str, Any]) -> BadSample | None:
        mask, path = loaded['gt_seg_map'], str(loaded.get('seg_map_path'))
        if mask.ndim < 2:
            return BadSample(path, _THIN)
        if mask.ndim != 2:
            return BadSample(
                path,
                f'has the shape {mask.shape}: want one number per pixel, as in a gray or palette PNG (palettes need '
                "imdecode_backend='pillow')",
            )
        size = tuple(loaded.get('ori_shape', mask.shape))  # test pipelines resize the image before they load its mask
        if mask.shape != size:
            shapes = ' x '.join(map(str, mask.shape)), ' x '.join(map(str, size))
            return BadSample(path, f'is {shapes[0]} pixels, but its image {loaded.get("img_path")} is {shapes[1]}')
        if self.training and (mask == self.ignored).all():
            return BadSample(path, f'has no label: all of its pixels are ignored ({self.ignored})')
        return None

    def _tell_depth(self, files: list[str], loaded: dict[str, Any]) -> None:
        """Say once in the log that images have more bits than are kept."""
        image = loaded.get('img')
        if not _loads_images(self.transform) or not isinstance(image, np.ndarray) or image.dtype != np.uint8:
            return
        for file in files:
            data = Path(file).read_bytes()
            if bits_per_channel(data) > 8:
                self._depth_told = True
                print_log(
                    f'{file} has 16 bits per channel, of which {type(self.transform).__name__} keeps the upper 8. See '
                    'docs/multispectral.md for how to use all of them.',
                    logger='current',
                )


def check_loading(dataset: Any, policy: BadSamplePolicy, bad: BadSampleList) -> int:
    """Wrap the loading transforms of a data set, in place, and of those inside of it.

    In testing (``test_mode=True``) a bad sample is always an error: a metric of fewer images cannot be compared.

    Args:
        dataset: A data set of MMEngine's, or a wrapper of some.
        policy: What to do about bad samples.
        bad: Where samples that are left out are listed.

    Returns:
        How many transforms were wrapped.
    """
    wrapped = 0
    for part in leaf_datasets(dataset):
        training = not getattr(part, 'test_mode', False)
        settings = ('raise' if not training else policy, bad, training, getattr(part, 'ignore_index', _IGNORED))
        wrapped += _wrap(getattr(part, 'pipeline', None), settings)
    return wrapped


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Yield the data sets that hold samples: the data set itself, or those inside of a wrapper."""
    inner = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or [])]
    inner = [part for part in inner if part is not None]
    if not inner:
        yield dataset
    for part in inner:
        yield from leaf_datasets(part)


def _wrap(pipeline: Any, settings: tuple[Any, ...]) -> int:
    """Wrap the loading transforms in a pipeline, and in the transforms of transforms."""
    if not isinstance(pipeline, list):
        inner = None if isinstance(pipeline, CheckedLoading) else getattr(pipeline, 'transforms', None)
        return 0 if inner is None else _wrap(inner, settings)
    wrapped = 0
    for index, transform in enumerate(pipeline):
        if _loads(transform):
            pipeline[index] = CheckedLoading(transform, *settings)
            wrapped += 1
        else:
            wrapped += _wrap(transform, settings)
    return wrapped


def _loads(transform: Any) -> bool:
    return any(kind.__name__.startswith('Load') for kind in type(transform).__mro__) or _loads_images(transform)


def _loads_images(transform: Any) -> bool:
    return hasattr(transform, 'loads_images') or any(
        kind.__name__.startswith(('LoadImage', 'LoadMultiChannelImage')) for kind in type(transform).__mro__
    )


def _explain(files: list[str], results: dict[str, Any], error: Exception, masks: bool) -> BadSample | None:
    """Say what is wrong with a sample that did not load; None if the error is not the sample's fault."""
    for file in files:
        problem = image_problem(file)
        if problem is not None:
            return BadSample(file, problem)
        if masks and 1 in Image.open(file).size:
            return BadSample(file, _THIN)
    if not isinstance(error, _DATA_ERRORS):
        return None
    source = files[0] if files else str(results.get('img_path'))
    what = 'does not load' if files else 'has annotations that do not load'
    return BadSample(source, f'{what}: {type(error).__name__}: {error}')


def _cut_off(file: str) -> BadSample | None:
    """Say so if a file that was decoded is not whole."""
    data = Path(file).read_bytes()
    problem = decoding_problem(data) if may_be_cut_off(data) else None
    return None if problem is None else BadSample(file, problem)
