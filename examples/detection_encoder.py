"""A pyramid for detectors that are no models of MMDetection, as D-FINE and RT-DETR build theirs.

Such code asks timm for the maps of some stages, and projects them to one width.
"""

import timm
import torch
from torch import Tensor, nn

import mmlocalmamba.timm  # noqa: F401  registers the models with timm


class Pyramid(nn.Module):
    """The maps of a backbone at strides 8, 16 and 32, projected to one width.

    Args:
        backbone: Name of a hierarchical backbone.
        width: Channels of every map.
    """

    def __init__(self, backbone: str, width: int = 256) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, features_only=True, out_indices=(1, 2, 3))
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
            for channels in self.backbone.feature_info.channels()
        )
        self.strides = self.backbone.feature_info.reduction()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) to three maps (B, width, H / stride, W / stride)."""
        return [project(x) for project, x in zip(self.projections, self.backbone(images), strict=True)]


def main(backbone: str = 'local_vmamba_tiny', side: int = 256) -> list[tuple[int, ...]]:
    """Build a pyramid; returns the shapes of its maps."""
    return [tuple(level.shape) for level in Pyramid(backbone)(torch.rand(2, 3, side, side))]


if __name__ == '__main__':
    print(main())
