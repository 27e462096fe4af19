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
from mmlocalmamba.ops.backends.triton import CHUNK, QUAD, interpreted
from mmlocalmamba.ops.backends.triton.scan_settings import ScanSettings

DTYPES = {'float32': 'fp32', 'float16': 'fp16', 'bfloat16': 'bf16'}
SETTINGS = ScanSettings()
_TOKENS = {'u', 'dt', 'B', 'C', 'y', 'grad', 'd_u'}
_FULL = {'A', 'D', 'dt_bias', 'dt_weight', 'own_states', 'own_grads', 'dt_sums', 'states', 'd_BC', 'd_sums', 'buffer'}
_ALIGNED = re.compile(r'dim|d_state|(u|B|C|g|du)_s[blk]')
"""Sizes and strides that are multiples of 16 in the models, which a launch tells the compiler."""

_NEXT_TO_EACH_OTHER = {'u_sd', 'dt_sd', 'g_sd', 'B_sn', 'C_sn'}
"""Strides that are 1 in the models, which a launch tells the compiler too."""


@dataclass(frozen=True)
class Variant:
    """A kernel as it is launched in training.

    Attributes:
        name: What it does.
        kernel: The kernel's name.
        channels: Channels of a program.
        warps: Warps of a program.
        loops: Its loops over tokens: place among the innermost loops with exponentials, and tokens of an iteration.
        constants: Its compile-time constants.
    """

    name: str
    kernel: str
    channels: int
    warps: int
    loops: tuple[tuple[int, int], ...]
    constants: dict[str, Any]


@dataclass(frozen=True)
class KernelReport:
    """Resources of one compiled kernel, and what its loops over tokens do.

    Attributes:
        kernel: What it does.
        capability: Compute capability that it was compiled for, such as 90.
        registers: Registers per thread; 255 are the most there are.
        spill_bytes: Bytes of local memory per thread: 0 where nothing was spilled.
        shared_bytes: Bytes of shared memory per program.
        exponentials: Exponentials per token, channel and state.
        exchanges: Instructions per token and 32 channels that exchange values between lanes.
    """

    kernel: str
    capability: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    exponentials: float
    exchanges: float


def variants(d_state: int, rank: int, spatial: bool = True) -> list[Variant]:
    """List what is launched in training; arguments as those of :func:`compile_report`."""
    shared = {
        'SPATIAL': spatial,
        'LOG_A': rank > 0,
        'WHOLE': d_state == _power_of_two(d_state),
        'TILE': SETTINGS.tile,
        'BLOCK_N': _power_of_two(d_state),
        'BLOCK_R': max(16, _power_of_two(rank)) if rank else 0,
    }
    forward = (SETTINGS.forward_channels, SETTINGS.forward_warps)
    backward = (SETTINGS.backward_channels, SETTINGS.backward_warps)
    walk = {**shared, 'CHUNK': CHUNK}
    return [
        Variant('forward', 'forward_kernel', *forward, ((-1, 1),), {**walk, 'LOCAL': False, 'KEEP': True}),
        Variant('forward: segments', 'forward_kernel', *forward, ((-1, 1),), {**walk, 'LOCAL': True, 'KEEP': False}),
        Variant('backward', 'gradient_kernel', *backward, ((-3, QUAD), (-2, QUAD)), {**walk, 'ADD': True}),
        Variant('backward: segments', 'segment_gradient_kernel', *backward, ((-1, 1),), shared),
    ]


def compile_report(
    capability: int = 90, dtype: str = 'float32', d_state: int = 16, rank: int = 12, spatial: bool = True
) -> list[KernelReport]:
    """Compile every kernel ahead of time, and report what it needs. No GPU is used.

    Args:
        capability: Compute capability: 80 (A100), 90 (H100), ...
        dtype: Type of the tokens: 'float32', 'float16' or 'bfloat16'.
        d_state: Number of states N.
        rank: Rank R of the step sizes; 0 for step sizes of every channel.
        spatial: Whether tokens lie in their own places, not in scan order.

    Raises:
        RuntimeError: If Triton is missing, too old, or in its interpreter.
    """
    check_compiler()
    return [_report(variant, capability, dtype, d_state) for variant in variants(d_state, rank, spatial)]


def _report(variant: Variant, capability: int, dtype: str, d_state: int) -> KernelReport:
    compiled = _compile(variant, capability, dtype)
    registers, spills = resources(compiled.asm['cubin'])
    loops = [loop for loop in _innermost_loops(compiled.asm['ptx']) if 'ex2.approx' in loop]
    exponentials = exchanges = 0.0
    for place, tokens in variant.loops:
        per_token_and_channel = 32 * variant.warps / (tokens * variant.channels)
        exponentials += loops[place].count('ex2.approx') * per_token_and_channel / _power_of_two(d_state)
        exchanges += loops[place].count('shfl.sync') * per_token_and_channel
    return KernelReport(
        variant.name, capability, registers, spills, int(compiled.metadata.shared), exponentials, exchanges
    )


def _compile(variant: Variant, capability: int, dtype: str) -> Any:
    """Compile a kernel as a launch would with tensors as they are in the models."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mmlocalmamba.ops.backends.triton import scan_backward, scan_forward

    kernel = getattr(scan_forward, variant.kernel, None) or getattr(scan_backward, variant.kernel)
    constants = {**variant.constants, 'BLOCK_D': variant.channels}
    constants |= {name: 1 for name in _NEXT_TO_EACH_OTHER if name in kernel.arg_names}
    types = {name: 'constexpr' if name in constants else _type(name, dtype, constants) for name in kernel.arg_names}
    aligned = {
        (place,): [['tt.divisibility', 16]]
        for place, name in enumerate(kernel.arg_names)
        if types[name].startswith('*') or (types[name] == 'i32' and _ALIGNED.fullmatch(name))
    }
    source = ASTSource(fn=kernel, signature=types, constexprs=constants, attrs=aligned)
    options = {'num_warps': variant.warps, 'num_stages': SETTINGS.num_stages}
    return triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)


def _innermost_loops(ptx: str) -> list[str]:
    """Cut the innermost loops out of a kernel: what lies between a label and a jump back to it, with no other such."""
    lines = ptx.splitlines()
    labels = {match[1]: place for place, line in enumerate(lines) if (match := re.match(r'(\$L\w+):', line.strip()))}
    jumps = ((place, re.search(r'\bbra(?:\.uni)?\s+(\$L\w+);', line)) for place, line in enumerate(lines))
    loops = sorted((labels[jump[1]], end) for end, jump in jumps if jump and labels[jump[1]] < end)
    inner = [loop for loop in loops if not any(loop[0] <= a and b <= loop[1] and (a, b) != loop for a, b in loops)]
    return ['\n'.join(lines[start:end]) for start, end in inner]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


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


def _type(name: str, dtype: str, constants: dict[str, Any]) -> str:
    if name in _TOKENS or (name == 'd_dt' and not constants['BLOCK_R']):
        return f'*{DTYPES[dtype]}'
    if name in _FULL or name == 'd_dt':
        return '*fp32'
    return '*i32' if name == 'order' else 'i32'


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
