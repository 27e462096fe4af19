"""From a file, or a frame of a video, to a model's input: as the config's test pipeline says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.registry import TRANSFORMS

from .classes import tested_dataset

_COLLATE = {'pseudo_collate': pseudo_collate, 'default_collate': default_collate}


@dataclass(frozen=True)
class Picture:
    """A picture that was read.

    Attributes:
        name: What results call it.
        pixels: (height, width, channels), as it was loaded: blue, green, red for three channels.
        fields: What the transforms after loading start from.
    """

    name: str
    pixels: np.ndarray
    fields: Mapping[str, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def crop(self, left: int, top: int, right: int, bottom: int) -> Picture:
        """Cut a part out; the right column and the bottom row are not in it."""
        part = np.ascontiguousarray(self.pixels[top:bottom, left:right])
        shape = part.shape[:2]
        return replace(self, pixels=part, fields={**self.fields, 'img': part, 'img_shape': shape, 'ori_shape': shape})

    def shown(self) -> np.ndarray:
        """Give it as people look at it: uint8 (height, width, 3), red, green, blue.

        One channel becomes grey. Of four and more, the first three are taken for blue, green and red. Values of other
        types than uint8 are stretched from their 1st and 99th percentiles.
        """
        pixels = self.pixels if self.pixels.ndim == 3 else self.pixels[..., None]
        pixels = np.repeat(pixels[..., :1], 3, 2) if pixels.shape[2] < 3 else pixels[..., 2::-1]
        if pixels.dtype != np.uint8 and not (pixels.min() >= 0 and 1 < pixels.max() <= 255):
            low, high = np.percentile(pixels, (1, 99))
            pixels = (pixels - low) * (255 / max(high - low, 1e-9))
        return np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))


class PicturePipeline:
    """Reads pictures and prepares them for the model, as the config's test data are.

    Transforms that load annotations are left out.

    Args:
        cfg: The whole config.

    Raises:
        KeyError: If it has no test data set.
        ValueError: If that has no pipeline.
    """

    def __init__(self, cfg: Config) -> None:
        dataset = tested_dataset(cfg)
        transforms = [
            transform for transform in dataset.get('pipeline') or () if 'Annotation' not in str(transform['type'])
        ]
        if not transforms:
            raise ValueError(
                f'the test data set {dataset["type"]} has no pipeline, which says how pictures are read and prepared'
            )
        loads = 'Load' in str(transforms[0]['type'])
        self.load = TRANSFORMS.build(transforms[0]) if loads else None
        self.prepare_fields = Compose(transforms[1:] if loads else transforms)
        loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
        self.collate_fn = _COLLATE[loader.get('collate_fn', {}).get('type', 'pseudo_collate')]

    def read(self, path: Path, name: str, number: int) -> Picture:
        """Read a file.

        Args:
            path: The file.
            name: What results call it.
            number: The model's data samples carry it as ``img_id``.

        Raises:
            Exception: Whatever the loading transform raises if it cannot read the file.
        """
        fields = {'img_path': str(path), 'img_id': number}
        if self.load is None:  # a transform like timm's, which reads and prepares
            pixels = mmcv.imread(str(path))
            if pixels is None:
                raise OSError('its content is no image')
            return Picture(name, pixels, fields)
        fields = self.load(fields)
        return Picture(name, fields['img'], fields)

    def take_frame(self, frame: np.ndarray, name: str, number: int) -> Picture:
        """Make a picture of a video's frame, uint8 (height, width, 3): blue, green, red."""
        pixels = frame
        if getattr(self.load, 'color_type', 'color') == 'grayscale':
            pixels = mmcv.bgr2gray(frame)
        if getattr(self.load, 'to_float32', False):
            pixels = pixels.astype(np.float32)
        shape = pixels.shape[:2]
        fields = {'img': pixels, 'img_path': name, 'img_id': number, 'img_shape': shape, 'ori_shape': shape}
        return Picture(name, pixels, fields)

    def prepare(self, pictures: Sequence[Picture]) -> list[Any]:
        """Prepare pictures for the model, each by itself."""
        return [self.prepare_fields(dict(picture.fields)) for picture in pictures]

    def collate(self, items: Sequence[Any]) -> list[Any]:
        """Make batches for ``model.test_step``: of neighbours of one size, since not every model pads."""
        batches: list[list[Any]] = []
        for item in items:
            if batches and batches[-1][0]['inputs'].shape == item['inputs'].shape:
                batches[-1].append(item)
            else:
                batches.append([item])
        return [self.collate_fn(batch) for batch in batches]
