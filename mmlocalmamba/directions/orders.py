"""Token orders of scan directions, and their inverses.

A direction over an H x W map is an integer order: ``order[l]`` is the row-major index of the token that is scanned
``l``-th, or -1 where the scan passes over padding. Padding stays in the sequence, since the state decays over it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from .names import Direction, parse_direction

PAD = -1
"""Marks a position of an order at which there is no token."""


def scan_order(direction: str | Direction, height: int, width: int, middle_token: bool = False) -> Tensor:
    """Give the order in which a direction visits the tokens of a map (paper section 4.1).

    Args:
        direction: The direction or its name.
        height: Rows of the map, >= 1.
        width: Columns of the map, >= 1.
        middle_token: Insert an extra token, of index ``height * width``, at position ``height * width // 2`` of the
            sequence: the middle class token of LocalVim.

    Returns:
        int64 of shape (L_scan,) on the CPU; L_scan >= height * width counts the padding of the last windows.

    Raises:
        ValueError: If the name is unknown or the map is empty.

    Example:
        >>> scan_order('w2', 2, 3).tolist()
        [0, 1, 3, 4, 2, -1, 5, -1]
    """
    if isinstance(direction, str):
        direction = parse_direction(direction)
    if height < 1 or width < 1:
        raise ValueError(f'cannot scan a map of {height} x {width} tokens: both sides must be at least 1')
    tokens = torch.arange(height * width).view(height, width)
    if direction.path == 'h':
        order = tokens.flatten()
    elif direction.path == 'v':
        order = tokens.t().flatten()
    else:
        order = _window_order(tokens, direction.window)
    if direction.flip:
        order = order.flip(0)
    if middle_token:
        middle = height * width // 2
        order = torch.cat([order[:middle], order.new_tensor([height * width]), order[middle:]])
    return order


def _window_order(tokens: Tensor, window: int) -> Tensor:
    """Order the tokens window by window, padding the map at the bottom and at the right."""
    height, width = tokens.shape
    padded = torch.nn.functional.pad(tokens, (0, -width % window, 0, -height % window), value=PAD)
    rows, columns = padded.shape[0] // window, padded.shape[1] // window
    return padded.view(rows, window, columns, window).transpose(1, 2).flatten()


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


@lru_cache(maxsize=256)
def _cached_orders(names: tuple[str, ...], height: int, width: int, middle: bool, device: torch.device) -> Tensor:
    # What is cached must outlive the caller's inference mode, fake tensors or default device, which are all a thread's.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_stack_orders, names, height, width, middle, device).result()


def _stack_orders(names: tuple[str, ...], height: int, width: int, middle: bool, device: torch.device) -> Tensor:
    orders = [scan_order(name, height, width, middle) for name in names]
    length = max(len(order) for order in orders)
    stacked = torch.full((len(orders), length), PAD, dtype=torch.int32)
    for row, order in zip(stacked, orders, strict=True):
        row[: len(order)] = order
    return stacked.to(device)


# PyTorch 2.4 takes the types of a custom op as they are: this file must not postpone their evaluation.
@torch.library.custom_op('mmlocalmamba::scan_orders', mutates_args=())
def _orders_of_compiled_model(
    directions: str, height: int, width: int, middle_token: bool, device: torch.device
) -> Tensor:
    return _cached_orders(tuple(directions.split()), height, width, middle_token, device).clone()


@_orders_of_compiled_model.register_fake
def _(directions: str, height: int, width: int, middle_token: bool, device: torch.device) -> Tensor:
    names = directions.split()
    length = max(len(scan_order(name, height, width, middle_token)) for name in names)
    return torch.empty(len(names), length, dtype=torch.int32, device=device)


def scan_orders(
    directions: Sequence[str],
    height: int,
    width: int,
    *,
    middle_token: bool = False,
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Give the orders of several directions over one map as one tensor, cached per size and device.

    Shorter orders are filled up with -1 at their end, which changes no output: a scan is causal.

    Args:
        directions: Names of K directions.
        height: Rows of the map.
        width: Columns of the map.
        middle_token: See :func:`scan_order`.
        device: Where the tensor lives.

    Returns:
        int32 of shape (K, L_scan). It is shared between callers: do not write into it.
    """
    device = torch.device(device)
    if device.type == 'cuda' and device.index is None:
        device = torch.device('cuda', torch.cuda.current_device())
    if torch.compiler.is_dynamo_compiling():
        # One node of the graph, with a tensor of its own: what the compiler makes may overwrite it.
        return _orders_of_compiled_model(' '.join(directions), height, width, middle_token, device)
    return _cached_orders(tuple(directions), height, width, middle_token, device)
