"""Vim: the plain backbone that LocalVim comes from (Zhu et al., Vision Mamba, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from timm.layers import lecun_normal_
from torch import Tensor, nn

from mmlocalmamba.registry import MODELS

from ..layers.bidirectional_mixer import DIRECTIONS, BidirectionalMixer
from ..weights.published_names import vim_from_published
from .arch import resolve_arch, with_pretrained
from .plain import PlainBackbone


@MODELS.register_module()
class Vim(PlainBackbone):
    """Vim, a plain vision backbone that scans the sequence of patches forwards and backwards.

    A class token stands in the middle of the sequence. Both directions have weights of their own; their outputs are
    averaged. The residual stream is float32, the norms are RMSNorm.

    Args:
        arch: ``'micro'`` (for demos and tests), ``'tiny'``, ``'small'``, ``'base'``, or a dict with ``embed_dim`` and
            ``depth``.
        img_size: Side in pixels of the square image that the position table is made for. Any other size works too: the
            table is resized bicubically.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image. Weights of RGB images are adapted to it, however they are loaded.
        out_indices: Blocks to output; all at stride ``patch_size``. Negative ones count from the end. Blocks after the
            last one are not built.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        d_state: States N per channel.
        ssm_ratio: Ratio of the mixers' inner width to the channels.
        out_type: ``'mixer'``: what the chosen blocks' mixers put out; ``'residual'``: the residual stream after the
            chosen blocks; ``'cls_token'``: its class token, (B, embed_dim), as for classification.
        out_norm: Whether each output passes a LayerNorm of its own, at first the identity transform of it.
        frozen_stages: -1 trains everything, 0 freezes the patch and position embeddings, i the first i blocks too.
        with_cp: Recompute activations in the backward to save memory.
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
        ValueError: If an argument is unknown or out of range.

    Example:
        >>> import torch
        >>> maps = Vim(arch='micro', img_size=64, out_indices=(1, 3))(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 64, 4, 6), (1, 64, 4, 6)]
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        'micro': dict(embed_dim=64, depth=4),
        'tiny': dict(embed_dim=192, depth=24),
        'small': dict(embed_dim=384, depth=24),
        'base': dict(embed_dim=768, depth=24),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: Sequence[int] = (5, 11, 17, 23),
        drop_path_rate: float = 0.0,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        out_type: str = 'mixer',
        out_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
        padding: str = 'scan',
        pretrained: str | None = None,
    ) -> None:
        sizes = resolve_arch(arch, self.arch_zoo, ('embed_dim', 'depth'), 'Vim')
        dim, depth = sizes['embed_dim'], sizes['depth']
        super().__init__(
            dim,
            depth,
            (DIRECTIONS,) * depth,
            img_size,
            patch_size,
            in_channels,
            out_indices,
            drop_path_rate,
            True,
            out_type,
            frozen_stages,
            with_cp,
            with_pretrained(init_cfg, pretrained),
            padding,
        )
        self.build(lambda _: BidirectionalMixer(dim, d_state, ssm_ratio), out_norm)
        self._init_as_published()
        self.freeze()

    def _init_as_published(self) -> None:
        """Set what the published code starts otherwise than Mamba: the patch embedding, and the second direction."""
        lecun_normal_(self.patch_embed.proj.weight)
        if self.patch_embed.proj.bias is not None:
            nn.init.zeros_(self.patch_embed.proj.bias)
        for mixer in self.mixers():
            # Only the first direction's step sizes are kept from its zeroing of all linear biases.
            nn.init.zeros_(mixer.dt_proj_bias.data[1])

    def scanned_as(self, height: int, width: int) -> tuple[int, int]:
        """Give one row of all patches and the class token."""
        return 1, height * width + 1

    def place_of_token(self, num_patches: int) -> int:
        """Give the middle of the sequence."""
        return num_patches // 2

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""
        return vim_from_published(state)
