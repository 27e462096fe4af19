"""What Triton's compiler makes of our kernels for a GPU, found without one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmlocalmamba.compat.versions import release_numbers
from mmlocalmamba.ops.backends.triton import BLOCKS, interpreted

DTYPES = {'float32': 'fp32', 'float16': 'fp16', 'bfloat16': 'bf16'}
_TOKENS = {'u', 'dt', 'B', 'C', 'y', 'grad', 'd_u', 'd_dt'}
_FULL = {'A', 'D', 'dt_bias', 'states', 'dt_sums', 'tiles', 'grad_tiles', 'd_B', 'd_C', 'd_D', 'd_dt_bias'}


@dataclass(frozen=True)
class KernelReport:
    """Resources of one compiled kernel.

    Attributes:
        kernel: Its name, and what this variant of it writes.
        capability: Compute capability that it was compiled for, such as 90.
        registers: Registers per thread; 255 are the most there are.
        spill_bytes: Bytes of local memory per thread: 0 where nothing was spilled.
        shared_bytes: Bytes of shared memory per program.
        exchanges: Instructions that exchange values between lanes, as written: 0 where a state is in one lane.
    """

    kernel: str
    capability: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    exchanges: int


def variants(d_state: int) -> list[tuple[str, str, dict[str, Any]]]:
    """List what is launched in training: a name, the kernel and its compile-time constants."""
    block_n = 1 << (d_state - 1).bit_length()
    width = {'BLOCK_D': BLOCKS.channels}
    tile = {'SPATIAL': True, 'TILE': BLOCKS.tile}
    walk = {**tile, **width, 'SEGMENT': BLOCKS.segment[0], 'BLOCK_N': block_n}
    return [
        ('scan: states', 'scan_kernel', {**walk, 'WRITE': 0}),
        ('scan: outputs', 'scan_kernel', {**walk, 'WRITE': 1}),
        ('scan: tiles', 'scan_kernel', {**walk, 'WRITE': 2}),
        ('carry', 'carry_kernel', {**width, 'BLOCK_N': block_n, 'REVERSE': False}),
        ('reverse: states', 'reverse_kernel', {**walk, 'WRITE': 0}),
        ('reverse: tiles', 'reverse_kernel', {**walk, 'WRITE': 2}),
        ('gradients', 'gradient_kernel', {**tile, **width, 'STEPS': BLOCKS.tile.bit_length() - 1}),
    ]


def compile_report(capability: int = 90, dtype: str = 'float32', d_state: int = 16) -> list[KernelReport]:
    """Compile every kernel ahead of time, and report what it needs. No GPU is used.

    Args:
        capability: Compute capability: 80 (A100), 90 (H100), ...
        dtype: Type of the tokens: 'float32', 'float16' or 'bfloat16'.
        d_state: Number of states N.

    Raises:
        RuntimeError: If Triton is missing, too old, or in its interpreter.
    """
    check_compiler()
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmlocalmamba.ops.backends.triton import kernels

    reports = []
    for name, kernel_name, constants in variants(d_state):
        kernel = getattr(kernels, kernel_name)
        # As a launch does, take the strides of states for 1 and pointers for aligned.
        constants = {**constants, **{arg: 1 for arg in ('B_sn', 'C_sn') if arg in kernel.arg_names}}
        types = {arg: 'constexpr' if arg in constants else _type(arg, dtype) for arg in kernel.arg_names}
        aligned = {(i,): [['tt.divisibility', 16]] for i, arg in enumerate(kernel.arg_names) if types[arg][0] == '*'}
        source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
        compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options={'num_warps': 1})
        registers, spills = resources(compiled.asm['cubin'])
        shared, exchanges = int(compiled.metadata.shared), compiled.asm['ptx'].count('shfl.sync')
        reports.append(KernelReport(name, capability, registers, spills, shared, exchanges))
    return reports


def check_compiler() -> None:
    """Raise a RuntimeError that says why the kernels cannot be compiled ahead of time here, if they cannot."""
    if interpreted():
        raise RuntimeError('kernels cannot be compiled under TRITON_INTERPRET=1: unset it, and start again')
    try:
        found = version('triton')
    except PackageNotFoundError as error:
        raise RuntimeError('compiling the kernels ahead of time wants triton >= 3.3: pip install triton') from error
    if release_numbers(found) < (3, 3):
        raise RuntimeError(f'compiling the kernels ahead of time wants triton >= 3.3, but {found} is installed')


def _type(arg: str, dtype: str) -> str:
    if arg in _TOKENS:
        return f'*{DTYPES[dtype]}'
    if arg in _FULL:
        return '*fp32'
    return '*i32' if arg == 'order' else 'i32'


def resources(cubin: bytes) -> tuple[int, int]:
    """Read registers and local memory of a compiled kernel with the cuobjdump that comes with Triton."""
    import triton

    tool = Path(triton.__file__).parent / 'backends' / 'nvidia' / 'bin' / 'cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), '--dump-resource-usage', file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {key: int(value) for key, value in re.findall(r'(REG|STACK|LOCAL):(\d+)', text)}
    if 'REG' not in found:
        raise RuntimeError(f'cuobjdump reports no registers:\n{text}')
    return found['REG'], max(found.get('STACK', 0), found.get('LOCAL', 0))
