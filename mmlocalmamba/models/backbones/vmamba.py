"""VMamba: the hierarchical backbone that LocalVMamba comes from (Liu et al., VMamba, 2024), in both generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from mmlocalmamba.directions import CROSS_SCAN
from mmlocalmamba.registry import MODELS

from ..layers.overlapping_patch import ConvDownsample, ConvStem
from ..layers.patch import PatchEmbed, PatchMerging
from ..layers.ss2d import SS2D
from ..layers.ss2d_block import SS2DBlock
from ..layers.ssm_parameters import init_linear
from ..weights.published_names import vmamba_from_published
from .arch import resolve_arch, with_pretrained
from .hierarchical import PATCH_SIZE, HierarchicalBackbone


class Kind(NamedTuple):
    """What a generation of VMamba is built of.

    Attributes:
        gate: Whether the mixers have a gating branch, and their convolutions a bias.
        d_state: States per channel.
        mlp_ratio: Hidden width of the blocks' MLP over their channels; 0 for none.
        patch_embed: Makes the patch embedding out of the image's channels and the first stage's.
        downsample: Makes what lies between two stages out of the channels of both.
    """

    gate: bool
    d_state: int
    mlp_ratio: float
    patch_embed: Callable[[int, int], PatchEmbed | ConvStem]
    downsample: Callable[[int, int], nn.Module]


KINDS: dict[str, Kind] = {
    'vanilla': Kind(True, 16, 0.0, partial(PatchEmbed, patch_size=PATCH_SIZE, norm=True), PatchMerging),
    'v2': Kind(False, 1, 4.0, ConvStem, ConvDownsample),
}


def _sizes(dim: int, depth: int, kind: str, ssm_ratio: float) -> dict[str, Any]:
    """Give a published architecture by the channels of its first stage and the depth of its third."""
    return dict(dims=tuple(dim * 2**i for i in range(4)), depths=(2, 2, depth, 2), kind=kind, ssm_ratio=ssm_ratio)


@MODELS.register_module()
class VMamba(HierarchicalBackbone):
    """VMamba, a hierarchical vision backbone of selective scans by rows and columns.

    The vanilla kind is what the LocalMamba paper compares with: LocalVMamba without windows and without SCAttn. The
    second version has one state per channel and no gate, an MLP in every block, and overlapping convolutions as patch
    embedding and between the stages. Both take other directions, SCAttn and the direction search.

    Args:
        arch: Vanilla: ``'tiny'``, ``'small'`` or ``'base'``. Second version, named by its ``ssm_ratio`` and the depth
            of its third stage: ``'tiny_s1l8'``, ``'small_s2l15'``, ``'base_s2l15'``, ``'tiny_s2l5'``,
            ``'small_s1l20'`` or ``'base_s1l20'``. For demos and tests: ``'micro'`` and ``'micro_s1l2'``. Or a dict
            with ``dims`` (channels of each stage), ``depths`` (blocks of each stage), ``kind`` (``'vanilla'`` or
            ``'v2'``), ``ssm_ratio`` (ratio of the mixers' inner width to the channels) and perhaps ``directions``.
        directions: Names of each block's directions, one list per block, or the path of a JSON file that holds them.
            Default: those of ``arch``, else h, v, h_flip and v_flip in every block.
        in_channels: Channels of the image. Weights of RGB images are adapted to it, however they are loaded.
        out_indices: Stages to output, of 0 to 3 at strides 4, 8, 16 and 32. Stages after the last one are not built.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        d_state: States N per channel. Default: 16 (vanilla) or 1 (v2).
        spatial_attn: Whether SCAttn has the LocalMamba paper's spatial gate.
        attn: Whether to have SCAttn, which VMamba lacks.
        search: Build the supernet of the direction search: every block mixes its directions by learned probabilities.
            Give all candidates as each block's directions.
        out_norm: Whether each output passes a LayerNorm of its own, at first the identity transform of it.
        frozen_stages: -1 trains everything, 0 freezes the patch embedding, i freezes the first i stages too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's. ``dict(type='Pretrained', checkpoint=<file or URL>)`` takes the published ImageNet files
            and our own checkpoints. However weights are loaded, every tensor is accounted for. With ``warm_start=True``
            in it, weights of other directions, without SCAttn or of a deeper model are taken too: see
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
        >>> maps = VMamba(arch='micro_s1l2')(torch.zeros(1, 3, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 128, 4, 6), (1, 256, 2, 3)]
    """

    arch_zoo: ClassVar[dict[str, dict[str, Any]]] = {
        'micro': dict(dims=(32, 64, 128, 256), depths=(1, 1, 2, 1), kind='vanilla', ssm_ratio=2.0),
        'tiny': _sizes(96, 9, 'vanilla', 2.0),
        'small': _sizes(96, 27, 'vanilla', 2.0),
        'base': _sizes(128, 27, 'vanilla', 2.0),
        'micro_s1l2': dict(dims=(32, 64, 128, 256), depths=(1, 1, 2, 1), kind='v2', ssm_ratio=1.0),
        'tiny_s1l8': _sizes(96, 8, 'v2', 1.0),
        'small_s1l20': _sizes(96, 20, 'v2', 1.0),
        'base_s1l20': _sizes(128, 20, 'v2', 1.0),
        'tiny_s2l5': _sizes(96, 5, 'v2', 2.0),
        'small_s2l15': _sizes(96, 15, 'v2', 2.0),
        'base_s2l15': _sizes(128, 15, 'v2', 2.0),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        directions: str | Sequence[Sequence[str]] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        d_state: int | None = None,
        spatial_attn: bool = False,
        attn: bool = False,
        search: bool = False,
        out_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | None = None,
        padding: str = 'scan',
        pretrained: str | None = None,
    ) -> None:
        sizes = resolve_arch(arch, self.arch_zoo, ('dims', 'depths', 'kind', 'ssm_ratio'), 'VMamba', ('directions',))
        if sizes['kind'] not in KINDS:
            raise ValueError(f'kind={sizes["kind"]!r} is unknown: choose one of {sorted(KINDS)}')
        if directions is not None and 'directions' in sizes:
            raise ValueError('directions= and the directions in arch exclude each other: give one of them')
        kind = KINDS[sizes['kind']]
        everywhere = (CROSS_SCAN,) * sum(sizes['depths'])
        super().__init__(
            sizes['dims'],
            sizes['depths'],
            sizes.get('directions', everywhere) if directions is None else directions,
            out_indices,
            drop_path_rate,
            frozen_stages,
            with_cp,
            with_pretrained(init_cfg, pretrained),
            padding,
        )
        make_mixer = partial(
            SS2D,
            d_state=kind.d_state if d_state is None else d_state,
            ssm_ratio=sizes['ssm_ratio'],
            spatial_attn=spatial_attn,
            attn=attn,
            search=search,
            gate=kind.gate,
            conv_bias=kind.gate,
        )
        self.build(
            kind.patch_embed(in_channels, self.dims[0]),
            lambda dim, block, rate: SS2DBlock(dim, make_mixer(dim, block), rate, kind.mlp_ratio),
            kind.downsample,
            out_norm,
        )
        self.apply(init_linear)
        self.freeze()

    @staticmethod
    def convert_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the published implementation's tensors to this class's; its classifier's come out as ``head.*``."""
        return vmamba_from_published(state)
