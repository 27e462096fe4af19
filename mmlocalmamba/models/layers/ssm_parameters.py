"""Initial values of a selective state space model's parameters, as Mamba sets them (paper section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def dt_rank(dim: int) -> int:
    """Rank R of the step sizes' projection for an embedding of ``dim`` channels: ceil(dim / 16)."""
    return math.ceil(dim / 16)


def initial_a_log(directions: int, channels: int, d_state: int) -> nn.Parameter:
    """Give A_log, float32 (K, D, N), with A = -exp(A_log) = -1 ... -N (S4D-Real), free of weight decay."""
    a_log = torch.arange(1, d_state + 1, dtype=torch.float32).log()
    return nn.Parameter(a_log.repeat(directions, channels, 1))


def initial_dt_weight(directions: int, channels: int, rank: int) -> nn.Parameter:
    """Give the step sizes' projection, float32 (K, D, R), uniform within R^-0.5 so that its variance is kept."""
    return nn.Parameter(torch.empty(directions, channels, rank).uniform_(-(rank**-0.5), rank**-0.5))


def initial_dt_bias(directions: int, channels: int, low: float = 1e-3, high: float = 0.1) -> nn.Parameter:
    """Give the step sizes' bias, float32 (K, D), so that softplus of it is log-uniform between ``low`` and ``high``."""
    span = torch.rand(directions, channels) * (math.log(high) - math.log(low))
    dt = torch.exp(span + math.log(low)).clamp(min=1e-4)
    return nn.Parameter(inverse_softplus(dt))


def inverse_softplus(x: Tensor) -> Tensor:
    """Invert softplus for positive x without cancellation near 0."""
    return x + torch.log(-torch.expm1(-x))


def init_linear(module: nn.Module) -> None:
    """Draw a linear layer's weight from a normal distribution of std 0.02 truncated at ±2, and zero its bias."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
