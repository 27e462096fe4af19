"""What the plain backbones have in common: blocks over one sequence of patches, and perhaps a class token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from mmlocalmamba.ops import of_traced_size

from ..layers.patch import PatchEmbed
from ..layers.position import resize_table
from ..layers.vim_block import VimBlock
from ..layers.vim_mixer import VimMixer
from .arch import square_side
from .base import ScanBackbone, run_block

OUT_TYPES = ('mixer', 'residual', 'cls_token')


class PlainBackbone(ScanBackbone):
    """Base of LocalVim and Vim. A subclass calls :meth:`build`, and then :meth:`freeze`.

    Args:
        dim: Channels C.
        depth: Number of blocks.
        directions: Names of the directions, one list per block, or the path of a JSON file that holds them.
        img_size: Side in pixels of the square image that the position tables are made for, or its height and width.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of the image.
        out_indices: Blocks to output; negative ones count from the end.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        cls_token: Whether there is a class token.
        out_type: ``'mixer'``, ``'residual'`` or ``'cls_token'``.
        frozen_stages: -1 trains everything, 0 freezes the patch and position embeddings, i the first i blocks too.
        with_cp: Recompute activations in the backward to save memory.
        init_cfg: mmengine's.
        padding: What becomes of a batch's padding: ``'scan'`` or ``'skip'``.

    Attributes:
        grid: Side in patches of the grid that the position tables are made for.
        depth: Number of blocks that are built.

    Raises:
        ValueError: If an argument is unknown or out of range, or arguments exclude each other.
    """

    unit: ClassVar[str] = 'blocks'
    patch_embed: PatchEmbed

    def __init__(
        self,
        dim: int,
        depth: int,
        directions: str | Sequence[Sequence[str]],
        img_size: int | Sequence[int],
        patch_size: int,
        in_channels: int,
        out_indices: Sequence[int],
        drop_path_rate: float,
        cls_token: bool,
        out_type: str,
        frozen_stages: int,
        with_cp: bool,
        init_cfg: dict[str, Any] | None,
        padding: str,
    ) -> None:
        super().__init__(
            (1,) * depth, directions, out_indices, drop_path_rate, frozen_stages, with_cp, init_cfg, padding
        )
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is unknown: choose one of {OUT_TYPES}')
        if out_type == 'cls_token' and not cls_token:
            raise ValueError(
                "out_type='cls_token' needs the variant with a class token: pass middle_cls_token=True too"
            )
        img_size = square_side(img_size)
        if img_size < patch_size:
            raise ValueError(f'img_size={img_size} is smaller than one patch of patch_size={patch_size} pixels')
        self.dim, self.out_type, self.depth = dim, out_type, len(self.directions)
        self.grid = -(-img_size // patch_size)
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size, norm=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if cls_token else None
        self.cls_pos_embed = nn.Parameter(torch.zeros(1, 1, dim)) if cls_token else None

    def build(self, make_mixer: Callable[[Sequence[str]], VimMixer], out_norm: bool) -> None:
        """Build the blocks, and draw the position tables.

        Args:
            make_mixer: Makes a mixer out of the names of its directions.
            out_norm: Whether each output passes a LayerNorm of its own.
        """
        # A block drops what the block before it put out, so the first one drops nothing.
        dropped = [0.0, *self.drop_path_rates]
        self.layers = nn.ModuleList(
            VimBlock(self.dim, make_mixer(block), rate) for block, rate in zip(self.directions, dropped, strict=False)
        )
        self.out_drop_path = DropPath(dropped[len(self.layers)])
        self.add_output_norms((self.dim,) * self.depth, out_norm)
        for table in self._position_tables():
            nn.init.trunc_normal_(table, std=0.02)
        for mixer in self.mixers():
            # As in Mamba: each branch starts smaller, the more of them add up in the residual stream.
            mixer.out_proj.weight.data.div_(len(self.drop_path_rates) ** 0.5)

    def mixers(self) -> list[VimMixer]:
        """Give the mixers of all blocks."""
        return [module for module in self.modules() if isinstance(module, VimMixer)]

    @abstractmethod
    def scanned_as(self, height: int, width: int) -> tuple[int, int]:
        """Give the size of the map that the mixers scan the tokens of a map of height x width patches as."""

    @abstractmethod
    def place_of_token(self, num_patches: int) -> int:
        """Give the class token's place among the tokens of that many patches."""

    def rotary_tables(self, size: tuple[int, int]) -> tuple[Tensor, Tensor] | None:
        """Give the rotary embedding's tables for a map of that size, (h*w, C) each, if there is one."""
        return None

    def compute_maps(self, image: Tensor, indices: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of blocks, by default the chosen ones, of images (B, in_channels, H, W), all of each."""
        indices = self.out_indices if indices is None else indices
        x = self.patch_embed(of_traced_size(image))
        height, width = x.shape[1:3]
        hidden = self._embed_positions(x.flatten(1, 2), (height, width))
        tables = self.rotary_tables((height, width))
        residual = None
        outputs = []
        for i, layer in enumerate(self.layers):
            scanned = self.scanned_as(height, width)
            hidden, residual = run_block(layer, hidden, residual, *scanned, tables, with_cp=self.with_cp)
            if i in indices:
                outputs.append(self._output(i, hidden, residual, (height, width)))
        return tuple(outputs)

    def stride_of(self, index: int) -> int:
        """Tell the pixels per position of a block's output."""
        return self.patch_embed.patch_size

    def _embed_positions(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        x = x + resize_table(self.pos_embed, (self.grid, self.grid), size)
        if self.cls_token is None or self.cls_pos_embed is None:
            return x
        token = (self.cls_token + self.cls_pos_embed).expand(x.shape[0], -1, -1).to(x.dtype)
        place = self.place_of_token(x.shape[1])
        return torch.cat([x[:, :place], token, x[:, place:]], 1)

    def _output(self, index: int, hidden: Tensor, residual: Tensor, size: tuple[int, int]) -> Tensor:
        if self.out_type != 'mixer':
            # The residual is never in half precision, unlike the norm of a model that is.
            hidden = (residual + self.out_drop_path(hidden)).to(self.pos_embed.dtype)
        norm = self.output_norm(index)
        if self.cls_token is not None:
            place = self.place_of_token(size[0] * size[1])
            if self.out_type == 'cls_token':
                return norm(hidden[:, place])
            hidden = torch.cat([hidden[:, :place], hidden[:, place + 1 :]], 1)
        return norm(hidden).transpose(1, 2).unflatten(2, size).contiguous()

    def _position_tables(self) -> list[nn.Parameter]:
        """Give the position table, and the class token with its position if there is one."""
        return [table for table in (self.pos_embed, self.cls_token, self.cls_pos_embed) if table is not None]

    def frozen_parts(self) -> Iterable[nn.Module | nn.Parameter]:
        """Give the patch and position embeddings, and the first ``frozen_stages`` blocks."""
        return [*self._position_tables(), self.patch_embed, *self.layers[: self.frozen_stages]]

    def layer_of(self, name: str) -> int | None:
        """Tell the layer of a parameter: 0 for the embeddings, then one per block; None for the last."""
        if name.startswith(('patch_embed', 'pos_embed', 'cls_token', 'cls_pos_embed')):
            return 0
        return int(name.split('.')[1]) + 1 if name.startswith('layers.') else None
