"""LocalVMamba: the hierarchical backbone (paper section 4.3 and table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmlocalmamba.directions import published_directions
from mmlocalmamba.registry import MODELS

from ..layers.patch import PatchEmbed, PatchMerging
from ..layers.ss2d import SS2D
from ..weights.loading import init_backbone, refuse_misfit
from ..weights.published_names import local_vmamba_from_published
from .arch import check_range, drop_path_rates, resolve_arch, resolve_directions, resolve_out_indices

PATCH_SIZE = 4


class LocalVMambaBlock(nn.Module):
    """One block: ``x + DropPath(SS2D(LN(x)))``, without an MLP.

    Args:
        dim: Channels C.
        directions: Names of the scan directions.
        drop_path: Probability of dropping the branch.
        **mixer: Arguments of :class:`~mmlocalmamba.models.layers.ss2d.SS2D`, which refuses unknown ones.
    """

    def __init__(self, dim: int, directions: Sequence[str], drop_path: float, **mixer: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = SS2D(dim, directions, **mixer)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        return x + self.drop_path(self.mixer(self.norm(x)))


class LocalVMambaStage(nn.Module):
    """The blocks of one resolution, and the patch merging that leads to the next one.

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
            if self.with_cp and self.training and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


@MODELS.register_module()
class LocalVMamba(BaseModule):
    """LocalVMamba, a hierarchical vision backbone of windowed selective scans.

    Args:
        arch: ``'micro'`` (for demos and tests), ``'tiny'``, ``'small'``, or a dict with ``dims`` (channels of each
            stage), ``depths`` (blocks of each stage) and ``directions`` (one list of names per block, or the path of a
            JSON file that holds them).
        in_channels: Channels of the image.
        out_indices: Stages to output, of 0 to 3 at strides 4, 8, 16 and 32. Stages after the last one are not built.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        d_state: States N per channel.
        ssm_ratio: Ratio of the mixers' inner width to the channels.
        spatial_attn: Whether SCAttn has the paper's spatial gate, which the published weights lack.
        attn: Whether to have SCAttn (False: ablation of paper table 5).
        search: Build the supernet of the direction search (paper 4.2): every block mixes its directions by learned
            probabilities. Give all candidates as each block's directions.
        out_norm: Whether each output passes a LayerNorm of its own, at first the identity transform of it.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, i freezes the first i stages too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=<file or URL>)`` takes the published ImageNet files
            and our own checkpoints, and accounts for every key.

    Returns:
        ``forward(image)`` gives a tuple of NCHW maps, (B, dims[i], ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: If an argument is unknown or out of range.

    Example:
        >>> import torch
        >>> maps = LocalVMamba(arch='micro')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        'micro': dict(
            dims=(32, 64, 128, 256),
            depths=(1, 1, 2, 1),
            directions=(
                ('h', 'h_flip', 'w7', 'w7_flip'),
                ('h_flip', 'v_flip', 'w2', 'w2_flip'),
                ('h', 'v', 'v_flip', 'w2_flip'),
                ('h_flip', 'v', 'w2', 'w7'),
                ('h', 'h_flip', 'v', 'v_flip'),
            ),
        ),
        'tiny': dict(
            dims=(96, 192, 384, 768), depths=(2, 2, 9, 2), directions=published_directions('local_vmamba_tiny')
        ),
        'small': dict(
            dims=(96, 192, 384, 768), depths=(2, 2, 27, 2), directions=published_directions('local_vmamba_small')
        ),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        spatial_attn: bool = False,
        attn: bool = True,
        search: bool = False,
        out_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = resolve_arch(arch, self.arch_zoo, ('dims', 'depths', 'directions'), 'LocalVMamba')
        dims, depths = tuple(sizes['dims']), tuple(sizes['depths'])
        if len(dims) != len(depths):
            raise ValueError(f'dims={dims} and depths={depths} must have one number per stage each')
        check_range('drop_path_rate', drop_path_rate, 0, 1)
        check_range('frozen_stages', frozen_stages, -1, len(depths))
        self.out_indices = resolve_out_indices(out_indices, len(depths), 'stages')
        directions = resolve_directions(sizes['directions'], sum(depths))
        stages = max(self.out_indices) + 1
        self.dims, self.depths, self.frozen_stages = dims[:stages], depths[:stages], frozen_stages
        self.directions = directions[: sum(self.depths)]

        rates = drop_path_rates(drop_path_rate, sum(depths))
        mixer = dict(d_state=d_state, ssm_ratio=ssm_ratio, spatial_attn=spatial_attn, attn=attn, search=search)
        self.patch_embed = PatchEmbed(in_channels, dims[0], PATCH_SIZE, norm=True)
        self.stages = nn.ModuleList()
        for i, (dim, depth) in enumerate(zip(self.dims, self.depths, strict=True)):
            first = sum(depths[:i])
            blocks = [LocalVMambaBlock(dim, directions[j], rates[j], **mixer) for j in range(first, first + depth)]
            downsample = PatchMerging(dim, dims[i + 1]) if i < stages - 1 else None
            self.stages.append(LocalVMambaStage(blocks, downsample, with_cp))
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(dims[i]) if out_norm else nn.Identity())
        self.apply(_init_linear)
        self._freeze_stages()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the chosen stages of images (B, in_channels, H, W)."""
        x = self.patch_embed(image)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                norm = getattr(self, f'norm{i}')
                outputs.append(norm(x).permute(0, 3, 1, 2).contiguous())
            if isinstance(stage.downsample, PatchMerging):
                x = stage.downsample(x)
        return tuple(outputs)

    def init_weights(self) -> None:
        """Load the checkpoint that ``init_cfg`` names, if any; otherwise keep the weights of construction."""
        init_backbone(self, super().init_weights)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        refuse_misfit(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; see :mod:`~mmlocalmamba.models.weights`."""
        return local_vmamba_from_published(state)

    def train(self, mode: bool = True) -> LocalVMamba:
        """Set the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        frozen: list[nn.Module] = [] if self.frozen_stages < 0 else [self.patch_embed]
        frozen += self.stages[: max(self.frozen_stages, 0)]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i < self.frozen_stages]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell the layer of a parameter, for layer-wise learning rate decay.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Name of this backbone in it, such as ``'backbone.'``.

        Returns:
            ``(layer, layers)``: 0 for the patch embedding, then one per block, with a downsampling layer counted to
            the block before it, and ``layers - 1`` for everything else, outputs' norms included.
        """
        layers = sum(self.depths) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix) or not name.startswith(('patch_embed', 'stages')):
            return layers - 1, layers
        if name.startswith('patch_embed'):
            return 0, layers
        _, stage, part, block, *_ = name.split('.')
        if part == 'downsample':
            return sum(self.depths[: int(stage) + 1]), layers
        return sum(self.depths[: int(stage)]) + int(block) + 1, layers


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
