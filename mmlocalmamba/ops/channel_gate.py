"""SCAttn's channel gate (paper section 4.1, figure 3b): how much of each channel of a scan to keep."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .tokens import check_device, empty_like


class ChannelGate(NamedTuple):
    """Weights of the channel gate, for D channels and H hidden ones; any floating-point dtype.

    Attributes:
        norm_weight: (D,), of the LayerNorm of the tokens.
        norm_bias: (D,).
        reduce_weight: (H, D), of ``global_reduce``.
        reduce_bias: (H,).
        select_weight: (D, H), of ``channel_select``.
        select_bias: (D,).
        eps: Of the LayerNorm.
    """

    norm_weight: Tensor
    norm_bias: Tensor
    reduce_weight: Tensor
    reduce_bias: Tensor
    select_weight: Tensor
    select_bias: Tensor
    eps: float = 1e-5

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The six weights."""
        return tuple(self[:-1])

    def check(self, y: Tensor) -> None:
        """Check that the weights fit scans y (Bt, K, L, D); ValueError if they do not."""
        if y.dim() != 4:
            raise ValueError(f'y must be (Bt, K, L, D), got {tuple(y.shape)}')
        norm_weight, norm_bias, reduce_weight, reduce_bias, select_weight, select_bias, _ = self
        channels, hidden, device = y.shape[-1], reduce_bias.numel(), y.device
        if (  # quickly, since every layer asks in every step
            norm_weight.shape == norm_bias.shape == select_bias.shape == (channels,)
            and reduce_weight.shape == (hidden, channels)
            and reduce_bias.shape == (hidden,)
            and select_weight.shape == (channels, hidden)
            and norm_weight.device == norm_bias.device == reduce_weight.device == device
            and reduce_bias.device == select_weight.device == select_bias.device == device
        ):
            return
        wanted = ((channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,))
        for name, tensor, shape in zip(self._fields, self.tensors, wanted, strict=False):
            if tuple(tensor.shape) != shape:
                raise ValueError(
                    f'{name} of the channel gate has shape {tuple(tensor.shape)}, but y {tuple(y.shape)} wants {shape}'
                )
            check_device(name, tensor, 'y', y)


def check_z(y: Tensor, z: Tensor) -> None:
    """Raise a ValueError unless z (Bt, L, D) fits scans y (Bt, K, L, D)."""
    batch, _, tokens, channels = y.shape
    if z.shape != (batch, tokens, channels):
        raise ValueError(f'z has shape {tuple(z.shape)}, but y {tuple(y.shape)} wants {(batch, tokens, channels)}')
    check_device('z', z, 'y', y)


def channel_gate(x: Tensor, gate: ChannelGate) -> Tensor:
    """Compute the gate of tokens x, (..., L, D).

    With n = mean over tokens of LN(x)::

        gate = sigmoid(channel_select(GELU(global_reduce(n))))

    Returns:
        (..., 1, D), dtype of ``x``.
    """
    norm_weight, norm_bias, *layers = (weight.to(x.dtype) for weight in gate.tensors)
    mean = torch.addcmul(norm_bias, mean_of_norm(x, gate.eps), norm_weight)
    hidden = F.gelu(F.linear(mean, *layers[:2]))
    return torch.sigmoid(F.linear(hidden, *layers[2:]))


def mean_of_norm(x: Tensor, eps: float) -> Tensor:
    """Average LN(x), without affine, over tokens (..., L, D) without storing it.

    The mean is linear in x once the moments of every token are known. Half precision is widened first: a sum over many
    tokens does not fit float16, whose largest number is 65504.

    Returns:
        (..., 1, D), dtype of ``x``.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, -1, correction=0, keepdim=True)
    weights = torch.rsqrt(variance + eps)  # (..., L, 1)
    total = weights.transpose(-1, -2) @ wide - (weights * mean).sum(-2, keepdim=True)
    return (total / max(x.shape[-2], 1)).to(x.dtype)


def empty_outputs(y: Tensor, **_: object) -> tuple[Tensor, Tensor, Tensor]:
    """Make room for what both merging operations put out of scans y (Bt, K, L, D).

    Returns:
        The merged tokens (Bt, L, D), and two tables (Bt, K, D) in the compute dtype, kept for the backward: the mean of
        each direction's normalised tokens, and its gates.
    """
    batch, directions, tokens, channels = y.shape
    dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
    mean = y.new_empty((batch, directions, channels), dtype=dtype)
    return y.new_empty((batch, tokens, channels)), mean, empty_like(mean)


class GateGrads(NamedTuple):
    """What :func:`gate_gradients` gives.

    Attributes:
        mean: Gradient of every token's normalised values, without affine, (Bt, K, D): the same for all tokens.
        weights: Gradients of the gate's six weights, in their order, shapes and dtypes.
    """

    mean: Tensor
    weights: list[Tensor]


def gate_gradients(gate: ChannelGate, mean: Tensor, gates: Tensor, grad_gates: Tensor, num_tokens: int) -> GateGrads:
    """Go back from the gradients of the gates to those of the weights and of the tokens' normalised values.

    Args:
        gate: The weights.
        mean: Mean of the normalised tokens, without affine, (Bt, K, D).
        gates: The gates, (Bt, K, D).
        grad_gates: Their gradients, (Bt, K, D).
        num_tokens: Number of tokens L that the mean is over.
    """
    norm_weight, norm_bias, reduce_weight, reduce_bias, select_weight, _ = (w.to(mean.dtype) for w in gate.tensors)
    rows = mean.flatten(0, 1)  # (Bt * K, D)
    normed = torch.addcmul(norm_bias, rows, norm_weight)
    reduced = F.linear(normed, reduce_weight, reduce_bias)
    grad_select = (grad_gates * gates * (1 - gates)).flatten(0, 1)
    grad_reduce = torch.ops.aten.gelu_backward(grad_select @ select_weight, reduced)
    grad_normed = grad_reduce @ reduce_weight
    grad_mean = grad_normed * norm_weight / max(num_tokens, 1)
    weights = (
        (grad_normed * rows).sum(0),
        grad_normed.sum(0),
        grad_reduce.t() @ normed,
        grad_reduce.sum(0),
        grad_select.t() @ F.gelu(reduced),
        grad_select.sum(0),
    )
    return GateGrads(
        grad_mean.view_as(mean),
        [grad.to(weight.dtype) for grad, weight in zip(weights, gate.tensors, strict=True)],
    )
