"""Calls of every function of the kernel library that it accepts, in memory with guards around it."""

import torch
from torch import Tensor

from mmlocalmamba.ops.backends.cpu import library

SIZES = dict(
    batch=2,
    directions=3,
    tokens=70,
    length=75,
    channels=19,
    pairs=20,
    states=5,
    rank=4,
    width=4,
    hidden=3,
    chunks=2,
    height=5,
    columns=6,
    one=1,
    three=3,
)
COMPUTED = ('states', 'mean', 'gates', 'new_residual')
"""Tensors that are in the compute type."""

Arguments = dict[str, Tensor | float | None]


class Guarded:
    """Hands out tensors that lie between guards, and tells whether these are as they were."""

    MARGIN = 4096  # bytes on both sides
    FILL = 0xFF  # not a number in every floating dtype

    def __init__(self) -> None:
        self._storages: list[tuple[Tensor, int]] = []

    def empty(self, *sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Give a tensor that holds no numbers."""
        size = torch.Size(sizes).numel() * dtype.itemsize
        storage = torch.full((size + 2 * self.MARGIN,), self.FILL, dtype=torch.uint8)
        self._storages.append((storage, size))
        return storage[self.MARGIN : self.MARGIN + size].view(dtype).view(sizes)

    def intact(self) -> bool:
        return all(
            bool((storage[: self.MARGIN] == self.FILL).all() and (storage[self.MARGIN + size :] == self.FILL).all())
            for storage, size in self._storages
        )


def make_call(
    name: str, dtype: torch.dtype = torch.float32, bare: bool = False, **other_sizes: int
) -> tuple[Arguments, Guarded]:
    """Make arguments that a function accepts.

    Args:
        name: The function's.
        dtype: Of all that is not in the compute type.
        bare: Leave out what is optional, and give the scan its tokens in scan order.
        other_sizes: In place of those of SIZES.

    Returns:
        The arguments, outputs without numbers in them, and the guards around them.
    """
    guarded, sizes = Guarded(), SIZES | other_sizes
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    arguments: Arguments = {}
    for argument, value in _signature(name, bare).items():
        if not isinstance(value, str):
            arguments[argument] = value
            continue
        computed = argument in COMPUTED or (name, argument) == ('add_norm_backward', 'residual')
        kind = torch.int32 if argument == 'order' else compute if computed else dtype
        tensor = guarded.empty(*(sizes[dim] for dim in value.split()), dtype=kind)
        if argument == 'order':
            tensor.copy_(_order(sizes))
        elif argument not in library().functions[name].outputs:
            tensor.normal_().mul_(0.3)
        arguments[argument] = tensor
    return arguments, guarded


def outputs_of(name: str, arguments: Arguments) -> dict[str, Tensor]:
    """Give the tensors that a function writes."""
    named = {output: arguments[output] for output in library().functions[name].outputs}
    return {output: tensor for output, tensor in named.items() if isinstance(tensor, Tensor)}


def _order(sizes: dict[str, int]) -> Tensor:
    """Give an order in which every direction visits each token once, with padding in between."""
    generator = torch.Generator().manual_seed(0)
    tokens, length = sizes['tokens'], sizes['length']
    padded = torch.cat([torch.arange(tokens), -torch.ones(length - tokens, dtype=torch.int64)])
    order = padded.new_empty(sizes['directions'], length)
    for direction in order:
        direction.copy_(padded[torch.randperm(length, generator=generator)])
    return order


Signature = dict[str, str | float | None]
SCANS = 'batch directions tokens channels'
PER_TOKEN = 'batch tokens channels'
PER_DIRECTION = 'batch directions channels'


def _signature(name: str, bare: bool) -> Signature:
    """Give the dimensions of a function's tensors by their names, and its numbers."""
    operation, _, part = name.rpartition('_')
    if part == 'gates':
        operation, part = name.removesuffix('_grad_gates'), 'grad_gates'
    match operation:
        case 'scan':
            return _scan(part == 'backward', bare)
        case 'causal_conv':
            weights = dict(weight='directions channels width', bias='directions channels')
            y = 'batch length directions channels'
            return dict(order='directions length') | _forward_or_backward(part, dict(x=PER_TOKEN, **weights), dict(y=y))
        case 'depthwise_conv':
            image = 'batch height columns channels'
            inputs = dict(x=image, weight='channels one three three', bias='channels')
            return _forward_or_backward(part, inputs, dict(y=image))
        case 'gate_and_merge':
            return _gate_and_merge(part)
        case 'merge_and_normalise':
            return _merge_and_normalise(part)
        case 'add_norm':
            return _add_norm(part, bare)
    if name == 'exp2':
        return dict(x='channels', y='channels')
    if name == 'softplus':
        return dict(x='channels', y='channels', slope='channels')
    raise ValueError(f'no call of {name} is known here: add one')


def _forward_or_backward(part: str, inputs: Signature, outputs: Signature) -> Signature:
    """Give a forward's arguments, or its backward's: the outputs' gradients, the inputs, and their gradients."""
    if part == 'forward':
        return inputs | outputs
    return {f'grad_{x}': dims for x, dims in outputs.items()} | inputs | {f'grad_{x}': d for x, d in inputs.items()}


def _scan(backward: bool, in_scan_order: bool) -> Signature:
    rows = 'length' if in_scan_order else 'tokens'
    wide = f'batch {rows} directions channels'
    inputs: Signature = dict(
        u=wide if in_scan_order else PER_TOKEN,
        dt=wide if in_scan_order else f'batch {rows} directions rank',
        A='directions channels states',
        B=f'batch {rows} directions states',
        C=f'batch {rows} directions states',
        D='directions channels',
        dt_bias='directions channels',
        dt_weight=None if in_scan_order else 'directions channels rank',
    )
    states = None if in_scan_order and not backward else 'batch directions chunks states channels'
    common: Signature = dict(order='directions length', states=states, log_A=True)
    return common | _forward_or_backward('backward' if backward else 'forward', inputs, dict(y=SCANS))


CHANNEL_GATE: Signature = dict(
    norm_weight='channels',
    norm_bias='channels',
    reduce_weight='hidden channels',
    reduce_bias='hidden',
    select_weight='channels hidden',
    select_bias='channels',
)
GATES: Signature = dict(mean=PER_DIRECTION, gates=PER_DIRECTION)


def _gate_and_merge(part: str) -> Signature:
    inputs: Signature = dict(y=SCANS, z=PER_TOKEN)
    if part == 'forward':
        return inputs | CHANNEL_GATE | GATES | dict(eps=1e-5, out=PER_TOKEN)
    if part == 'grad_gates':
        return inputs | dict(grad_out=PER_TOKEN, grad_gates=PER_DIRECTION)
    inputs |= dict(grad_out=PER_TOKEN, gates=PER_DIRECTION, grad_mean=PER_DIRECTION, eps=1e-5)
    return inputs | dict(grad_y=SCANS, grad_z=PER_TOKEN)


def _merge_and_normalise(part: str) -> Signature:
    norm: Signature = dict(out_norm_weight='channels', out_norm_bias='channels', out_eps=1e-6)
    if part == 'forward':
        return dict(y=SCANS, z=PER_TOKEN, eps=1e-5, out=PER_TOKEN) | CHANNEL_GATE | GATES | norm
    if part == 'grad_gates':
        inputs = dict(grad_out=PER_TOKEN, y=SCANS, z=PER_TOKEN, gates=PER_DIRECTION) | norm
        outputs = dict(grad_sum=PER_TOKEN, grad_z=PER_TOKEN, grad_gates=PER_DIRECTION)
        return inputs | outputs | dict(grad_out_norm_weight='channels', grad_out_norm_bias='channels')
    return dict(grad_sum=PER_TOKEN, y=SCANS, gates=PER_DIRECTION, grad_mean=PER_DIRECTION, eps=1e-5, grad_y=SCANS)


def _add_norm(part: str, bare: bool) -> Signature:
    stream, table = 'batch tokens pairs', None if bare else 'tokens pairs'
    common: Signature = dict(weight='pairs', cos=table, sin=table, eps=1e-5)
    if part == 'forward':
        return common | dict(hidden=stream, residual=None if bare else stream, normed=stream, new_residual=stream)
    inputs: Signature = dict(grad_normed=stream, grad_residual=stream, residual=stream)
    return common | inputs | dict(grad_sum=stream, grad_weight='pairs')
