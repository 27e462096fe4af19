"""Generated textures whose classes differ only along one axis: a task on which the right scan direction matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch import Tensor

from mmlocalmamba.registry import DATASETS

AXES = ('h', 'v')


@DATASETS.register_module()
class DirectionTextures(BaseDataset):
    """Black and white cells, of which neighbours along one axis tend to be alike (class 0) or to differ (class 1).

    Every line of cells along the axis is a Markov chain of its own that starts at a fair coin. So, single cells and
    whole lines across the axis are fair coins in both classes, and only pairs of neighbours along the axis tell the
    classes apart. A scan along the axis has them side by side, a scan across it ``grid`` steps apart.

    Args:
        axis: ``'h'``: neighbours in a row matter; ``'v'``: neighbours in a column do.
        num_images: How many images to generate.
        grid: Cells per side.
        cell: Side of a cell in pixels.
        order: Probability, above 0.5 and at most 1, that a pair of neighbours does what its class says.
        seed: Seed of the generator; train and test sets must have different ones.
        test_mode: Whether this is for evaluation.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> item = DirectionTextures(axis='v', num_images=4, grid=8, cell=2)[0]
        >>> tuple(item['inputs'].shape), item['labels'] in (0, 1)
        ((1, 16, 16), True)
    """

    METAINFO = dict(classes=('alike', 'different'))  # noqa: RUF012  # MMEngine's name and type

    def __init__(
        self,
        axis: str = 'v',
        num_images: int = 1024,
        grid: int = 8,
        cell: int = 1,
        order: float = 0.9,
        seed: int = 0,
        test_mode: bool = False,
    ) -> None:
        if axis not in AXES:
            raise ValueError(f"axis={axis!r} is unknown: choose 'h' or 'v'")
        if min(num_images, cell) < 1 or grid < 2 or not 0.5 < order <= 1:
            raise ValueError(
                f'want num_images and cell >= 1, grid >= 2 and order in (0.5, 1], got {num_images}, {cell}, {grid} and '
                f'{order}'
            )
        self.axis, self.num_images, self.grid, self.cell, self.order = axis, num_images, grid, cell, order
        self.seed = seed
        super().__init__(serialize_data=False, test_mode=test_mode)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Generate all images."""
        generator = np.random.default_rng(self.seed)
        return [dict(inputs=self._draw(generator, index % 2), labels=index % 2) for index in range(self.num_images)]

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Give an image as ``inputs``, float32 (1, grid * cell, grid * cell), and its class as ``labels``."""
        item = self.get_data_info(idx)
        return dict(inputs=item['inputs'], labels=item['labels'])

    def _draw(self, generator: np.random.Generator, label: int) -> Tensor:
        """Make one image, float32 (1, grid * cell, grid * cell) of -1 and 1."""
        changes = generator.random((self.grid, self.grid)) < (self.order if label == 1 else 1 - self.order)
        changes[0] = generator.random(self.grid) < 0.5
        cells = (np.cumsum(changes, 0) % 2).repeat(self.cell, 0).repeat(self.cell, 1) * 2.0 - 1.0
        if self.axis == 'h':
            cells = cells.T
        return torch.from_numpy(np.ascontiguousarray(cells, dtype=np.float32)).unsqueeze(0)
