"""LocalVim: the plain backbone (paper section 4.3 and figure 3a)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from mmlocalmamba.directions import published_directions
from mmlocalmamba.registry import MODELS

from ..layers.position import Rotary2d
from ..layers.vim_mixer import VimMixer
from ..weights.published_names import local_vim_from_published
from .arch import resolve_arch, with_pretrained
from .plain import PlainBackbone

INITS = ('published', 'mamba')


@MODELS.register_module()
class LocalVim(PlainBackbone):
    """LocalVim, a plain vision backbone of windowed selective scans.

    Args:
        arch: ``'micro'`` (for demos and tests), ``'tiny'``, ``'small'``, or a dict with ``embed_dim``, ``depth`` and
            ``directions`` (one list of names per block, or the path of a JSON file that holds them). The published
            small model may have been trained without searched directions: ``'small_without_search'`` and
            ``'tiny_without_search'`` have h, w2 and their flips everywhere.
        img_size: Side in pixels of the square image that the position tables are made for. Any other size works too:
            tables are resized bicubically.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image. Weights of RGB images are adapted to it, however they are loaded.
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
        padding: What becomes of the zeros that a batch's images are padded with. ``'scan'``: they are scanned like any
            pixels. ``'skip'``: each image is computed without them, so that its maps depend neither on its neighbours
            in the batch nor on how far it is padded; outside the image they are 0. See docs/padding.md.
        pretrained: Checkpoint to start from, as mmseg hands it on; the same as an ``init_cfg`` that names it.

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
        img_size: int | Sequence[int] = 224,
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
        padding: str = 'scan',
        pretrained: str | None = None,
    ) -> None:
        sizes = resolve_arch(arch, self.arch_zoo, ('embed_dim', 'depth', 'directions'), 'LocalVim')
        _check_choices(rope, middle_cls_token, init)
        dim, depth = sizes['embed_dim'], sizes['depth']
        super().__init__(
            dim,
            depth,
            sizes['directions'],
            img_size,
            patch_size,
            in_channels,
            out_indices,
            drop_path_rate,
            middle_cls_token,
            out_type,
            frozen_stages,
            with_cp,
            with_pretrained(init_cfg, pretrained),
            padding,
        )
        self.rope = Rotary2d(dim, self.grid) if rope else None
        make_mixer = partial(
            VimMixer,
            dim,
            d_state=d_state,
            ssm_ratio=ssm_ratio,
            middle_token=middle_cls_token,
            spatial_attn=spatial_attn,
            attn=attn,
            search=search,
        )
        self.build(make_mixer, out_norm)
        if init == 'published':
            for mixer in self.mixers():
                mixer.init_published()
        self.freeze()

    def scanned_as(self, height: int, width: int) -> tuple[int, int]:
        """Give the map's own size."""
        return height, width

    def rotary_tables(self, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        """Give the rotary embedding's tables for a map of that size, (h*w, C) each, if there is one."""
        return self.rope.tables(size) if self.rope is not None else None

    def place_of_token(self, num_patches: int) -> int:
        """Give the place behind all patches: the scan's order takes the token to the middle of every sequence."""
        return num_patches

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""
        return local_vim_from_published(state)


def _check_choices(rope: bool, middle_cls_token: bool, init: str) -> None:
    if init not in INITS:
        raise ValueError(f'init={init!r} is unknown: choose one of {INITS}')
    if rope and middle_cls_token:
        raise ValueError('the variant with a middle class token has no rotary embedding: pass rope=False with it')
