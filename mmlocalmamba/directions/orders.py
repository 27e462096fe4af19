"""Token orders of scan directions, and their inverses.

A direction over an H x W map is an integer order: ``order[l]`` is the row-major index of the token that is scanned
``l``-th, or -1 where the scan passes over padding. Padding stays in the sequence, since the state decays over it.

Every order has a closed form: a few integer operations on H, W and the window's side. So it is computed where it is
needed, on the device itself, without a copy from the host and without waiting for the device.
"""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from .names import Direction, parse_direction
from .order_cache import OrderCache

PAD = -1
"""Marks a position of an order at which there is no token."""


def scan_length(direction: str | Direction, height: int, width: int, middle_token: bool = False) -> int:
    """Give the number of steps of a scan, padding included.

    Args:
        direction: The direction or its name.
        height: Rows of the map; may be symbolic, as torch.compile's sizes are.
        width: Columns of the map; likewise.
        middle_token: Whether there is an extra token in the middle; see :func:`scan_order`.

    Example:
        >>> scan_length('w2', 2, 3)
        8
    """
    side = _parsed(direction).window
    rows, columns = (height + side - 1) // side * side, (width + side - 1) // side * side
    return rows * columns + (1 if middle_token else 0)


def scan_order(
    direction: str | Direction,
    height: int,
    width: int,
    middle_token: bool = False,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Give the order in which a direction visits the tokens of a map (paper section 4.1).

    Args:
        direction: The direction or its name.
        height: Rows of the map, >= 1.
        width: Columns of the map, >= 1.
        middle_token: Insert an extra token, of index ``height * width``, at position ``height * width // 2`` of the
            sequence: the middle class token of LocalVim.
        device: Where the order is computed. Default: the CPU.

    Returns:
        int64 of shape (L_scan,); L_scan >= height * width counts the padding of the last windows.

    Raises:
        ValueError: If the name is unknown or the map is empty.

    Example:
        >>> scan_order('w2', 2, 3).tolist()
        [0, 1, 3, 4, 2, -1, 5, -1]
    """
    return _stack_orders((str(direction),), height, width, middle_token, torch.device(device))[0].long()


def _parsed(direction: str | Direction) -> Direction:
    return parse_direction(direction) if isinstance(direction, str) else direction


def inverse_order(order: Tensor, num_tokens: int) -> Tensor:
    """Invert an order: where in the scan is each token?

    Args:
        order: Integers of shape (..., L_scan), each row visiting every token once, -1 for padding.
        num_tokens: Number of tokens L.

    Returns:
        Integers of shape (..., L), of the order's dtype: the position of token ``i`` in the scan. It is a true inverse
        for every map, square or not.

    Example:
        >>> inverse_order(scan_order('v', 2, 3), 6).tolist()
        [0, 2, 4, 1, 3, 5]
    """
    positions = torch.arange(order.shape[-1], device=order.device, dtype=order.dtype).expand_as(order)
    # Padding is written to one place past the tokens, and cut off.
    places = order.long().masked_fill(order < 0, num_tokens)
    inverse = order.new_zeros((*order.shape[:-1], num_tokens + 1)).scatter_(-1, places, positions)
    return inverse[..., :num_tokens]


def _stack_orders(names: tuple[str, ...], height: int, width: int, middle_token: bool, device: torch.device) -> Tensor:
    """Compute the orders of several directions as one int32 tensor (K, L_scan).

    The map of token indices is written down once, padded for the largest window, and once more turned by 180 degrees if
    a direction is flipped. Every order is a view of one of the two, so it takes a single copy.
    """
    if height < 1 or width < 1:
        raise ValueError(f'cannot scan a map of {height} x {width} tokens: both sides must be at least 1')
    directions = [parse_direction(name) for name in names]
    lengths = [scan_length(direction, height, width) for direction in directions]
    bottom = max(-height % direction.window for direction in directions)
    right = max(-width % direction.window for direction in directions)
    tokens = torch.arange(height * width, dtype=torch.int32, device=device).view(height, width)
    padded = F.pad(tokens, (0, right, 0, bottom), value=PAD) if bottom or right else tokens
    turned = padded.flip((0, 1)) if any(direction.flip for direction in directions) else padded

    stacked = tokens.new_empty(len(names), max(lengths))
    if min(lengths) < max(lengths):
        stacked.fill_(PAD)
    for row, direction, length in zip(stacked, directions, lengths, strict=True):
        rows, columns = height + -height % direction.window, width + -width % direction.window
        # The padding of a turned map comes first: what a smaller window does not need of it is left out at the front.
        whole = turned[-rows:, -columns:] if direction.flip else padded[:rows, :columns]
        visited = _in_scan_order(whole, direction)
        row[:length].view(visited.shape).copy_(visited)
    if not middle_token:
        return stacked
    middle = height * width // 2
    token = tokens.new_full((len(names), 1), height * width)
    return torch.cat([stacked[:, :middle], token, stacked[:, middle:]], 1)


def _in_scan_order(tokens: Tensor, direction: Direction) -> Tensor:
    """View a map, padded to whole windows, so that its elements come in the order in which they are scanned."""
    if direction.path == 'h':
        return tokens
    if direction.path == 'v':
        return tokens.t()
    side = direction.window
    # Dimensions: row and column of the window, then row and column inside it.
    return tokens.unflatten(1, (-1, side)).unflatten(0, (-1, side)).permute(0, 2, 1, 3)


_cache = OrderCache(_stack_orders)


def _longer(one: int, other: int) -> int:
    return torch.sym_max(one, other)  # type: ignore[return-value]  # a plain number or a symbolic one, as they are


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::scan_orders', mutates_args=())
def _orders_of_compiled_model(directions: str, height: int, width: int, middle_token: bool, device: str) -> Tensor:
    # The device is a string because torch.jit.trace can record no other.
    return _cache.get(tuple(directions.split()), height, width, middle_token, torch.device(device)).clone()


@_orders_of_compiled_model.register_fake
def _(directions: str, height: int, width: int, middle_token: bool, device: str) -> Tensor:
    names = directions.split()
    # The longest scan is that with the most padding. Which one that is depends on the size, so that with symbolic sizes
    # it stays a formula: a comparison here would compile the model anew for every size.
    lengths = (scan_length(name, height, width, middle_token) for name in names)
    return torch.empty(len(names), reduce(_longer, lengths), dtype=torch.int32, device=device)


def scan_orders(
    directions: Sequence[str],
    height: int,
    width: int,
    *,
    middle_token: bool = False,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Give the orders of several directions over one map as one tensor.

    Shorter orders are filled up with -1 at their end, which changes no output: a scan is causal. Orders are computed on
    the device; those used last are kept (see :class:`~mmlocalmamba.directions.order_cache.OrderCache`).

    Args:
        directions: Names of K directions.
        height: Rows of the map.
        width: Columns of the map.
        middle_token: See :func:`scan_order`.
        device: Where the tensor lives. Default: the CPU.

    Returns:
        int32 of shape (K, L_scan). It is shared between callers: do not write into it.

    Example:
        >>> scan_orders(('h', 'w2_flip'), 2, 3).tolist()
        [[0, 1, 2, 3, 4, 5, -1, -1], [-1, 5, -1, 2, 4, 3, 1, 0]]
    """
    if not isinstance(device, torch.device):
        device = torch.device(device)
    if device.type == 'cuda' and device.index is None:
        device = torch.device('cuda', torch.cuda.current_device())
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        # One node of the graph, with a tensor of its own: what the compiler makes may overwrite it. While a model is
        # traced, sizes are tensors: the node keeps the numbers, and the backbone sees to it that they hold.
        if torch.jit.is_tracing():
            height, width = int(height), int(width)
        return _orders_of_compiled_model(' '.join(directions), height, width, middle_token, str(device))
    return _cache.get(tuple(directions), height, width, middle_token, device)
