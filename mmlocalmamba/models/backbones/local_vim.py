"""LocalVim: the plain backbone (paper section 4.3 and figure 3a)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmlocalmamba.directions import published_directions
from mmlocalmamba.ops import add_rotate_rms_norm
from mmlocalmamba.registry import MODELS

from ..layers.patch import PatchEmbed
from ..layers.position import Rotary2d, resize_table
from ..layers.vim_mixer import VimMixer
from ..weights.published_names import local_vim_from_published
from .arch import resolve_arch
from .base import ScanBackbone, run_block

NORM_EPS = 1e-5
OUT_TYPES = ('mixer', 'residual', 'cls_token')
INITS = ('published', 'mamba')


class LocalVimBlock(nn.Module):
    """One Vim-style block: ``residual += hidden; hidden = Mixer(RMSNorm(residual))``.

    With RoPE, both are rotated first. A rotation is linear, so their sum is rotated in their place.

    Args:
        dim: Channels C.
        mixer: Maps tokens (B, L, C) and the size of their map to the same shape.
        drop_path: Probability of dropping ``hidden`` before it is added.
    """

    def __init__(self, dim: int, mixer: VimMixer, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=NORM_EPS)
        self.mixer = mixer
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
class LocalVim(ScanBackbone):
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
        init: Initial weights. ``'published'``: as in the published code, whose results the recipes state. Linear
            weights are drawn from a truncated normal distribution with a standard deviation of 0.02, and linear biases
            are 0. With those of the step sizes at 0, steps start at softplus(0) = 0.69. ``'mamba'``: linear layers
            start with PyTorch's defaults, and step sizes between 0.001 and 0.1, as in Mamba. Both divide the mixers'
            output projections, drawn by PyTorch's default, by the square root of the depth.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=<file or URL>)`` takes the published ImageNet files
            and our own checkpoints. However weights are loaded, position tables are resized and every tensor is
            accounted for.

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

    unit: ClassVar[str] = 'blocks'
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
        init: str = 'published',
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        sizes = resolve_arch(arch, self.arch_zoo, ('embed_dim', 'depth', 'directions'), 'LocalVim')
        dim, depth = sizes['embed_dim'], sizes['depth']
        super().__init__(
            (1,) * depth, sizes['directions'], out_indices, drop_path_rate, frozen_stages, with_cp, init_cfg
        )
        _check_choices(out_type, rope, middle_cls_token, init)
        if img_size < patch_size:
            raise ValueError(f'img_size={img_size} is smaller than one patch of patch_size={patch_size} pixels')
        self.out_type, self.depth = out_type, len(self.directions)

        self.grid = -(-img_size // patch_size)
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size, norm=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if middle_cls_token else None
        self.cls_pos_embed = nn.Parameter(torch.zeros(1, 1, dim)) if middle_cls_token else None
        self.rope = Rotary2d(dim, self.grid) if rope else None
        make_mixer = partial(
            VimMixer,
            d_state=d_state,
            ssm_ratio=ssm_ratio,
            middle_token=middle_cls_token,
            spatial_attn=spatial_attn,
            attn=attn,
            search=search,
        )
        # A block drops what the block before it put out, so the first one drops nothing.
        dropped = [0.0, *self.drop_path_rates]
        self.layers = nn.ModuleList(
            LocalVimBlock(dim, make_mixer(dim, block), rate)
            for block, rate in zip(self.directions, dropped, strict=False)
        )
        self.out_drop_path = DropPath(dropped[len(self.layers)])
        self.add_output_norms((dim,) * depth, out_norm)
        self._init_parameters(depth, init)
        self.freeze()

    def _init_parameters(self, depth: int, init: str) -> None:
        for table in self._position_tables():
            nn.init.trunc_normal_(table, std=0.02)
        mixers = [module for module in self.modules() if isinstance(module, VimMixer)]
        for mixer in mixers:
            if init == 'published':
                mixer.init_published()
            # As in Mamba: each branch starts smaller, the more of them add up in the residual stream.
            mixer.out_proj.weight.data.div_(depth**0.5)

    def _position_tables(self) -> list[nn.Parameter]:
        """Give the position table, and the class token with its position if there is one."""
        return [table for table in (self.pos_embed, self.cls_token, self.cls_pos_embed) if table is not None]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of the chosen blocks of images (B, in_channels, H, W)."""
        x = self.patch_embed(image)
        height, width = x.shape[1:3]
        hidden = self._embed_positions(x.flatten(1, 2), (height, width))
        tables = self.rope.tables((height, width)) if self.rope is not None else None
        residual = None
        outputs = []
        for i, layer in enumerate(self.layers):
            hidden, residual = run_block(layer, hidden, residual, height, width, tables, with_cp=self.with_cp)
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
        norm = self.output_norm(index)
        if self.out_type == 'cls_token':
            return norm(hidden[:, -1])
        hidden = norm(hidden[:, : size[0] * size[1]])
        return hidden.transpose(1, 2).unflatten(2, size).contiguous()

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""
        return local_vim_from_published(state)

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Give the patch and position embeddings, and the first ``frozen_stages`` blocks."""
        return [*self._position_tables(), self.patch_embed, *self.layers[: self.frozen_stages]]

    def layer_of(self, name: str) -> int | None:
        """Tell the layer of a parameter: 0 for the embeddings, then one per block; None for the last."""
        if name.startswith(('patch_embed', 'pos_embed', 'cls_token', 'cls_pos_embed')):
            return 0
        return int(name.split('.')[1]) + 1 if name.startswith('layers.') else None


def _check_choices(out_type: str, rope: bool, middle_cls_token: bool, init: str) -> None:
    if out_type not in OUT_TYPES:
        raise ValueError(f'out_type={out_type!r} is unknown: choose one of {OUT_TYPES}')
    if init not in INITS:
        raise ValueError(f'init={init!r} is unknown: choose one of {INITS}')
    if out_type == 'cls_token' and not middle_cls_token:
        raise ValueError("out_type='cls_token' needs the variant with a class token: pass middle_cls_token=True too")
    if rope and middle_cls_token:
        raise ValueError('the variant with a middle class token has no rotary embedding: pass rope=False with it')
