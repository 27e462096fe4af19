"""Random valid calls of every operation, and what they should give: the naive function in double precision."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmlocalmamba.ops import (
    ChannelGate,
    OutputNorm,
    ScanInputs,
    add_rotate_rms_norm,
    depthwise_conv2d_silu,
    gate_and_merge,
    local_causal_conv1d,
    local_selective_scan,
    merge_and_normalise,
)
from mmlocalmamba.ops.add_norm import add_rotate_rms_norm_naive
from mmlocalmamba.ops.backends.reference import selective_scan_naive
from mmlocalmamba.ops.causal_conv import causal_conv1d_naive
from mmlocalmamba.ops.depthwise_conv import depthwise_conv2d_silu_naive
from mmlocalmamba.ops.gate_and_merge import gate_and_merge_naive
from mmlocalmamba.ops.merge_and_normalise import merge_and_normalise_naive
from mmlocalmamba.ops.selective_scan import multiply_out

Arguments = dict[str, Any]

DTYPES = (torch.float32, torch.float32, torch.bfloat16, torch.float16, torch.float64)
TOLERANCES = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""Largest difference from double precision, relative to the largest number of the tensor (1 if that is smaller)."""

SIZES = (1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 18, 20, 33)
GATE = ChannelGate._fields[:-1]


@dataclass
class Call:
    """A call of an operation.

    Attributes:
        operation: Its name in ``torch.ops.mmlocalmamba``.
        arguments: What it is called with, by the names in its schema.
        dtype: That of its tokens.
    """

    operation: str
    arguments: Arguments
    dtype: torch.dtype

    def results(self, function: Callable[[Arguments], Any]) -> list[Tensor]:
        """Call a function with the arguments, and list its results."""
        results = function(self.arguments)
        return list(results) if isinstance(results, tuple) else [results]

    @property
    def leaves(self) -> dict[str, Tensor]:
        """The arguments that have a gradient."""
        fixed = ('order', 'cos', 'sin')
        return {k: x for k, x in self.arguments.items() if isinstance(x, Tensor) and k not in fixed}


@dataclass(frozen=True)
class Operation:
    """How to draw and to make calls of an operation.

    Attributes:
        draw: Draws the arguments of a valid call.
        public: Calls the public function.
        naive: Calls the naive function, which autograd differentiates.
        outputs: Names of what the registered operation gives.
        results: How many of them the others give.
    """

    draw: Callable[[Draw], Arguments]
    public: Callable[[Arguments], Any]
    naive: Callable[[Arguments], Any]
    outputs: tuple[str, ...]
    results: int = 1


@dataclass
class Draw:
    """A source of random sizes and tensors.

    Attributes:
        seed: What everything is drawn from.
    """

    seed: int
    random: random.Random = field(init=False)
    dtype: torch.dtype = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        torch.manual_seed(self.seed)
        self.dtype = self.random.choice(DTYPES)

    @property
    def full(self) -> torch.dtype:
        """The compute dtype of the tokens."""
        return torch.promote_types(self.dtype, torch.float32)

    def size(self, most: int = 40) -> int:
        """Draw a size of 1 or more; now and then 0."""
        size = self.random.choice(SIZES)
        return 0 if self.random.random() < 0.01 else min(size, most)

    def tensor(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Draw normal numbers, in memory of any layout."""
        layout = self.random.random()
        dtype = dtype or self.dtype
        if layout < 0.6 or not shape:
            return torch.randn(shape).to(dtype)
        if layout < 0.7:  # a part of a larger tensor
            return torch.randn(*shape[:-1], shape[-1] + 3).to(dtype)[..., 2:-1]
        if layout < 0.8:  # features outermost
            return torch.randn(shape[-1], *shape[:-1]).to(dtype).movedim(0, -1)
        if layout < 0.9:  # every second row
            return torch.randn(2 * shape[0], *shape[1:]).to(dtype)[::2]
        repeated = self.random.randrange(len(shape))
        return torch.randn(*shape[:repeated], 1, *shape[repeated + 1 :]).to(dtype).expand(shape)

    def parameter(self, *shape: int) -> Tensor:
        """Draw a parameter, mostly in the compute dtype."""
        dtype = self.full if self.random.random() < 0.7 else self.random.choice(DTYPES)
        return self.tensor(*shape, dtype=dtype)

    def order(self, directions: int, length: int, tokens: int, repeats: bool = False) -> Tensor:
        """Draw an order of each direction: some tokens or all, and padding."""
        order = torch.full((directions, length), -1, dtype=torch.int32)
        for row in order:
            visited = min(length, tokens) if self.random.random() < 0.7 else self.random.randint(0, min(length, tokens))
            places = torch.randperm(length)[:visited]
            chosen = torch.randint(max(tokens, 1), (visited,)) if repeats else torch.randperm(tokens)[:visited]
            row[places] = chosen.int()
        return order


def draw_call(name: str, seed: int) -> Call:
    """Draw a valid call of an operation."""
    draw = Draw(seed)
    return Call(name, OPERATIONS[name].draw(draw), draw.dtype)


def _draw_scan(draw: Draw) -> Arguments:
    batch, directions, tokens = draw.size(3), draw.size(4), draw.size(20)
    channels, states = draw.size(), draw.size(17)
    length = tokens + draw.random.choice((0, 0, 0, 1, 3))
    spatial, low_rank = draw.random.random() < 0.6, draw.random.random() < 0.5
    rows, rank = (tokens if spatial else length), max(draw.size(9), 1) if low_rank else channels
    log = draw.random.random() < 0.5
    rates = torch.randn(directions, channels, states)
    return dict(
        u=draw.tensor(batch, rows, channels) if spatial else draw.tensor(batch, rows, directions, channels),
        dt=draw.tensor(batch, rows, directions, rank),
        A=(rates if log else -rates.exp()).to(draw.full),
        B=draw.tensor(batch, rows, directions, states),
        C=draw.tensor(batch, rows, directions, states),
        D=draw.tensor(directions, channels, dtype=draw.full),
        dt_bias=draw.tensor(directions, channels, dtype=draw.full),
        order=draw.order(directions, length, tokens),
        num_tokens=tokens,
        dt_weight=draw.parameter(directions, channels, rank) * rank**-0.5 if low_rank else None,
        log_A=log,
        keep_states=True,
        backend='cpu',
    )


def _draw_causal_conv(draw: Draw) -> Arguments:
    batch, directions, tokens, channels = draw.size(3), draw.size(4), draw.size(20), draw.size()
    length, width = tokens + draw.random.choice((0, 0, 1, 3)), max(draw.size(6), 1)
    weight = draw.parameter(directions, channels, width)
    return dict(
        x=draw.tensor(batch, tokens, channels),
        weight=weight,
        bias=draw.tensor(directions, channels, dtype=weight.dtype),
        order=draw.order(directions, length, tokens, repeats=draw.random.random() < 0.1),
    )


def _draw_depthwise_conv(draw: Draw) -> Arguments:
    channels = draw.size()
    weight = draw.parameter(channels, 1, 3, 3)
    return dict(
        x=draw.tensor(draw.size(3), draw.size(9), draw.size(9), channels),
        weight=weight,
        bias=draw.tensor(channels, dtype=weight.dtype),
    )


def _draw_add_norm(draw: Draw) -> Arguments:
    batch, length, channels = draw.size(3), draw.size(20), 2 * draw.size(20)
    weight = draw.parameter(channels)
    turned = draw.random.random() < 0.5
    table = draw.full if draw.random.random() < 0.8 else torch.float32
    return dict(
        hidden=draw.tensor(batch, length, channels),
        before=draw.tensor(batch, length, channels, dtype=draw.full) if draw.random.random() < 0.7 else None,
        weight=weight,
        eps=1e-5,
        cos=draw.tensor(length, channels, dtype=table) if turned else None,
        sin=draw.tensor(length, channels, dtype=table) if turned else None,
    )


def _draw_merge(draw: Draw) -> Arguments:
    batch, directions, tokens = draw.size(3), max(draw.size(4), 1), draw.size(20)
    channels, hidden = max(draw.size(), 4), max(draw.size(9), 1)
    shapes = [(channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    return dict(
        y=draw.tensor(batch, directions, tokens, channels),
        z=draw.tensor(batch, tokens, channels, dtype=draw.dtype if draw.random.random() < 0.8 else draw.full),
        **{name: draw.parameter(*shape) for name, shape in zip(GATE, shapes, strict=True)},
        eps=0.1,
    )


def _draw_merge_and_normalise(draw: Draw) -> Arguments:
    arguments = _draw_merge(draw)
    channels = arguments['y'].shape[-1]
    norm = dict(out_norm_weight=draw.parameter(channels), out_norm_bias=draw.parameter(channels), out_eps=0.1)
    return arguments | norm


def _scan_inputs(arguments: Mapping[str, Any]) -> ScanInputs:
    return ScanInputs(**{name: arguments[name] for name in ScanInputs._fields})


def _gate(arguments: Mapping[str, Any]) -> ChannelGate:
    return ChannelGate(**{name: arguments[name] for name in ChannelGate._fields})


def _norm(arguments: Mapping[str, Any]) -> OutputNorm:
    return OutputNorm(arguments['out_norm_weight'], arguments['out_norm_bias'], arguments['out_eps'])


def _rotary(arguments: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    return None if arguments['cos'] is None else (arguments['cos'], arguments['sin'])


OPERATIONS = {
    'selective_scan': Operation(
        _draw_scan,
        lambda a: local_selective_scan(_scan_inputs(a), a['backend']),
        lambda a: selective_scan_naive(multiply_out(_scan_inputs(a))),
        ('y', 'states'),
    ),
    'causal_conv1d': Operation(
        _draw_causal_conv, lambda a: local_causal_conv1d(**a), lambda a: causal_conv1d_naive(**a), ('y',)
    ),
    'depthwise_conv2d_silu': Operation(
        _draw_depthwise_conv,
        lambda a: depthwise_conv2d_silu(**a),
        lambda a: depthwise_conv2d_silu_naive(**a),
        ('y',),
    ),
    'add_rotate_rms_norm': Operation(
        _draw_add_norm,
        lambda a: add_rotate_rms_norm(a['hidden'], a['before'], a['weight'], a['eps'], _rotary(a)),
        lambda a: add_rotate_rms_norm_naive(a['hidden'], a['before'], a['weight'], a['eps'], _rotary(a)),
        ('normed', 'residual'),
        results=2,
    ),
    'gate_and_merge': Operation(
        _draw_merge,
        lambda a: gate_and_merge(a['y'], a['z'], _gate(a)),
        lambda a: gate_and_merge_naive(a['y'], a['z'], _gate(a)),
        ('out', 'mean', 'gates'),
    ),
    'merge_and_normalise': Operation(
        _draw_merge_and_normalise,
        lambda a: merge_and_normalise(a['y'], a['z'], _gate(a), _norm(a)),
        lambda a: merge_and_normalise_naive(a['y'], a['z'], _gate(a), _norm(a)),
        ('out', 'mean', 'gates'),
    ),
}
