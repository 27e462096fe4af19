"""LocalVim: the plain backbone (paper section 4.3 and figure 3a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.model import BaseModule
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmlocalmamba.directions import published_directions
from mmlocalmamba.ops import add_rotate_rms_norm
from mmlocalmamba.registry import MODELS

from ..layers.patch import PatchEmbed
from ..layers.position import Rotary2d, resize_table
from ..layers.vim_mixer import VimMixer
from ..weights.loading import init_backbone, refuse_misfit
from ..weights.published_names import local_vim_from_published
from .arch import check_range, drop_path_rates, resolve_arch, resolve_directions, resolve_out_indices

NORM_EPS = 1e-5
OUT_TYPES = ('mixer', 'residual', 'cls_token')


class LocalVimBlock(nn.Module):
    """One Vim-style block: ``residual += hidden; hidden = Mixer(RMSNorm(residual))``.

    With RoPE, both are rotated first. A rotation is linear, so their sum is rotated in their place.

    Args:
        dim: Channels C.
        directions: Names of the scan directions.
        drop_path: Probability of dropping ``hidden`` before it is added.
        **mixer: Arguments of :class:`~mmlocalmamba.models.layers.vim_mixer.VimMixer`, which refuses unknown ones.
    """

    def __init__(self, dim: int, directions: Sequence[str], drop_path: float, **mixer: Any) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mixer = VimMixer(dim, directions, **mixer)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        height: int,
        width: int,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map hidden and residual, (B, L, C) each, to their next values; the residual is float32 (or float64).

        Args:
            hidden: The last mixer's output.
            residual: The residual stream; None in the first block.
            height: Rows of the map.
            width: Columns of the map.
            rotary: Tables of the rotary embedding, if there is one.
        """
        if residual is not None and self.drop_path.training:
            hidden = self.drop_path(hidden.to(torch.promote_types(hidden.dtype, torch.float32)))
        normed, residual = add_rotate_rms_norm(hidden, residual, self.norm.weight, NORM_EPS, rotary)
        return self.mixer(normed, height, width), residual


@MODELS.register_module()
class LocalVim(BaseModule):
    """LocalVim, a plain vision backbone of windowed selective scans.

    Args:
        arch: ``'micro'`` (for demos and tests), ``'tiny'``, ``'small'``, or a dict with ``embed_dim``, ``depth`` and
            ``directions`` (one list of names per block, or the path of a JSON file that holds them). The published
            small model may have been trained without searched directions: ``'small_without_search'`` and
            ``'tiny_without_search'`` have h, w2 and their flips everywhere.
        img_size: Side in pixels of the square image that the position tables are made for. Any other size works too:
            tables are resized bicubically.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        out_indices: Blocks to output; all at stride ``patch_size``. Negative ones count from the end. Blocks after
            the last one are not built.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        d_state: States N per channel.
        ssm_ratio: Ratio of the mixers' inner width to the channels.
        rope: Whether to rotate hidden states and residual by their position before each block.
        middle_cls_token: Build the variant with a class token in the middle of every scan. It has no RoPE.
        out_type: ``'mixer'``: what the chosen blocks' mixers put out, as in the published detectors; ``'residual'``:
            the residual stream after the chosen blocks; ``'cls_token'``: its class token, (B, embed_dim).
        spatial_attn: Whether SCAttn has the paper's spatial gate, which the published weights lack.
        attn: Whether to have SCAttn (False: ablation of paper table 5).
        search: Build the supernet of the direction search (paper 4.2): every block mixes its directions by learned
            probabilities. Give all candidates as each block's directions.
        out_norm: Whether each output passes a LayerNorm of its own, at first the identity transform of it.
        frozen_stages: -1 trains everything, 0 freezes the patch and position embeddings, i the first i blocks too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=<file or URL>)`` takes the published ImageNet files
            and our own checkpoints, resizes their position tables, and accounts for every key.

    Returns:
        ``forward(image)`` gives a tuple of maps, (B, embed_dim, ceil(H / patch_size), ceil(W / patch_size)) each.

    Raises:
        ValueError: If an argument is unknown or out of range, or arguments exclude each other.

    Example:
        >>> import torch
        >>> maps = LocalVim(arch='micro', img_size=64, out_indices=(1, 3))(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 64, 4, 6), (1, 64, 4, 6)]
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        'micro': dict(
            embed_dim=64,
            depth=4,
            directions=(
                ('h', 'v_flip', 'w7', 'w7_flip'),
                ('h_flip', 'v', 'w2', 'w2_flip'),
                ('h', 'h_flip', 'v', 'v_flip'),
                ('h', 'v', 'w2_flip', 'w7'),
            ),
        ),
        'tiny': dict(embed_dim=192, depth=20, directions=published_directions('local_vim')),
        'small': dict(embed_dim=384, depth=20, directions=published_directions('local_vim')),
        'tiny_without_search': dict(
            embed_dim=192, depth=20, directions=published_directions('local_vim_without_search')
        ),
        'small_without_search': dict(
            embed_dim=384, depth=20, directions=published_directions('local_vim_without_search')
        ),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        img_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] = (4, 9, 14, 19),
        drop_path_rate: float = 0.0,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        rope: bool = True,
        middle_cls_token: bool = False,
        out_type: str = 'mixer',
        spatial_attn: bool = False,
        attn: bool = True,
        search: bool = False,
        out_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        sizes = resolve_arch(arch, self.arch_zoo, ('embed_dim', 'depth', 'directions'), 'LocalVim')
        dim, depth = sizes['embed_dim'], sizes['depth']
        self.out_indices = resolve_out_indices(out_indices, depth, 'blocks')
        check_range('drop_path_rate', drop_path_rate, 0, 1)
        check_range('frozen_stages', frozen_stages, -1, depth)
        _check_outputs(out_type, rope, middle_cls_token)
        if img_size < patch_size:
            raise ValueError(f'img_size={img_size} is smaller than one patch of patch_size={patch_size} pixels')
        directions = resolve_directions(sizes['directions'], depth)
        self.depth = max(self.out_indices) + 1
        self.directions = directions[: self.depth]
        self.out_type, self.frozen_stages, self.with_cp = out_type, frozen_stages, with_cp

        self.grid = -(-img_size // patch_size)
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size, norm=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if middle_cls_token else None
        self.cls_pos_embed = nn.Parameter(torch.zeros(1, 1, dim)) if middle_cls_token else None
        self.rope = Rotary2d(dim, self.grid) if rope else None
        mixer = dict(
            d_state=d_state,
            ssm_ratio=ssm_ratio,
            middle_token=middle_cls_token,
            spatial_attn=spatial_attn,
            attn=attn,
            search=search,
        )
        # The first entry is of no use: the first block has nothing to drop. The last rate is the last output's.
        rates = drop_path_rates(drop_path_rate, depth)
        self.layers = nn.ModuleList(
            LocalVimBlock(dim, directions[i], rates[max(i - 1, 0)], **mixer) for i in range(self.depth)
        )
        self.out_drop_path = DropPath(rates[self.depth - 1])
        for i in self.out_indices:
            self.add_module(f'norm{i}', nn.LayerNorm(dim) if out_norm else nn.Identity())
        self._init_parameters(depth)
        self._freeze_stages()

    def _init_parameters(self, depth: int) -> None:
        tables = [self.pos_embed, self.cls_token, self.cls_pos_embed]
        for table in tables:
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)
        for name, parameter in self.layers.named_parameters():
            # As in Mamba: each branch starts smaller, the more of them add up in the residual stream.
            if name.endswith('.mixer.out_proj.weight'):
                parameter.data.div_(depth**0.5)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the chosen blocks of images (B, in_channels, H, W)."""
        x = self.patch_embed(image)
        height, width = x.shape[1:3]
        hidden = self._embed_positions(x.flatten(1, 2), (height, width))
        tables = self.rope.tables((height, width)) if self.rope is not None else None
        residual: Tensor | None = None
        outputs = []
        for i, layer in enumerate(self.layers):
            if self.with_cp and self.training and torch.is_grad_enabled():
                hidden, residual = checkpoint(layer, hidden, residual, height, width, tables, use_reentrant=False)
            else:
                hidden, residual = layer(hidden, residual, height, width, tables)
            if i in self.out_indices:
                outputs.append(self._output(i, hidden, residual, (height, width)))
        return tuple(outputs)

    def _embed_positions(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + resize_table(self.pos_embed, (self.grid, self.grid), size)
        if self.cls_token is None or self.cls_pos_embed is None:
            return x
        token = (self.cls_token + self.cls_pos_embed).expand(len(x), -1, -1)
        return torch.cat([x, token.to(x.dtype)], 1)

    def _output(self, index: int, hidden: Tensor, residual: Tensor, size: tuple[int, int]) -> Tensor:
        if self.out_type != 'mixer':
            hidden = residual + self.out_drop_path(hidden)
        norm = getattr(self, f'norm{index}')
        if self.out_type == 'cls_token':
            return norm(hidden[:, -1])
        hidden = norm(hidden[:, : size[0] * size[1]])
        return hidden.transpose(1, 2).unflatten(2, size).contiguous()

    def init_weights(self) -> None:
        """Load the checkpoint that ``init_cfg`` names, if any; otherwise keep the weights of construction."""
        init_backbone(self, super().init_weights)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        refuse_misfit(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; see :mod:`~mmlocalmamba.models.weights`."""
        return local_vim_from_published(state)

    def train(self, mode: bool = True) -> LocalVim:
        """Set the training mode; frozen blocks stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        for table in (self.pos_embed, self.cls_token, self.cls_pos_embed):
            if table is not None:
                table.requires_grad_(False)
        for module in [self.patch_embed, *self.layers[: self.frozen_stages]]:
            module.eval()
            module.requires_grad_(False)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell the layer of a parameter, for layer-wise learning rate decay.

        Args:
            param_name: Name of the parameter in the whole model.
            prefix: Name of this backbone in it, such as ``'backbone.'``.

        Returns:
            ``(layer, layers)``: 0 for the embeddings, then one per block, and ``layers - 1`` for everything else.
        """
        layers = self.depth + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return layers - 1, layers
        if name.startswith(('patch_embed', 'pos_embed', 'cls_token', 'cls_pos_embed')):
            return 0, layers
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1, layers
        return layers - 1, layers


def _check_outputs(out_type: str, rope: bool, middle_cls_token: bool) -> None:
    if out_type not in OUT_TYPES:
        raise ValueError(f'out_type={out_type!r} is unknown: choose one of {OUT_TYPES}')
    if out_type == 'cls_token' and not middle_cls_token:
        raise ValueError("out_type='cls_token' needs the variant with a class token: pass middle_cls_token=True too")
    if rope and middle_cls_token:
        raise ValueError('the variant with a middle class token has no rotary embedding: pass rope=False with it')
