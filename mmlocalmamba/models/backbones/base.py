"""What all backbones have in common: their arguments' checks, freezing, checkpointing, output norms and loading."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import Self

from mmlocalmamba.compat.engine import BaseModule, PretrainedInit, initialize

from ..layers.overlapping_patch import ConvStem
from ..layers.patch import PatchEmbed
from ..weights.fitting import fit_state_dict
from ..weights.loading import load_backbone
from .arch import check_range, drop_path_rates, resolve_directions, resolve_out_indices
from .padding import check_padding, maps_without_padding

_PRETRAINED_KEYS = {'type', 'checkpoint', 'prefix', 'map_location', 'warm_start', 'source_directions', 'weights'}


class ScanBackbone(BaseModule):
    """Base of the backbones that are built of blocks with one scan mixer each.

    A subclass builds its blocks in units that ``out_indices`` and ``frozen_stages`` count: stages, or single blocks.
    Units after the last output are not built.

    Every way of loading weights ends up in this class's hook: ``init_cfg=dict(type='Pretrained', ...)``, MMEngine's
    ``load_from`` and ``resume``, and ``load_state_dict``. The hook renames published tensors, resizes position tables
    and adapts weights of RGB images to other channels. It raises an error that names each tensor that is missing,
    unexpected or of another shape, even where the caller is not strict. See
    :func:`mmlocalmamba.models.weights.fitting.fit_tensors`.

    Args:
        depths: Number of blocks in each unit.
        directions: Names of the directions, one list per block, or the path of a JSON file that holds them.
        out_indices: Units to output; negative ones count from the end.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        frozen_stages: -1 trains everything, 0 freezes the embeddings, i the first i units too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's.
        padding: What becomes of a batch's padding: ``'scan'`` or ``'skip'``.

    Attributes:
        out_indices: Units to output, none of them negative.
        directions: Names of the directions of each block that is built.
        drop_path_rates: Stochastic depth rate of every block, of those too that are not built.

    Raises:
        ValueError: If an argument is out of range, or there is not one list of directions per block.
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]]
    """Architectures by name."""

    unit: ClassVar[str]
    """What ``out_indices`` counts, for messages: 'stages' or 'blocks'."""

    patch_embed: PatchEmbed | ConvStem

    def __init__(
        self,
        depths: Sequence[int],
        directions: str | Sequence[Sequence[str]],
        out_indices: Sequence[int],
        drop_path_rate: float,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict[str, Any] | None,
        padding: str,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices = resolve_out_indices(out_indices, len(depths), self.unit)
        check_range('drop_path_rate', drop_path_rate, 0, 1)
        check_range('frozen_stages', frozen_stages, -1, len(depths))
        check_padding(padding)
        built = sum(depths[: max(self.out_indices) + 1])
        self.directions = resolve_directions(directions, sum(depths))[:built]
        self.drop_path_rates = drop_path_rates(drop_path_rate, sum(depths))
        self.frozen_stages, self.with_cp, self.padding = frozen_stages, with_cp, padding

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the chosen maps of images (B, in_channels, H, W), with or without their padding."""
        self._check_initialised()
        if self.padding == 'scan':
            return self.compute_maps(image)
        strides = [self.stride_of(i) for i in self.out_indices]
        return maps_without_padding(self.compute_maps, image, strides, smallest=self.stride_of(0))

    @abstractmethod
    def compute_maps(self, image: Tensor, indices: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """Compute maps of images (B, in_channels, H, W), all of each image.

        Args:
            image: The images.
            indices: Units to output, none of them negative; they need norms of their own if there are any.
                Default: ``out_indices``.
        """

    @abstractmethod
    def stride_of(self, index: int) -> int:
        """Tell the pixels per position of a unit's output; those of the first one are the side of a patch."""

    @property
    def in_channels(self) -> int:
        """Channels of the images that the backbone takes."""
        return self.patch_embed.in_channels

    def add_output_norms(self, widths: Sequence[int], out_norm: bool) -> None:
        """Give each output a LayerNorm of its own, at first the identity transform of it, or none.

        Args:
            widths: Channels of every unit's output.
            out_norm: Whether there are norms at all.
        """
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(widths[i]) if out_norm else nn.Identity())

    def output_norm(self, index: int) -> nn.Module:
        """Give the norm of a unit's output."""
        return self.get_submodule(f'norm{index}')

    def init_weights(self) -> None:
        """Load the checkpoint that ``init_cfg`` names, if any; otherwise keep the weights of construction.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If ``init_cfg`` has an unknown setting, or the file does not fit. The message names the tensors.
        """
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else list(self.init_cfg or [])
        pretrained = [cfg for cfg in cfgs if cfg.get('type') in ('Pretrained', PretrainedInit)]
        if not pretrained:
            super().init_weights()
            return
        initialize(self, [cfg for cfg in cfgs if cfg not in pretrained])
        for cfg in pretrained:
            unknown = set(cfg) - _PRETRAINED_KEYS
            if unknown:
                raise ValueError(
                    f'init_cfg has unknown settings {sorted(unknown)}: want some of {sorted(_PRETRAINED_KEYS)}'
                )
            load_backbone(
                self,
                cfg['checkpoint'],
                cfg.get('prefix'),
                warm_start=cfg.get('warm_start', False),
                source_directions=cfg.get('source_directions'),
                weights=cfg.get('weights'),
            )
        self.is_init = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        fit_state_dict(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.is_init = True

    def _check_initialised(self) -> None:
        """Warn, once, if the weights that ``init_cfg`` names were never asked for."""
        if self.init_cfg and not self.is_init:
            self.is_init = True
            logging.getLogger('mmlocalmamba').warning(
                '%s was built with init_cfg=%r and is used with random weights: call init_weights() first, as '
                "MMEngine's Runner does, or load a checkpoint",
                type(self).__name__,
                self.init_cfg,
            )

    @staticmethod
    @abstractmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.freeze()
        return self

    def freeze(self) -> None:
        """Freeze what ``frozen_stages`` says."""
        if self.frozen_stages < 0:
            return
        for part in self.frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
            part.requires_grad_(False)

    @abstractmethod
    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Give the embeddings and the first ``frozen_stages`` units, which are frozen if that is 0 or more."""

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell the layer of a parameter, for layer-wise learning rate decay.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Name of this backbone in it, such as ``'backbone.'``.

        Returns:
            ``(layer, layers)``: 0 for the embeddings, then one per block, and ``layers - 1`` for everything else, the
            outputs' norms included. Downsampling counts for the block before it.
        """
        layers = len(self.directions) + 2
        layer = self.layer_of(param_name.removeprefix(prefix)) if param_name.startswith(prefix) else None
        return layers - 1 if layer is None else layer, layers

    @abstractmethod
    def layer_of(self, name: str) -> int | None:
        """Tell the layer of one of this backbone's own parameters, as in :meth:`get_layer_depth`; None for the last."""


def run_block(block: nn.Module, *inputs: Any, with_cp: bool) -> Any:
    """Run a block; with ``with_cp``, training it recomputes its activations in the backward."""
    if with_cp and block.training and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
