"""The scan as fused Triton kernels, forward and backward: no token is copied into scan order.

Tokens are read in their own dtype and outputs written in it. Everything between is float32 (float64 for float64
tokens), in registers. Step sizes of low rank are expanded inside the kernels, a tile of tokens at a time, and are never
stored for every channel of a map.

One program walks over a whole scan where that fills the GPU. Otherwise a scan is cut into segments: a first launch
finds what each segment adds to the state, and each program of the second one carries that on to its own segment. The
forward keeps the state before every chunk of 64 steps but the first, and that is all that the backward needs besides
the inputs. Every sum has a fixed order. Nothing waits for the device, so that CUDA graphs can capture all of it.

The kernels use nothing that only NVIDIA's GPUs have. They have been run in Triton's interpreter and compiled for compute
capabilities 8.0, 9.0 and 10.0. They have not been run or compiled for AMD's GPUs, whose warps have 64 lanes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...scan_inputs import ScanGrads, ScanInputs
from .scan_settings import CHUNK, ScanSettings, default_settings, multiprocessors, set_rule, settings_for

MIN_CAPABILITY = (7, 0)

TAKES_FACTORS = True

QUAD = 4
"""Tokens before which the backward notes a state; ``QUAD`` of ``scan_backward.py``."""


def interpreted() -> bool:
    """Tell whether Triton runs kernels in its interpreter, in this process."""
    return os.environ.get('TRITON_INTERPRET', '0').lower() in ('1', 'true', 'on', 'yes', 'y')


def why_not(device_type: str) -> str | None:
    """Say why this back end cannot run on a kind of device; None if it can."""
    if find_spec('triton') is None:
        return 'triton is not installed: `pip install triton` (Linux; the CUDA wheels of PyTorch bring it).'
    if interpreted():
        return None
    if device_type != 'cuda':
        return 'its kernels run on CUDA devices (or, far slower, under TRITON_INTERPRET=1).'
    if not torch.cuda.is_available():
        return 'PyTorch sees no CUDA device: check `nvidia-smi`, and that PyTorch is a CUDA build.'
    capability = torch.cuda.get_device_capability()
    if torch.version.hip is None and capability < MIN_CAPABILITY:
        return f'the GPU has compute capability {capability}, and Triton wants {MIN_CAPABILITY} or newer.'
    return None


@lru_cache(maxsize=1)
def _kernels() -> tuple[ModuleType, ModuleType]:
    from . import scan_backward, scan_forward

    return scan_forward, scan_backward


def states_shape(inputs: ScanInputs) -> tuple[int, ...]:
    """Give the shape of the states kept for the backward: those that enter the chunks but the first."""
    directions, channels, d_state = inputs.A.shape
    chunks = -(-inputs.order.shape[1] // CHUNK)
    return (inputs.u.shape[0], directions, max(chunks - 1, 0), channels, d_state)


class _Launch:
    """One call's tensors and sizes, cut into pieces of work."""

    def __init__(self, inputs: ScanInputs, segments: int, width: int, warps: int, programs: int) -> None:
        self.inputs, self.width, self.warps = inputs, width, warps
        self.batch, self.rows = inputs.u.shape[:2]
        self.length = inputs.order.shape[1]
        self.directions, self.channels, self.d_state = inputs.A.shape
        self.rank = 0 if inputs.dt_weight is None else inputs.dt_weight.shape[-1]
        chunks = -(-self.length // CHUNK)
        self.segment_length = -(-chunks // segments) * CHUNK
        self.segments = -(-self.length // self.segment_length) if self.length else 0
        self.blocks = -(-self.channels // width)
        self.works = self.batch * self.directions * self.segments * self.blocks
        self.programs = min(self.works, programs * multiprocessors(inputs.u.device))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that all kernels take last."""
        return (self.length, self.segment_length, self.channels, self.d_state, self.rank, self.directions,
                self.segments, self.blocks)  # fmt: skip

    @property
    def block_r(self) -> int:
        """Padded rank of the step sizes, of which a matrix product wants 16 or more; 0 where they have none."""
        return max(16, _power_of_two(self.rank)) if self.inputs.dt_weight is not None else 0

    def new_empty(self, *shape: int) -> Tensor:
        """Make room in the dtype that is computed in."""
        return self.inputs.A.new_empty(shape)

    def segment_buffers(self) -> tuple[Tensor, Tensor]:
        """Make room for a state and a sum of step sizes of each segment."""
        each = (self.batch, self.directions, self.segments)
        return self.new_empty(*each, self.channels, self.d_state), self.new_empty(*each, self.channels)

    def run(self, kernel: Any, *arguments: Any, num_stages: int, **constants: Any) -> None:
        """Launch a kernel on the device of the tensors, which need not be the current one."""
        constants.update(SPATIAL=self.inputs.is_spatial, LOG_A=self.inputs.log_A, BLOCK_D=self.width)
        whole = self.channels % self.width == 0 and self.d_state == _power_of_two(self.d_state)
        constants.update(WHOLE=whole, BLOCK_N=_power_of_two(self.d_state), BLOCK_R=self.block_r)
        with torch.cuda.device_of(self.inputs.A):
            kernel[(self.programs,)](*arguments, **constants, num_warps=self.warps, num_stages=num_stages)


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _in_layout(inputs: ScanInputs) -> ScanInputs:
    """Let parameters and order be contiguous, and put something into the place of an absent weight."""
    changes = {name: getattr(inputs, name).contiguous() for name in ('A', 'D', 'dt_bias', 'order')}
    dt_weight = None if inputs.dt_weight is None else inputs.dt_weight.contiguous()
    return inputs._replace(**changes, dt_weight=dt_weight)


def _u_strides(inputs: ScanInputs) -> tuple[int, ...]:
    """Strides of u by image, row, direction and channel; all directions share the tokens of the spatial form."""
    u = inputs.u
    return (u.stride(0), u.stride(1), 0 if inputs.is_spatial else u.stride(2), u.stride(-1))


def forward(inputs: ScanInputs, keep_states: bool) -> tuple[Tensor, Tensor]:
    """Scan; returns y and, if asked to keep them, the states that enter the chunks but the first."""
    inputs = _in_layout(inputs)
    settings = settings_for(inputs)
    launch = _Launch(inputs, settings.segments, settings.forward_channels, settings.forward_warps,
                     settings.forward_programs)  # fmt: skip
    u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, _ = inputs
    # Zeros, because an order may leave tokens out, and nothing here waits for the device to find out.
    y = u.new_zeros(launch.batch, launch.directions, inputs.map_tokens, launch.channels)
    states = A.new_empty(states_shape(inputs) if keep_states else (0,))
    if launch.works == 0:
        return y, states
    own_states, dt_sums = launch.segment_buffers()
    buffer = launch.new_empty(launch.programs, settings.tile, launch.width)
    for local in (True, False) if launch.segments > 1 else (False,):
        launch.run(
            _kernels()[0].forward_kernel,
            u, dt, A, B, C, D, dt_bias, dt_bias if dt_weight is None else dt_weight, order,
            own_states, dt_sums, states, y, buffer, launch.works, inputs.map_tokens, *launch.sizes,
            *_u_strides(inputs), *dt.stride(), *B.stride(), *C.stride(),
            LOCAL=local, KEEP=keep_states and not local, CHUNK=CHUNK, TILE=settings.tile,
            num_stages=settings.num_stages,
        )  # fmt: skip
    return y, states


def backward(grad_y: Tensor, inputs: ScanInputs, states: Tensor) -> ScanGrads:
    """Compute the states of each chunk again from the one that enters it, and from them all gradients."""
    inputs = _in_layout(inputs)
    settings = settings_for(inputs)
    launch = _Launch(inputs, settings.segments_backward, settings.backward_channels, settings.backward_warps,
                     settings.backward_programs)  # fmt: skip
    if launch.works == 0:
        found = {name: getattr(inputs, name) for name in ScanGrads._fields}
        return ScanGrads(**{name: None if x is None else torch.zeros_like(x) for name, x in found.items()})
    own_grads, dt_sums = _segment_gradients(launch, settings, grad_y)
    return _gradients(launch, settings, grad_y, states.contiguous(), own_grads, dt_sums).like(inputs)


def _segment_gradients(launch: _Launch, settings: ScanSettings, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    """Find what each segment adds to the gradient of the state that enters it, where there are several."""
    inputs = launch.inputs
    _, dt, A, _, C, _, dt_bias, order, _, dt_weight, _ = inputs
    own_grads, dt_sums = launch.segment_buffers()
    if launch.segments > 1:
        launch.run(
            _kernels()[1].segment_gradient_kernel,
            grad_y, dt, A, C, dt_bias, dt_bias if dt_weight is None else dt_weight, order, own_grads, dt_sums,
            launch.new_empty(launch.programs, settings.tile, launch.width),
            launch.works, inputs.map_tokens, *launch.sizes, *grad_y.stride(), *dt.stride(), *C.stride(),
            TILE=settings.tile, num_stages=settings.num_stages,
        )  # fmt: skip
    return own_grads, dt_sums


def _gradients(
    launch: _Launch, settings: ScanSettings, grad_y: Tensor, states: Tensor, own_grads: Tensor, dt_sums: Tensor
) -> ScanGrads:
    """Compute all gradients, and add up what the programs have each written for themselves."""
    inputs = launch.inputs
    u, dt, A, B, C, D, dt_bias, order, _, dt_weight, _ = inputs
    batch, directions, channels, d_state = launch.batch, launch.directions, launch.channels, launch.d_state
    # Zeros where the spatial form writes rows: an order may leave tokens out. In scan order every row is a step.
    room = A.new_zeros if inputs.is_spatial else A.new_empty
    d_BC = room((launch.blocks, batch, launch.rows, directions, 2, d_state))
    d_dt = room(dt.shape, dtype=dt.dtype) if dt_weight is None else room((launch.blocks, *dt.shape))
    by_direction = (batch, directions, launch.rows, channels) if inputs.is_spatial else u.shape
    d_u = room(by_direction, dtype=u.dtype)
    du_strides = d_u.stride()[:3] if inputs.is_spatial else (d_u.stride(0), d_u.stride(2), d_u.stride(1))
    d_sums = launch.new_empty(batch * launch.segments, directions, channels, d_state + 2 + launch.rank)
    per_program = CHUNK // QUAD * launch.width * _power_of_two(d_state) + 2 * CHUNK * launch.width
    launch.run(
        _kernels()[1].gradient_kernel,
        grad_y, u, dt, A, B, C, D, dt_bias, dt_bias if dt_weight is None else dt_weight, order, states,
        own_grads, dt_sums, d_u, d_dt, d_BC, d_sums, launch.new_empty(launch.programs, per_program),
        launch.works, inputs.map_tokens, launch.rows, *launch.sizes, batch,
        *grad_y.stride(), *_u_strides(inputs), *dt.stride(), *B.stride(), *C.stride(),
        du_strides[0], du_strides[2], du_strides[1],
        CHUNK=CHUNK, TILE=settings.tile, num_stages=settings.num_stages,
    )  # fmt: skip
    d_B, d_C = d_BC.sum(0).unbind(3)
    d_A, d_D, d_bias, d_weight = d_sums.sum(0).split((d_state, 1, 1, launch.rank), dim=-1)
    return ScanGrads(
        u=d_u.sum(1) if inputs.is_spatial else d_u,
        dt=d_dt if dt_weight is None else d_dt.sum(0),
        A=d_A,
        B=d_B,
        C=d_C,
        D=d_D.squeeze(-1),
        dt_bias=d_bias.squeeze(-1),
        dt_weight=None if dt_weight is None else d_weight,
    )


__all__ = ['ScanSettings', 'default_settings', 'set_rule', 'settings_for']
