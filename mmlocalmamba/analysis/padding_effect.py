"""What padding does to the metrics of one checkpoint: it is evaluated at several paddings of the same images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from torch import Tensor, nn

from mmlocalmamba.models.backbones.padding import image_sizes

from .evaluation import evaluate

MULTIPLES = {'mmdet': 'model.data_preprocessor.pad_size_divisor', 'mmseg': 'model.data_preprocessor.test_cfg'}
"""Where the configs of a scope say which multiple test images are padded to."""


@dataclass(frozen=True)
class Setting:
    """One way to pad the test images.

    Attributes:
        name: What a table calls it.
        options: What it changes in the config, by dotted keys.
    """

    name: str
    options: dict[str, Any]


@dataclass
class PaddingShare:
    """Counts the pixels that a backbone is given, and those of them that are padding.

    Attributes:
        padding: Pixels of padding.
        pixels: All pixels.
    """

    padding: int = 0
    pixels: int = 0

    def watch(self, model: nn.Module) -> None:
        """Count in every forward of a model's backbone from now on."""
        model.get_submodule('backbone').register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        batch, _, height, width = inputs[0].shape
        self.pixels += batch * height * width
        self.padding += batch * height * width - sum(rows * columns for rows, columns in image_sizes(inputs[0]))

    @property
    def percent(self) -> float:
        """Share of padding in percent."""
        return 100 * self.padding / max(self.pixels, 1)


def settings_of(cfg: Config, batch: int, multiples: Sequence[int]) -> list[Setting]:
    """List the paddings to evaluate a config's model at.

    Args:
        cfg: A detector's or a segmenter's config.
        batch: Images per batch of the second setting. MMSegmentation tests only images of one size together, so
            segmenters have no such setting.
        multiples: Sides that images are padded up to multiples of, one after the other.

    Returns:
        The config's own padding at one image per batch, larger batches, and the multiples.

    Raises:
        ValueError: If the config is of neither package.
    """
    scope = cfg.get('default_scope')
    if scope not in MULTIPLES:
        raise ValueError(f'default_scope is {scope!r}: padding is measured for configs of {sorted(MULTIPLES)}')
    settings = [Setting('batch 1', {'test_dataloader.batch_size': 1})]
    if scope == 'mmdet':
        settings.append(Setting(f'batch {batch}', {'test_dataloader.batch_size': batch}))
    for multiple in multiples:
        value = multiple if scope == 'mmdet' else {'size_divisor': multiple}
        options = {'test_dataloader.batch_size': 1, MULTIPLES[scope]: value}
        settings.append(Setting(f'batch 1, multiples of {multiple}', options))
    return settings


def resize_test_images(cfg: Config, height: int, width: int) -> None:
    """Make a config test on images of one size, in place of the size that its pipeline resizes to.

    Raises:
        ValueError: If the pipeline of the test data resizes nothing.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    for step in dataset.pipeline:
        if step.type.split('.')[-1] == 'Resize':
            step.update(scale=(width, height), keep_ratio=False)
            return
    raise ValueError("the test pipeline has no Resize step that could be changed: add dict(type='Resize', scale=...)")


def measure(
    cfg: Config, checkpoint: str, settings: Sequence[Setting], work_dir: str, progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Evaluate a checkpoint at several paddings.

    Args:
        cfg: The config; it stays as it is.
        checkpoint: File of the weights.
        settings: The paddings.
        work_dir: Folder for logs.
        progress: Is told what is being done.

    Returns:
        One row per setting, with the share of padding and the metrics, as text.
    """
    rows = []
    for setting in settings:
        progress(f'evaluating at {setting.name}')
        changed, share = copy.deepcopy(cfg), PaddingShare()
        changed.merge_from_dict(setting.options)
        metrics = evaluate(changed, checkpoint, work_dir, share.watch)
        texts = {name: f'{value:.1f}' for name, value in metrics.items()}
        rows.append({'test images': setting.name, 'padding, %': f'{share.percent:.0f}', **texts})
    return rows
