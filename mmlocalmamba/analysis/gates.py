"""What SCAttn's channel gates are for given images: how much of each channel a block keeps of each direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.models.layers.merge import DirectionMerge, Draw
from mmlocalmamba.models.layers.mixer import ScanMixer
from mmlocalmamba.models.layers.sc_attn import SCAttn
from mmlocalmamba.ops.channel_gate import channel_gate


@dataclass
class GateRecord:
    """The gates of one mixer, as far as its model has run.

    Attributes:
        directions: Names of the mixer's K directions.
        batches: The gates of each forward pass, (B, K, D) each: see :attr:`gates`.
    """

    directions: tuple[str, ...]
    batches: list[Tensor] = field(default_factory=list)

    @property
    def gates(self) -> Tensor:
        """The gates of all images, (B, K, D), from 0 to 1; NaN for branches that a supernet did not draw.

        Raises:
            ValueError: If the model has not run.
        """
        if not self.batches:
            raise ValueError('no gates were recorded: run the model inside "with record_gates(model) as records:"')
        return torch.cat(self.batches)


@contextmanager
def record_gates(model: nn.Module) -> Iterator[Mapping[str, GateRecord]]:
    """Record the channel gates of SCAttn in every mixer of a model, while it runs inside the ``with`` block.

    The fused merge never calls SCAttn, so that a forward hook on it does not fire. This looks at what each merge is
    given and computes the gates from it once more, by the same formula. The model's outputs do not change, and the
    gates carry no gradient. What activation checkpointing (``with_cp=True``) runs again in the backward is recorded
    again: record without gradients there.

    Args:
        model: A backbone, or a detector, segmenter or classifier that holds one.

    Yields:
        A record per mixer, by the name of the mixer in the model, in the order of the blocks.

    Raises:
        ValueError: If no mixer of the model has an SCAttn.

    Example:
        >>> import torch
        >>> from mmlocalmamba.models import LocalVMamba
        >>> backbone = LocalVMamba(arch='micro').eval()
        >>> with record_gates(backbone) as records, torch.no_grad():
        ...     maps = backbone(torch.zeros(2, 3, 64, 64))
        >>> first = records['stages.0.blocks.0.mixer']
        >>> first.directions, tuple(first.gates.shape)
        (('h', 'h_flip', 'w7', 'w7_flip'), (2, 4, 64))
    """
    mixers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ScanMixer) and module.merge.attn is not None
    }
    if not mixers:
        raise ValueError(
            f'this {type(model).__name__} has no SCAttn: gates are those of LocalVMamba and LocalVim built with '
            'attn=True; VMamba and Vim have none'
        )
    records = {name: GateRecord(mixer.directions) for name, mixer in mixers.items()}
    handles = [
        mixer.merge.register_forward_pre_hook(partial(_record, records[name]), with_kwargs=True)
        for name, mixer in mixers.items()
    ]
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _record(record: GateRecord, merge: DirectionMerge, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Compute and keep the gates of what a merge is about to be called with."""
    record.batches.append(_gates(merge, len(record.directions), *args, **kwargs))


@torch.no_grad()
def _gates(
    merge: DirectionMerge,
    num_directions: int,
    y: Tensor,
    z: Tensor | None,
    norm: nn.LayerNorm | None = None,
    draw: Draw | None = None,
) -> Tensor:
    """Compute the gates (B, K, D) of scans y (B, k, L, D); the other arguments are those of the merge."""
    attn = merge.attn
    if not isinstance(attn, SCAttn):
        raise TypeError(f'want a merge with SCAttn, got one with {attn!r}')
    if z is not None and norm is None:  # LocalVim's order: SiLU(z) comes before SCAttn
        y = y * F.silu(z.to(y.dtype)).unsqueeze(1)
    gates = channel_gate(y, attn.channel_gate()).squeeze(-2)
    if draw is None:
        return gates
    everything = gates.new_full((len(gates), num_directions, gates.shape[-1]), torch.nan)
    everything[:, draw.branches] = gates
    return everything
