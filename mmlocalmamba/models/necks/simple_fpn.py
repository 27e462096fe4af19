"""The pyramid of a plain backbone, from its last map alone (Li et al., ViTDet, 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.compat.engine import BaseModule
from mmlocalmamba.compat.without_mmengine import HOW_TO_GET_MM
from mmlocalmamba.registry import MODELS

LEVELS = 4
"""Levels made from the map: at 4, 2, 1 and 1/2 times its resolution."""


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Build maps at strides 4, 8, 16 and 32 from a map at stride 16, and coarser ones by pooling.

    The finer levels come from transposed convolutions, the coarser one from max pooling; each then passes a 1 x 1 and a
    3 x 3 convolution, with a norm after each. Levels beyond the fourth subsample the last one, as FPN's do.

    Args:
        in_channels: Channels C of the backbone's last map, a multiple of 4.
        out_channels: Channels of every level.
        num_outs: Number of levels, at least 4. Default: 5, the last one at stride 64.
        norm_cfg: mmcv's setting of the norms. Default: ``dict(type='mmlocalmamba.LN2d', eps=1e-6)``.
        init_cfg: mmengine's.

    Returns:
        ``forward(maps)`` takes the backbone's tuple of maps, uses the last one, (B, C, H, W), and gives a tuple of
        ``num_outs`` maps, (B, out_channels, 4H, 4W) first, each half the size of the one before.

    Raises:
        ModuleNotFoundError: If mmcv is not installed.
        ValueError: If ``in_channels`` is no multiple of 4 or ``num_outs`` is below 4; from ``forward``, if the last map
            has other than ``in_channels`` channels.

    Example:
        >>> import torch
        >>> neck = SimpleFPN(in_channels=8, out_channels=16)
        >>> [tuple(level.shape[1:]) for level in neck((torch.zeros(1, 8, 4, 6),))]
        [(16, 16, 24), (16, 8, 12), (16, 4, 6), (16, 2, 3), (16, 1, 2)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        norm_cfg: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        try:
            from mmcv.cnn import ConvModule, build_norm_layer
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f'SimpleFPN is built of layers of mmcv, which is missing: {HOW_TO_GET_MM}'
            ) from error

        super().__init__(init_cfg)
        if in_channels % 4:
            raise ValueError(f'in_channels={in_channels} must be a multiple of 4: the finest level has a quarter of it')
        if num_outs < LEVELS:
            raise ValueError(f'num_outs={num_outs} must be {LEVELS} or more')
        self.in_channels, self.num_outs = in_channels, num_outs
        norm_cfg = norm_cfg or dict(type='mmlocalmamba.LN2d', eps=1e-6)
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, 2),
                    build_norm_layer(norm_cfg, half)[1],
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2, ceil_mode=True),
            ]
        )
        # Neither convolution has an activation, and their biases would be undone by the norm.
        settings = dict(bias=False, norm_cfg=norm_cfg, act_cfg=None)
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, **settings) for channels in (quarter, half, in_channels, in_channels)
        )
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, **settings) for _ in range(LEVELS)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid from the last of the backbone's maps."""
        x = maps[-1]
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f'the last map has {x.shape[1]} channels, but the neck was built with in_channels={self.in_channels}: '
                "set it to the backbone's width"
            )
        outputs = [
            conv(lateral(scale(x)))
            for scale, lateral, conv in zip(self.scales, self.lateral_convs, self.fpn_convs, strict=True)
        ]
        while len(outputs) < self.num_outs:
            outputs.append(F.max_pool2d(outputs[-1], 1, stride=2))
        return tuple(outputs)
