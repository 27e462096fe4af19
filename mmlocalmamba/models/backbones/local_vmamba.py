"""LocalVMamba: the hierarchical backbone (paper section 4.3 and table 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from mmlocalmamba.directions import published_directions
from mmlocalmamba.registry import MODELS

from ..layers.patch import PatchEmbed, PatchMerging
from ..layers.ss2d import SS2D
from ..layers.ss2d_block import SS2DBlock
from ..layers.ssm_parameters import init_linear
from ..weights.published_names import vmamba_from_published
from .arch import resolve_arch, with_pretrained
from .hierarchical import PATCH_SIZE, HierarchicalBackbone


@MODELS.register_module()
class LocalVMamba(HierarchicalBackbone):
    """LocalVMamba, a hierarchical vision backbone of windowed selective scans.

    Args:
        arch: ``'micro'`` (for demos and tests), ``'tiny'``, ``'small'``, or a dict with ``dims`` (channels of each
            stage), ``depths`` (blocks of each stage) and ``directions`` (one list of names per block, or the path of a
            JSON file that holds them).
        in_channels: Channels of the image. Weights of RGB images are adapted to it, however they are loaded.
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
            and our own checkpoints. However weights are loaded, every tensor is accounted for. With ``warm_start=True``
            in it, weights of VMamba or of a deeper LocalVMamba are taken too: see
            :func:`mmlocalmamba.models.weights.warm_start.warm_start_tensors`.
        padding: What becomes of the zeros that a batch's images are padded with. ``'scan'``: they are scanned like any
            pixels. ``'skip'``: each image is computed without them, so that its maps depend neither on its neighbours
            in the batch nor on how far it is padded; outside the image they are 0. See docs/padding.md.
        pretrained: Checkpoint to start from, as mmseg hands it on; the same as an ``init_cfg`` that names it.

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
        padding: str = 'scan',
        pretrained: str | None = None,
    ) -> None:
        sizes = resolve_arch(arch, self.arch_zoo, ('dims', 'depths', 'directions'), 'LocalVMamba')
        super().__init__(
            sizes['dims'],
            sizes['depths'],
            sizes['directions'],
            out_indices,
            drop_path_rate,
            frozen_stages,
            with_cp,
            with_pretrained(init_cfg, pretrained),
            padding,
        )
        make_mixer = partial(
            SS2D, d_state=d_state, ssm_ratio=ssm_ratio, spatial_attn=spatial_attn, attn=attn, search=search
        )
        self.build(
            PatchEmbed(in_channels, self.dims[0], PATCH_SIZE, norm=True),
            lambda dim, directions, rate: SS2DBlock(dim, make_mixer(dim, directions), rate),
            PatchMerging,
            out_norm,
        )
        self.apply(init_linear)
        self.freeze()

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""
        return vmamba_from_published(state)
