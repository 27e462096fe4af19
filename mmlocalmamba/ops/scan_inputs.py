"""What a selective scan works on, and the checks that it fits together."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .tokens import check_device

_COMPUTE = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
    torch.float64: torch.float64,
}
"""What states are computed in, by the dtype of tokens."""


class ScanInputs(NamedTuple):
    """Tokens and parameters of K scans over one map.

    Sizes: Bt images in the batch, L tokens of the map, L_scan steps of the longest scan (padding included), K
    directions, D channels, N states per channel, R the rank of the step sizes.

    Tokens come in one of two forms. *Spatial*: ``u`` has three dimensions, tokens lie in row-major order (rows = L),
    and the scan gathers them by ``order``. *Scan order*: ``u`` has four dimensions, every direction has tokens of its
    own, and they have been gathered already, padding included (rows = L_scan).

    Attributes:
        u: Input, (Bt, L, D) or (Bt, L_scan, K, D); float32, float64, bfloat16 or float16.
        dt: Step sizes before bias and softplus, (Bt, rows, K, D), or (Bt, rows, K, R) with ``dt_weight``; dtype of
            ``u``.
        A: State decay rates, negative, (K, D, N), or their logarithm with ``log_A``; float32 (float64 if ``u`` is).
        B: Input matrix, (Bt, rows, K, N); dtype of ``u``.
        C: Output matrix, (Bt, rows, K, N); dtype of ``u``.
        D: Weights of the skip connection, (K, D); dtype of ``A``.
        dt_bias: Bias of the step sizes, (K, D); dtype of ``A``.
        order: int32 (K, L_scan): the token of each step, or -1 for padding. See
            :func:`mmlocalmamba.directions.scan_orders`. A direction visits a token at most once; a token that it never
            visits gets the output 0.
        num_tokens: Number of tokens L of the map. Default: taken from ``u``, which only the spatial form allows.
        dt_weight: Projection of step sizes of low rank, (K, D, R); any of the four dtypes. Default: there is none.
        log_A: Whether ``A`` holds ln(-A), which is what models learn. Default: False.
    """

    u: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    dt_bias: Tensor
    order: Tensor
    num_tokens: int | None = None
    dt_weight: Tensor | None = None
    log_A: bool = False  # noqa: N815 (A is the field's name)

    @property
    def is_spatial(self) -> bool:
        """Whether tokens lie in row-major order, to be gathered by ``order``."""
        return self.u.dim() == 3

    @property
    def map_tokens(self) -> int:
        """Number of tokens L of the map."""
        return self.u.shape[1] if self.num_tokens is None else self.num_tokens

    @property
    def compute_dtype(self) -> torch.dtype:
        """What states are computed in: float64 for float64 tokens, else float32."""
        return torch.promote_types(self.u.dtype, torch.float32)

    def check(self) -> None:
        """Check that shapes, dtypes and devices fit together.

        Raises:
            ValueError: The message names the argument, what it is and what is wanted.
        """
        if self._fits():
            return
        self._check_shapes()
        self._check_dtypes()
        for name, value in self._asdict().items():
            if isinstance(value, Tensor):
                check_device(name, value, 'u', self.u)

    def _fits(self) -> bool:
        """Tell quickly whether all is as it should be: every layer of a model asks in every step.

        False does not mean that it is not. The checks that explain what is wrong say so.
        """
        u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, _ = self
        tokens, parameters, device = u.dtype, A.dtype, u.device
        if u.dim() != 3 or A.dim() != 3 or order.dim() != 2 or dt_weight is None or dt_weight.dim() != 3:
            return False
        (batch, rows, channels), (directions, _, d_state) = u.shape, A.shape
        return (
            num_tokens in (None, rows)
            and dt.shape == (batch, rows, directions, dt_weight.shape[2])
            and B.shape == C.shape == (batch, rows, directions, d_state)
            and A.shape[1] == channels
            and D.shape == dt_bias.shape == (directions, channels) == dt_weight.shape[:2]
            and order.shape[0] == directions
            and dt.dtype == B.dtype == C.dtype == tokens
            and D.dtype == dt_bias.dtype == parameters == _COMPUTE.get(tokens)
            and order.dtype == torch.int32
            and dt.device == A.device == B.device == C.device == device
            and D.device == dt_bias.device == order.device == dt_weight.device == device
        )

    def _check_shapes(self) -> None:
        u, A, order = self.u, self.A, self.order
        if u.dim() not in (3, 4):
            raise ValueError(f'u must be (Bt, L, D) or (Bt, L_scan, K, D), got {tuple(u.shape)}')
        if A.dim() != 3 or order.dim() != 2:
            raise ValueError(
                f'A must be (K, D, N) and order (K, L_scan), got {tuple(A.shape)} and {tuple(order.shape)}'
            )
        self._check_num_tokens()
        (batch, rows), (directions, channels, d_state) = u.shape[:2], A.shape
        rank = channels
        if self.dt_weight is not None:
            if self.dt_weight.dim() != 3:
                raise ValueError(f'dt_weight must be (K, D, R), got {tuple(self.dt_weight.shape)}')
            rank = self.dt_weight.shape[-1]
        wanted: dict[str, tuple[int, ...]] = {
            'u': (batch, rows, channels) if self.is_spatial else (batch, rows, directions, channels),
            'dt': (batch, rows, directions, rank),
            'B': (batch, rows, directions, d_state),
            'C': (batch, rows, directions, d_state),
            'D': (directions, channels),
            'dt_bias': (directions, channels),
            'order': (directions, order.shape[1] if self.is_spatial else rows),
            'dt_weight': (directions, channels, rank),
        }
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f'{name} has shape {tuple(value.shape)}, but u {tuple(u.shape)} and A {tuple(A.shape)} want {shape}'
                )

    def check_dense(self) -> None:
        """Check that no tensor is sparse, for back ends of PyTorch operations, which fail at any one of them.

        Raises:
            ValueError: If one is.
        """
        for name, value in zip(self._fields, self, strict=True):
            if isinstance(value, Tensor) and value.layout != torch.strided:
                raise ValueError(
                    f'{name} has the layout {value.layout}, but the scan takes dense tensors: use to_dense()'
                )

    def _check_num_tokens(self) -> None:
        if self.num_tokens is None:
            if not self.is_spatial:
                raise ValueError(
                    'tokens in scan order (u has 4 dimensions) need num_tokens, the number of tokens of the map'
                )
        elif torch.jit.is_tracing():  # it is a tensor there, whose value is checked by whoever runs the traced model
            return
        elif not isinstance(self.num_tokens, (int, torch.SymInt)):
            raise TypeError(f'num_tokens must be a whole number, got {self.num_tokens!r}')
        elif self.num_tokens < 0 or (self.is_spatial and self.num_tokens != self.u.shape[1]):
            raise ValueError(
                f'num_tokens is {self.num_tokens}, but u is {tuple(self.u.shape)}: in the spatial form leave it out, '
                'in scan order give the number of tokens of the map'
            )

    def _check_dtypes(self) -> None:
        if self.u.dtype not in _COMPUTE:
            raise ValueError(f'u is {self.u.dtype}: want float32, float64, bfloat16 or float16')
        if self.order.dtype != torch.int32:
            raise ValueError(
                f'order must be int32, got {self.order.dtype}: take it from mmlocalmamba.directions.scan_orders'
            )
        for name in ('dt', 'B', 'C'):
            value = getattr(self, name)
            if value.dtype != self.u.dtype:
                raise ValueError(f'{name} is {value.dtype}, but u is {self.u.dtype}: give u, dt, B and C one dtype')
        for name in ('A', 'D', 'dt_bias'):
            value = getattr(self, name)
            if value.dtype != self.compute_dtype:
                raise ValueError(
                    f'{name} is {value.dtype}, want {self.compute_dtype}: the parameters of the scan are kept in full '
                    'precision'
                )


class ScanGrads(NamedTuple):
    """Gradients of the tensors of a :class:`ScanInputs`, each in the shape and dtype of its own."""

    u: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor
    dt_bias: Tensor
    dt_weight: Tensor | None = None

    def like(self, inputs: ScanInputs) -> ScanGrads:
        """Cast each gradient to the dtype of its tensor, contiguous."""
        cast: list[Any] = [
            None if grad is None else grad.to(getattr(inputs, name).dtype).contiguous()
            for name, grad in zip(self._fields, self, strict=True)
        ]
        return ScanGrads(*cast)


def check_kept_states(states: Tensor, wanted: tuple[int, ...], grad_y: Tensor, inputs: ScanInputs) -> None:
    """Check what the backward of a scan is given besides its inputs.

    Raises:
        ValueError: If ``states`` are not those that a forward with these inputs keeps, or ``grad_y`` is not shaped as
            its output.
    """
    if tuple(states.shape) != wanted:
        raise ValueError(
            f'states has shape {tuple(states.shape)}, want {wanted}: call the forward with keep_states=True, on the '
            'same inputs and the same back end'
        )
    shape = (inputs.u.shape[0], inputs.order.shape[0], inputs.map_tokens, inputs.u.shape[-1])
    if tuple(grad_y.shape) != shape or grad_y.device != inputs.u.device:
        raise ValueError(
            f'grad_y is {tuple(grad_y.shape)} on {grad_y.device}, want {shape} on {inputs.u.device}, as the output is'
        )
