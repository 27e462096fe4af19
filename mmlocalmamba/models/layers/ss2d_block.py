"""The block of the hierarchical backbones: a scan mixer and, in VMamba's second version, an MLP."""

from __future__ import annotations

from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from .ss2d import SS2D


class SS2DBlock(nn.Module):
    """One block: ``x + DropPath(SS2D(LN(x)))``, then with an MLP ``x + DropPath(MLP(LN(x)))``.

    Args:
        dim: Channels C.
        mixer: Maps (B, H, W, C) to the same shape.
        drop_path: Probability of dropping a branch.
        mlp_ratio: Ratio of the MLP's hidden width to C; 0 for a block without one.
    """

    def __init__(self, dim: int, mixer: SS2D, drop_path: float, mlp_ratio: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim) if mlp_ratio else None
        self.mlp = Mlp(dim, int(mlp_ratio * dim)) if mlp_ratio else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        x = x + self.drop_path(self.mixer(self.norm(x)))
        if self.mlp is None or self.norm2 is None:
            return x
        return x + self.drop_path(self.mlp(self.norm2(x)))
