"""ConvNeXt (Liu et al., 2022), which papers compare with and the mm packages lack: timm's, as a backbone of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
from timm.models.convnext import checkpoint_filter_fn
from torch import Tensor

from mmlocalmamba.compat.engine import BaseModule, print_log
from mmlocalmamba.registry import MODELS

from ..layers.norm import LN2d
from ..weights.files import read_state_dict
from ..weights.input_channels import fit_input_channels
from ..weights.loading import select_backbone
from .arch import resolve_out_indices

ARCHS = ('tiny', 'small', 'base')


@MODELS.register_module()
class ConvNeXt(BaseModule):
    """timm's ConvNeXt with a LayerNorm for each output, as detectors and segmenters want it.

    Args:
        arch: ``'tiny'``, ``'small'`` or ``'base'``.
        in_channels: Channels of the image. Weights of RGB images are adapted to it, however they are loaded.
        out_indices: Stages to output, of 0 to 3 at strides 4, 8, 16 and 32. Stages after the last one are not built.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        init_cfg: None, or ``dict(type='Pretrained', checkpoint=<file or URL>)``. It takes the authors' ImageNet files,
            timm's, and our own checkpoints.

    Returns:
        ``forward(image)`` gives a tuple of NCHW maps.

    Raises:
        ValueError: If an argument is unknown or out of range; from ``init_weights``, if the checkpoint does not fit.

    Example:
        >>> import torch
        >>> maps = ConvNeXt(out_indices=(0, 1))(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 96, 16, 24), (1, 192, 8, 12)]
    """

    def __init__(
        self,
        arch: str = 'tiny',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHS:
            raise ValueError(f'arch={arch!r} is unknown: choose one of {sorted(ARCHS)}')
        whole = timm.create_model(f'convnext_{arch}', in_chans=in_channels, drop_path_rate=drop_path_rate)
        self.out_indices = resolve_out_indices(out_indices, len(whole.stages), 'stages')
        self.stem = whole.stem
        self.stages = whole.stages[: max(self.out_indices) + 1]
        widths = [whole.feature_info[i]['num_chs'] for i in self.out_indices]
        for i, width in zip(self.out_indices, widths, strict=True):
            self.add_module(f'norm{i}', LN2d(width))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Give the maps of the chosen stages of images (B, in_channels, H, W)."""
        maps = []
        x = self.stem(x)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                maps.append(self.get_submodule(f'norm{i}')(x))
        return tuple(maps)

    def init_weights(self) -> None:
        """Load the checkpoint that ``init_cfg`` names, if any; otherwise keep the weights of construction.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If ``init_cfg`` is of another type, or the file does not fit. The message names the tensors.
        """
        if self.init_cfg is not None:
            if set(self.init_cfg) != {'type', 'checkpoint'} or self.init_cfg['type'] != 'Pretrained':
                raise ValueError(f"init_cfg wants dict(type='Pretrained', checkpoint=...), got {dict(self.init_cfg)}")
            source = self.init_cfg['checkpoint']
            self._load(select_backbone(read_state_dict(source), None, source), source)
        self.is_init = True

    def _load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load tensors in the authors' naming, timm's or ours; the outputs' norms may be missing."""
        if 'downsample_layers.0.0.weight' in tensors:
            tensors = checkpoint_filter_fn(tensors, self)
        own = self.state_dict()
        tensors = dict(tensors)
        notes = fit_input_channels(tensors, own, 'ConvNeXt', source)
        later = tuple(f'stages.{i}.' for i in range(len(self.stages), 4))
        taken = {name: value for name, value in tensors.items() if not name.startswith(('head.', *later))}
        faults = {
            'missing': [name for name in own if name not in taken and not name.startswith('norm')],
            'unexpected': [name for name in taken if name not in own],
            'of another shape': [name for name in taken if name in own and taken[name].shape != own[name].shape],
        }
        if any(faults.values()):
            text = '; '.join(f'{kind}: {", ".join(names)}' for kind, names in faults.items() if names)
            raise ValueError(f'{source} does not fit this ConvNeXt. {text}')
        self.load_state_dict({**own, **taken})
        message = f'{len(taken)}/{len(own)} backbone tensors loaded from {source}'
        print_log(message + (f' ({"; ".join(notes)})' if notes else ''), logger='current')

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        given = {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
        notes = fit_input_channels(given, self.state_dict(), 'ConvNeXt', 'the checkpoint')
        state_dict.update({prefix + name: value for name, value in given.items()})
        if notes:
            print_log(f'Loading the ConvNeXt: {"; ".join(notes)}', logger='current')
        super()._load_from_state_dict(state_dict, prefix, *args)
