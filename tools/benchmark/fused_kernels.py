"""The Triton kernels of what stands around the scan, as the models launch them, and what a compiler makes of them.

Launches are recorded from the operations themselves, called with tensors that have no data. So what is compiled is
what runs, with the same constants and the same alignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from compiler_report import check_compiler, resources
from mmlocalmamba.analysis.text_table import align
from mmlocalmamba.ops import ChannelGate
from mmlocalmamba.ops.channel_gate import empty_outputs

TYPES = {
    torch.float64: '*fp64',
    torch.float32: '*fp32',
    torch.float16: '*fp16',
    torch.bfloat16: '*bf16',
    torch.int32: '*i32',
}
GATE = ChannelGate._fields[:-1]
EPS = 1e-5


@dataclass(frozen=True)
class FusedReport:
    """Resources of one compiled kernel.

    Attributes:
        kernel: Its operation, its name, and the channels D that it was compiled for.
        registers: Registers per thread; 255 are the most there are.
        spill_bytes: Bytes of local memory per thread: 0 where nothing was spilled.
        shared_bytes: Bytes of shared memory per program.
        exchanges: Instructions that exchange values between lanes, as written.
    """

    kernel: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    exchanges: int


Inputs = tuple[dict[str, Any], dict[str, Any]]
"""Keyword arguments of an operation's forward and of its backward."""


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device='meta')


def _add_norm(dtype: torch.dtype, channels: int) -> Inputs:
    hidden, stream, table = _empty(2, 196, channels, dtype=dtype), _empty(2, 196, channels), _empty(196, channels)
    shared = dict(weight=_empty(channels), cos=table, sin=table, eps=EPS)
    return dict(hidden=hidden, before=stream, **shared), dict(
        grad_normed=stream, grad_residual=stream, residual=stream, **shared
    )


def _causal_conv(dtype: torch.dtype, channels: int) -> Inputs:
    order = _empty(4, 196, dtype=torch.int32)
    x = _empty(2, 196, 2 * channels, dtype=dtype)[..., :channels]
    shared = dict(x=x, weight=_empty(4, channels, 4), bias=_empty(4, channels), order=order)
    return shared, dict(grad_y=_empty(2, 196, 4, channels, dtype=dtype), **shared)


def _depthwise_conv(dtype: torch.dtype, channels: int) -> Inputs:
    x = _empty(2, 56, 56, 2 * channels, dtype=dtype)[..., :channels]
    shared = dict(x=x, weight=_empty(channels, 1, 3, 3), bias=_empty(channels))
    return shared, dict(grad_y=_empty(2, 56, 56, channels, dtype=dtype), **shared)


def _scans(dtype: torch.dtype, channels: int) -> Inputs:
    hidden = channels // 8
    shapes = ((channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,))
    weights = {name: _empty(*shape) for name, shape in zip(GATE, shapes, strict=True)}
    y, z = _empty(2, 4, 196, channels, dtype=dtype), _empty(2, 196, 2 * channels, dtype=dtype)[..., channels:]
    shared = dict(y=y, z=z, **weights, eps=EPS)
    out, mean, gates = empty_outputs(y)
    return shared, dict(grad_out=out, mean=mean, gates=gates, **shared)


def _merge_and_normalise(dtype: torch.dtype, channels: int) -> Inputs:
    norm = dict(out_norm_weight=_empty(channels), out_norm_bias=_empty(channels), out_eps=EPS)
    forward, backward = _scans(dtype, channels)
    return {**forward, **norm}, {**backward, **norm}


OPERATIONS: dict[str, tuple[Callable[[torch.dtype, int], Inputs], tuple[int, ...]]] = {
    'add_norm': (_add_norm, (192, 384)),
    'causal_conv': (_causal_conv, (384,)),
    'depthwise_conv': (_depthwise_conv, (192,)),
    'gate_and_merge': (_scans, (384, 768)),
    'merge_and_normalise': (_merge_and_normalise, (192, 1536)),
}
"""Makes the inputs of each operation; the fewest and the most channels that the published models give it."""


def recorded_launches(operation: str, dtype: torch.dtype, channels: int) -> list[Any]:
    """List what an operation launches in a training step on tokens of a type; nothing is run."""
    from mmlocalmamba.ops.backends.triton.launch import intercepted

    module = import_module(f'mmlocalmamba.ops.backends.triton.{operation}')
    forward, backward = OPERATIONS[operation][0](dtype, channels)
    launches: list[Any] = []
    with intercepted(launches.append):
        module.forward(**forward)
        module.backward(**backward)
    return launches


def fused_report(capability: int = 90, dtype: str = 'float32') -> list[FusedReport]:
    """Compile every kernel around the scan ahead of time, at the widths of the published models.

    Args:
        capability: Compute capability: 80 (A100), 90 (H100), 100 (B200), ...
        dtype: Type of the tokens: 'float32', 'float16' or 'bfloat16'.

    Raises:
        RuntimeError: If Triton is missing, too old, or in its interpreter.
    """
    check_compiler()
    reports: list[FusedReport] = []
    for operation, (_, widths) in OPERATIONS.items():
        for channels in widths:
            for launch in recorded_launches(operation, getattr(torch, dtype), channels):
                name = f'{operation}: {launch.kernel.__name__.removesuffix("_kernel")}, D = {channels}'
                reports.append(_compile(name, launch, capability))
    return reports


def fused_table(capability: int, dtype: str) -> str:
    """Format :func:`fused_report` as a table with a row per kernel."""
    return align([asdict(report) for report in fused_report(capability, dtype)])


def _compile(name: str, launch: Any, capability: int) -> FusedReport:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants, types, attributes = dict(launch.constants), {}, {}
    for index, (param, value) in enumerate(zip(launch.kernel.params, launch.arguments, strict=False)):
        specialised = not param.do_not_specialize
        if isinstance(value, Tensor):
            types[param.name] = TYPES[value.dtype]
        elif specialised and value == 1:
            constants[param.name] = value
        else:
            types[param.name] = 'i32'
        if isinstance(value, Tensor) or (specialised and value % 16 == 0):
            attributes[(index,)] = [['tt.divisibility', 16]]
    types.update(dict.fromkeys(constants, 'constexpr'))
    signature = {param.name: types[param.name] for param in launch.kernel.params}
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    target = GPUTarget('cuda', capability, 32)
    compiled = triton.compile(source, target=target, options={'num_warps': launch.warps})
    registers, spills = resources(compiled.asm['cubin'])
    exchanges = compiled.asm['ptx'].count('shfl.sync')
    return FusedReport(name, registers, spills, int(compiled.metadata.shared), exchanges)
