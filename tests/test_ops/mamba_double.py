"""A stand-in for mamba-ssm's ``selective_scan_cuda``: its signature and its checks, its values by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2048
TOKENS = (torch.float32, torch.float16, torch.bfloat16)


class SelectiveScanDouble:
    """Records calls; refuses what the kernel's own checks (``selective_scan.cpp``) refuse."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def fwd(self, u, delta, A, B, C, D_, z_, delta_bias_, delta_softplus, /):
        self.calls.append('fwd')
        self._check(u, delta, A, B, C, D_, delta_bias_)
        assert z_ is None
        out = self._scan(u, delta, A, B, C, D_, delta_bias_, delta_softplus)
        batch, dim, length = u.shape
        # The kernel leaves y in delta's layout, and keeps a decay and a state per chunk: here they only have the shape.
        x = torch.full((batch, dim, -(-length // CHUNK), 2 * A.shape[1]), 7.0)
        return [torch.empty_like(delta).copy_(out), x]

    def bwd(self, u, delta, A, B, C, D_, z_, delta_bias_, dout, x_, out_, dz_, delta_softplus, recompute_out_z, /):
        self.calls.append('bwd')
        self._check(u, delta, A, B, C, D_, delta_bias_)
        assert (z_, out_, dz_, recompute_out_z) == (None, None, None, False)
        assert dout.dtype == u.dtype
        assert dout.shape == u.shape
        self._check_innermost(dout)
        batch, dim, length = u.shape
        assert x_.shape == (batch, dim, -(-length // CHUNK), 2 * A.shape[1])
        assert x_.dtype == A.dtype
        assert x_.is_contiguous()
        assert (x_ == 7).all()
        leaves = [x.detach().clone().requires_grad_() for x in (u, delta, A, B, C, D_, delta_bias_)]
        with torch.enable_grad():
            out = self._scan(*leaves, delta_softplus)
            return list(torch.autograd.grad(out, leaves, dout))

    @staticmethod
    def _check_innermost(x: Tensor) -> None:
        assert x.stride(-1) == 1 or x.shape[-1] == 1

    def _check(self, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> None:
        batch, dim, length = u.shape
        groups, d_state = B.shape[1], A.shape[1]
        assert u.dtype in TOKENS
        assert delta.dtype == B.dtype == C.dtype == u.dtype
        assert A.dtype == D.dtype == bias.dtype == torch.float32
        assert delta.shape == u.shape
        assert A.shape == (dim, d_state)
        assert d_state <= 256
        assert B.shape == C.shape == (batch, groups, d_state, length)
        assert dim % groups == 0
        assert D.shape == bias.shape == (dim,)
        for x in (u, delta, B, C, D, bias):
            self._check_innermost(x)

    @staticmethod
    def _scan(u, delta, A, B, C, D, bias, delta_softplus) -> Tensor:
        dtype, repeats = u.dtype, u.shape[1] // B.shape[1]
        u, delta, B, C = (x.float() for x in (u, delta, B, C))
        B, C = (x.repeat_interleave(repeats, 1) for x in (B, C))  # (Bt, K D, N, L): a group is consecutive channels
        delta = delta + bias.unsqueeze(-1)
        if delta_softplus:
            delta = F.softplus(delta)
        state, outputs = torch.zeros(*u.shape[:2], A.shape[1]), []
        for step in range(u.shape[2]):
            decay = torch.exp(delta[..., step, None] * A)
            state = decay * state + (delta * u)[..., step, None] * B[..., step]
            outputs.append((state * C[..., step]).sum(-1))
        return (torch.stack(outputs, -1) + D.unsqueeze(-1) * u).to(dtype)
