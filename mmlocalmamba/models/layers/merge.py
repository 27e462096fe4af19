"""Merging the outputs of all directions (paper section 4.1), also while searching for directions (4.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlocalmamba.ops import OutputNorm, gate_and_merge, merge_and_normalise

from .sc_attn import SCAttn


class Draw(NamedTuple):
    """Branches drawn for one training step of one supernet block.

    Attributes:
        branches: Ascending indices of the k branches.
        inclusion: float64 (k,) on the CPU, the probability that each of them had to be drawn.
    """

    branches: list[int]
    inclusion: Tensor


class DirectionMerge(nn.Module):
    """Gate each direction's output by a shared SCAttn, then add the directions up.

    SiLU(z) multiplies either every direction before the sum (LocalVim) or the normalised sum (LocalVMamba): see
    :meth:`gate_and_merge` and :meth:`merge_and_normalise`.

    Args:
        dim: Channels C.
        spatial_attn: Whether SCAttn has its spatial gate.
        attn: Whether to have SCAttn at all; without it, directions are simply added (paper table 5).

    Raises:
        ValueError: If ``spatial_attn`` is asked for without ``attn``.
    """

    def __init__(self, dim: int, spatial_attn: bool = False, attn: bool = True) -> None:
        super().__init__()
        if spatial_attn and not attn:
            raise ValueError('spatial_attn=True is a part of SCAttn, which attn=False leaves out: drop one of them')
        self.attn = SCAttn(dim, spatial=spatial_attn) if attn else None

    def draw(self) -> Draw | None:
        """Choose the directions of one step; None stands for all of them."""
        return None

    def forward(self, y: Tensor, z: Tensor, norm: nn.LayerNorm | None = None, draw: Draw | None = None) -> Tensor:
        """Merge the directions' outputs into (B, L, C).

        Args:
            y: Outputs of the scan, (B, K, L, C), one map per direction that was drawn.
            z: What ``in_proj`` gives for gating, before its SiLU, (B, L, C).
            norm: The norm of the sum in :meth:`merge_and_normalise`. Default: :meth:`gate_and_merge`, which has none.
            draw: What :meth:`draw` returned before the scan.
        """
        return self.gate_and_merge(y, z, draw) if norm is None else self.merge_and_normalise(y, z, norm, draw)

    def gate_and_merge(self, y: Tensor, z: Tensor, draw: Draw | None) -> Tensor:
        """Multiply each direction by SiLU(z), then add them up: LocalVim's order."""
        gate = self._channel_gate()
        if gate is not None:
            return gate_and_merge(y, z, gate.channel_gate())
        return self.add_up(y * F.silu(z).unsqueeze(1), draw)

    def merge_and_normalise(self, y: Tensor, z: Tensor, norm: nn.LayerNorm, draw: Draw | None) -> Tensor:
        """Add the directions up, normalise the sum, and multiply it by SiLU(z): LocalVMamba's order."""
        gate = self._channel_gate()
        if gate is not None:
            return merge_and_normalise(y, z, gate.channel_gate(), OutputNorm(norm.weight, norm.bias, norm.eps))
        return norm(self.add_up(y, draw)) * F.silu(z)

    def add_up(self, y: Tensor, draw: Draw | None) -> Tensor:
        """Gate the directions (B, K, L, C) by SCAttn and add them up; returns (B, L, C)."""
        return self.attend(y).sum(1)

    def attend(self, y: Tensor) -> Tensor:
        """Gate each direction by SCAttn, if there is one; returns the shape of y."""
        return y if self.attn is None else self.attn(y)

    def _channel_gate(self) -> SCAttn | None:
        """Give SCAttn if the fused operation can do all that this module does: a channel gate and a plain sum."""
        return None if self.attn is None or self.attn.spatial else self.attn


class DirectionMixture(DirectionMerge):
    r"""Mix all candidate directions by learned probabilities: the supernet's relaxation (paper equation 5).

    Each gated branch passes a LayerNorm without affine, then the branches are added with weights
    p = softmax(alpha).

    With ``num_sampled`` = k set (:func:`mmlocalmamba.search.set_num_sampled`), a training step computes only k of the K
    branches, which is what the paper's "single-path sampling" [Guo et al., Single Path One-Shot NAS, 2020] saves memory
    by. Branch s is drawn with a known inclusion probability pi_s = min(1, c p_s), where c makes them sum to k, by
    systematic sampling [Madow, 1949], and enters with the weight p_s / pi_s [Horvitz and Thompson, 1952], whose
    denominator is a constant to autograd. So, for any branch outputs f_s::

        E[sum over drawn s of p_s / pi_s f_s] = sum over all s of p_s f_s

    and, p_s being the only thing that alpha enters by, the same holds for its derivative with respect to alpha:
    for a given gradient of the mixture, the gradient of alpha is unbiased. p_s > 0 keeps every pi_s > 0, so every
    branch is drawn sooner or later, and the softmax carries each step's gradient to every alpha. k = K is the full
    relaxation. Evaluation mode always computes all branches.

    Args:
        dim: Channels C.
        num_candidates: Number of candidate directions K.
        spatial_attn: Whether SCAttn has its spatial gate.
        attn: Whether to have SCAttn at all.
    """

    def __init__(self, dim: int, num_candidates: int, spatial_attn: bool = False, attn: bool = True) -> None:
        super().__init__(dim, spatial_attn, attn)
        self.alpha = nn.Parameter(1e-3 * torch.randn(num_candidates))
        self.num_sampled: int | None = None

    def draw(self) -> Draw | None:
        """Draw the branches of a training step; None stands for all of them."""
        if self.num_sampled is None or not self.training:
            return None
        inclusion = inclusion_probabilities(self._probabilities().detach().double().cpu(), self.num_sampled)
        branches = systematic_sample(inclusion)
        return Draw(branches, inclusion[branches])

    def add_up(self, y: Tensor, draw: Draw | None) -> Tensor:
        """Gate, normalise and mix the branches (B, k, L, C) that were drawn, or all K; returns (B, L, C)."""
        y = F.layer_norm(self.attend(y), y.shape[-1:])
        weights = self._probabilities()
        if draw is not None:
            weights = weights[draw.branches] / draw.inclusion.to(weights)
        return torch.einsum('bklc,k->blc', y, weights.to(y.dtype))

    def _channel_gate(self) -> None:
        """Give None: the fused operation adds branches up as they are, without normalising and weighing them."""
        return None

    def _probabilities(self) -> Tensor:
        return self.alpha.softmax(0)


def inclusion_probabilities(probabilities: Tensor, count: int) -> Tensor:
    """Make probabilities (K,) that sum to 1 into inclusion probabilities min(1, c p) that sum to ``count``.

    Raises:
        ValueError: If there are fewer candidates than ``count``.
    """
    if not 1 <= count <= len(probabilities):
        raise ValueError(f'cannot draw {count} of {len(probabilities)} candidate directions: draw 1 to all of them')
    certain = torch.zeros_like(probabilities, dtype=torch.bool)
    while True:  # a branch capped at 1 leaves more to the others, which may cap some of them too
        rest = probabilities.masked_fill(certain, 0)
        scaled = rest * ((count - certain.sum()) / rest.sum().clamp_min(torch.finfo(rest.dtype).tiny))
        scaled = scaled.masked_fill(certain, 1)
        capped = scaled >= 1
        if bool((capped == certain).all()):
            return scaled
        certain = capped


def systematic_sample(inclusion: Tensor) -> list[int]:
    """Draw distinct indices with the given inclusion probabilities (K,), which sum to a whole number (Madow, 1949).

    The candidates are laid end to end in random order, each as long as its probability; what lies under the points
    u, u + 1, u + 2, ... is drawn, with one u from [0, 1).
    """
    shuffled = torch.randperm(len(inclusion))
    ends = inclusion[shuffled].cumsum(0)
    points = torch.rand((), dtype=ends.dtype) + torch.arange(round(ends[-1].item()), dtype=ends.dtype)
    places = torch.searchsorted(ends, points, right=True).clamp_max(len(ends) - 1)
    return sorted(shuffled[places].tolist())
