"""Gathering tokens into scan order, and putting scanned tokens back, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


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
    index = order.t().long()
    directions = torch.arange(order.shape[0], device=x.device)
    return x[:, index.clamp(min=0), directions] * (index >= 0).unsqueeze(-1)


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
