"""Gathering tokens into scan order, and putting scanned tokens back, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_stride(x: Tensor) -> Tensor:
    """Let the features of each token lie next to each other, which is all that the Triton kernels ask for.

    Other strides are taken as they are, so that the parts of a larger tensor need no copies.
    """
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def empty_like(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Make room for a contiguous tensor of the shape and device of another one; its dtype too, by default."""
    return torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)


def check_tensors(**values: object) -> None:
    """Raise a TypeError if a value is no tensor; for the moment when one has turned out to lack what tensors have."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise TypeError(f'{name} must be a tensor, got {type(value).__name__}')


def check_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Raise a ValueError unless a tensor is on the device of another one; the message names both."""
    if tensor.device != other.device:
        raise ValueError(f'{name} is on {tensor.device}, but {other_name} is on {other.device}: move it there')


def check_order(order: Tensor, num_tokens: int, once: bool = True) -> None:
    """Check the values of an order where that costs little: on the CPU.

    On other devices it would have to wait for the device. There, kernels leave out what is out of range, and PyTorch's
    own indexing raises. A model that is traced has no values to check.

    Args:
        order: int32 (K, L_scan).
        num_tokens: Number of tokens L of the map.
        once: Whether a direction may visit a token at most once. Default: it may not visit it again.

    Raises:
        ValueError: If a direction names a token that there is not, or one twice where that is not allowed.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if order.device.type != 'cpu' or type(order) is not Tensor or recorded or order.numel() == 0:
        return  # what has no values to look at, or whose device would have to be waited for
    lowest, highest = (int(value) for value in order.aminmax())
    if lowest < -1 or highest >= num_tokens:
        wrong = highest if highest >= num_tokens else lowest
        raise ValueError(f'order holds {wrong}, want -1 for padding or a token from 0 to {num_tokens - 1}')
    if not once:
        return
    visits = order.new_zeros(order.shape[0], num_tokens + 1)
    visits.scatter_add_(1, order.long() + 1, torch.ones_like(order))
    if num_tokens > 0 and int(visits[:, 1:].max()) > 1:
        direction, token = divmod(int(visits[:, 1:].argmax()), num_tokens)
        raise ValueError(f'order visits token {token} twice in direction {direction}: each token at most once')


def gather_tokens(x: Tensor, order: Tensor) -> Tensor:
    """Bring tokens into the order of each scan.

    Args:
        x: (Bt, L, F), the same tokens for every direction, or (Bt, L, K, F), each direction its own.
        order: int32 (K, L_scan), token index or -1 for padding.

    Returns:
        (Bt, L_scan, K, F), zero at padding.
    """
    if x.dim() == 3:
        x = x.unsqueeze(2).expand(-1, -1, order.shape[0], -1)
    if x.shape[1] == 0:  # there is nothing to index
        return x.sum(1, keepdim=True).expand(-1, order.shape[1], -1, -1)
    index = order.t().long()
    directions = torch.arange(order.shape[0], device=x.device)
    # Filled, not multiplied: zero times what is not finite is not zero.
    return x[:, index.clamp(min=0), directions].masked_fill((index < 0).unsqueeze(-1), 0)


def scatter_tokens(y: Tensor, order: Tensor, num_tokens: int) -> Tensor:
    """Put scanned tokens back to their own places; what was computed for padding is dropped.

    Args:
        y: (Bt, L_scan, K, F) in scan order.
        order: int32 (K, L_scan), token index or -1 for padding.
        num_tokens: Number of tokens L of the map.

    Returns:
        (Bt, K, L, F).
    """
    batch, _length, directions, features = y.shape
    places = torch.where(order < 0, num_tokens, order).long()
    out = y.new_zeros(batch, directions, num_tokens + 1, features)
    rows = torch.arange(directions, device=y.device).unsqueeze(1)
    out[:, rows, places] = y.transpose(1, 2)
    return out[:, :, :num_tokens].contiguous()
