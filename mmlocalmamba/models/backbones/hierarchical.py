"""What the hierarchical backbones have in common: four stages of scan blocks at strides 4 to 32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

from torch import Tensor, nn

from mmlocalmamba.ops import of_traced_size

from ..layers.overlapping_patch import ConvStem
from ..layers.patch import PatchEmbed
from .base import ScanBackbone, run_block

PATCH_SIZE = 4


class Stage(nn.Module):
    """The blocks of one resolution, and the down-sampling that leads to the next one.

    Args:
        blocks: The blocks.
        downsample: What follows, or None in the last stage.
        with_cp: Recompute each block's activations in the backward to save memory.
    """

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None, with_cp: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the output of the last block, before any downsampling."""
        for block in self.blocks:
            x = run_block(block, x, with_cp=self.with_cp)
        return x


class HierarchicalBackbone(ScanBackbone):
    """Base of LocalVMamba and VMamba. A subclass calls :meth:`build`, and then :meth:`freeze`.

    Args:
        dims: Channels of each stage.
        depths: Blocks of each stage.
        directions: Names of the directions, one list per block, or the path of a JSON file that holds them.
        out_indices: Stages to output; negative ones count from the end.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, i freezes the first i stages too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's.
        padding: What becomes of a batch's padding: ``'scan'`` or ``'skip'``.

    Attributes:
        dims: Channels of the stages that are built.
        depths: Blocks of the stages that are built.

    Raises:
        ValueError: If an argument is out of range, or there is not one list of directions per block.
    """

    unit: ClassVar[str] = 'stages'

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        directions: str | Sequence[Sequence[str]],
        out_indices: Sequence[int],
        drop_path_rate: float,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict[str, Any] | None,
        padding: str,
    ) -> None:
        dims, depths = tuple(dims), tuple(depths)
        if len(dims) != len(depths):
            raise ValueError(f'dims={dims} and depths={depths} must have one number per stage each')
        super().__init__(depths, directions, out_indices, drop_path_rate, frozen_stages, with_cp, init_cfg, padding)
        stages = max(self.out_indices) + 1
        self.dims, self.depths = dims[:stages], depths[:stages]

    def build(
        self,
        patch_embed: PatchEmbed | ConvStem,
        make_block: Callable[[int, Sequence[str], float], nn.Module],
        make_downsample: Callable[[int, int], nn.Module],
        out_norm: bool,
    ) -> None:
        """Build the stages.

        Args:
            patch_embed: Maps images (B, in_channels, H, W) to (B, H / 4, W / 4, dims[0]).
            make_block: Makes a block out of its channels, the names of its directions and its drop path rate.
            make_downsample: Makes what lies between two stages out of the channels of both.
            out_norm: Whether each output passes a LayerNorm of its own.
        """
        self.patch_embed = patch_embed
        settings = zip(self.directions, self.drop_path_rates, strict=False)  # of the blocks that are built
        self.stages = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(self.dims, self.depths, strict=True)):
            blocks = [make_block(dim, directions, rate) for directions, rate in islice(settings, depth)]
            downsample = make_downsample(dim, self.dims[i + 1]) if i < len(self.dims) - 1 else None
            self.stages.append(Stage(blocks, downsample, self.with_cp))
        self.add_output_norms(self.dims, out_norm)

    def compute_maps(self, image: Tensor, indices: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of stages, by default the chosen ones, of images (B, in_channels, H, W), all of each."""
        indices = self.out_indices if indices is None else indices
        x = self.patch_embed(of_traced_size(image))
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in indices:
                outputs.append(self.output_norm(i)(x).permute(0, 3, 1, 2).contiguous())
            if isinstance(stage.downsample, nn.Module):
                x = stage.downsample(x)
        return tuple(outputs)

    def stride_of(self, index: int) -> int:
        """Tell the pixels per position of a stage's output."""
        return PATCH_SIZE * 2**index

    def frozen_parts(self) -> Iterable[nn.Module]:
        """Give the patch embedding, the first ``frozen_stages`` stages, and the norms of their outputs."""
        norms = [self.output_norm(i) for i in self.out_indices if i < self.frozen_stages]
        return [self.patch_embed, *self.stages[: self.frozen_stages], *norms]

    def layer_of(self, name: str) -> int | None:
        """Tell the layer of a parameter: 0 for the patch embedding, then one per block; None for the last."""
        if name.startswith('patch_embed'):
            return 0
        if not name.startswith('stages'):
            return None
        _, stage, part, block, *_ = name.split('.')
        if part == 'downsample':
            return sum(self.depths[: int(stage) + 1])
        return sum(self.depths[: int(stage)]) + int(block) + 1
