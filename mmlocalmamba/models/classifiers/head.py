"""The head of a classifier, for every backbone (paper section 5.1)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmlocalmamba.compat.engine import BaseModule
from mmlocalmamba.registry import MODELS

from ..layers.ssm_parameters import init_linear

HEAD_NORMS = {'LN': nn.LayerNorm, 'RMSNorm': nn.RMSNorm}


@MODELS.register_module()
class ClassificationHead(BaseModule):
    """Normalise a map's tokens, average them, and classify.

    Args:
        in_channels: Channels C of the last map.
        num_classes: Number of classes.
        norm: ``'LN'`` (LocalVMamba, VMamba) or ``'RMSNorm'`` (LocalVim, Vim).
        init_cfg: mmengine's.

    Raises:
        ValueError: If ``norm`` is unknown.
    """

    def __init__(
        self, in_channels: int, num_classes: int = 1000, norm: str = 'LN', init_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(init_cfg)
        if norm not in HEAD_NORMS:
            raise ValueError(f'norm={norm!r} is unknown: choose one of {sorted(HEAD_NORMS)}')
        self.num_classes = num_classes
        self.norm = HEAD_NORMS[norm](in_channels, eps=1e-5)
        self.fc: nn.Module = nn.Linear(in_channels, num_classes)
        init_linear(self.fc)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Classify the last of the features, a map (B, C, H, W) or vectors (B, C); returns logits (B, num_classes)."""
        x = features[-1]
        if x.dim() == 2:
            return self.fc(self.norm(x))
        return self.fc(self.norm(x.flatten(2).transpose(1, 2)).mean(1))
