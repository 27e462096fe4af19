"""Multiply-adds of the mixers, by formula.

What a mixer's operations look like from outside depends on the back end: one fused operation here, a handful of
PyTorch's there. So the operations are not looked at. A mixer is counted from its weights and from the size of the map
that it is called with, and what another counter has seen inside of it is taken back.

The symbols are those of the paper: K directions, D inner channels, N states per channel, R the rank of the step sizes,
L tokens of the map, and L_scan positions of the longest direction, which the other directions are padded to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmlocalmamba.directions import parse_direction
from mmlocalmamba.models.layers.merge import DirectionMerge, DirectionMixture
from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.models.layers.vim_mixer import VimMixer

MIXERS = (SS2D, VimMixer)


@dataclass(frozen=True)
class MixerCost:
    """Multiply-adds of one call of a mixer, or of several together.

    Attributes:
        flops: Everything that is counted.
        published_flops: The same in the convention of the published counter, which differs for LocalVim and Vim alone.
        scan_flops: The part of ``flops`` that is the scan.
    """

    flops: int = 0
    published_flops: int = 0
    scan_flops: int = 0

    def __add__(self, other: MixerCost) -> MixerCost:
        return MixerCost(
            self.flops + other.flops,
            self.published_flops + other.published_flops,
            self.scan_flops + other.scan_flops,
        )


def scan_flops(positions: int, channels: int, d_state: int, directions: int) -> int:
    """Count the scan of one image as the paper does: 9 L D N + L D per direction."""
    return directions * (9 * positions * channels * d_state + positions * channels)


def scan_length(directions: tuple[str, ...], height: int, width: int) -> int:
    """Return L_scan, the positions of the longest direction over a map of ``height`` x ``width`` tokens.

    Rows and columns visit every token once. Windows of K x K pad both sides up to multiples of K.

    Example:
        >>> scan_length(('h', 'v'), 4, 5)
        20
        >>> scan_length(('h', 'w7_flip'), 4, 8)
        98
    """
    windows = [parse_direction(name).window for name in directions]  # 1 for rows and columns
    return max((height + -height % window) * (width + -width % window) for window in windows)


def ss2d_cost(mixer: SS2D, batch: int, height: int, width: int) -> MixerCost:
    """Count the mixer of LocalVMamba and VMamba on maps of ``height`` x ``width`` tokens; both conventions agree."""
    tokens, directions = height * width, len(mixer.directions)
    scan = scan_flops(scan_length(mixer.directions, height, width), mixer.d_inner, mixer.d_state, directions)
    # All of these work on the L tokens in their own places: no padding.
    point_wise = _weights(mixer.in_proj, mixer.conv, mixer.x_proj_weight, mixer.dt_proj_weight, mixer.out_proj)
    flops = batch * (tokens * point_wise + scan + merge_flops(mixer.merge, directions, tokens, mixer.d_inner))
    return MixerCost(flops, flops, batch * scan)


def vim_mixer_cost(mixer: VimMixer, batch: int, height: int, width: int) -> MixerCost:
    """Count the mixer of LocalVim and Vim on maps of ``height`` x ``width`` tokens, a middle class token included.

    Vim's scans its sequence, class token and all, as a map of one row.

    The published counter takes the x_proj and dt_proj of all directions for those of one. It leaves the causal
    convolutions out, and counts the scan as 5 L_scan D N per direction.
    """
    middle = int(mixer.middle_token)
    tokens, directions = height * width + middle, len(mixer.directions)
    positions = scan_length(mixer.directions, height, width) + middle
    scan = scan_flops(positions, mixer.d_inner, mixer.d_state, directions)
    published_scan = directions * 5 * positions * mixer.d_inner * mixer.d_state
    # These two work on the K sequences in scan order, padding included: every direction has weights of its own.
    conv = positions * _weights(mixer.conv_weight)
    projections = positions * _weights(mixer.x_proj_weight, mixer.dt_proj_weight)
    common = tokens * _weights(mixer.in_proj, mixer.out_proj)
    common += merge_flops(mixer.merge, directions, tokens, mixer.d_inner)
    flops = common + conv + projections + scan
    published = common + projections // directions + published_scan
    return MixerCost(batch * flops, batch * published, batch * scan)


def merge_flops(merge: DirectionMerge, directions: int, tokens: int, channels: int) -> int:
    """Count the gates of K directions by SCAttn, and the weights of a supernet's mixture, for one image."""
    flops = 0
    attn = merge.attn
    if attn is not None:
        once = _weights(attn.global_reduce, attn.channel_select)
        if attn.local_reduce is None or attn.spatial_select is None:
            # The mean of the normalised tokens is a product of the tokens with their 1 / standard deviation.
            per_token = channels
        else:
            # With a spatial gate, the normalised tokens exist: their mean needs additions alone.
            per_token = _weights(attn.local_reduce, attn.spatial_select)
        flops += directions * (once + tokens * per_token)
    if isinstance(merge, DirectionMixture):
        flops += directions * tokens * channels
    return flops


def _weights(*parts: nn.Module | Tensor) -> int:
    """Add up the weights of linear layers and depth-wise convolutions: each is one multiply-add per token."""
    weights = (part if isinstance(part, Tensor) else part.get_parameter('weight') for part in parts)
    return sum(weight.numel() for weight in weights)


class MixerTally:
    """What the mixers of a model have cost so far.

    Attributes:
        cost: By formula, of all calls together.
        seen: What the other counter has counted inside of these calls, in its own unit.
        running: Whether a mixer is running now.
    """

    def __init__(self) -> None:
        self.cost = MixerCost()
        self.seen = 0
        self.running = False


@contextmanager
def counting(model: nn.Module) -> Iterator[tuple[FlopCounterMode, MixerTally]]:
    """Count a model while it runs: its mixers by formula, and everything by torch's counter.

    Args:
        model: The model. It gets hooks, which are gone afterwards.

    Yields:
        Torch's counter and the tally of the mixers; the counter's total less ``seen`` is what is outside of mixers.
    """
    tally = MixerTally()
    # A scan that no formula here knows would otherwise be free of charge, whatever the back end.
    refuse = _refuse_scan_outside(tally)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.mmlocalmamba.selective_scan: refuse})
    handles: list[Any] = []
    for module in model.modules():
        if isinstance(module, MIXERS):
            enter, leave = _hooks(counter, tally)
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        with counter:
            yield counter, tally
    finally:
        for handle in handles:
            handle.remove()


def _hooks(counter: FlopCounterMode, tally: MixerTally) -> tuple[Callable[..., None], Callable[..., None]]:
    """Make the hooks before and after one mixer's forward."""
    before: list[int] = []  # the counter's total on entry

    def enter(mixer: nn.Module, arguments: Any) -> None:
        before.append(counter.get_total_flops())
        tally.running = True

    def leave(mixer: SS2D | VimMixer, arguments: Any, keywords: Any, output: Any) -> None:
        tally.running = False
        tally.seen += counter.get_total_flops() - before.pop()
        tally.cost += _cost_of_call(mixer, inspect.signature(mixer.forward).bind(*arguments, **keywords).arguments)

    return enter, leave


def _cost_of_call(mixer: SS2D | VimMixer, call: dict[str, Any]) -> MixerCost:
    """Count one call of a mixer, given its arguments by name."""
    if isinstance(mixer, VimMixer):
        return vim_mixer_cost(mixer, call['x'].shape[0], call['height'], call['width'])
    return ss2d_cost(mixer, *call['x'].shape[:3])


def _refuse_scan_outside(tally: MixerTally) -> Callable[..., int]:
    def formula(*_: Any, **__: Any) -> int:
        if not tally.running:
            names = ' and '.join(kind.__name__ for kind in MIXERS)
            raise ValueError(
                f'a selective scan runs outside of {names}, the mixers whose FLOPs are known: add a formula for its '
                'module to mmlocalmamba/analysis/mixer_flops.py'
            )
        return 0

    return formula
