"""What the package's operations are called, and which part of a model each of them belongs to.

Nothing else in the benchmarks knows an operation's name. A backward is called like its forward, with ``_backward``
behind it.
"""

from __future__ import annotations

import re

NAMESPACE = 'mmlocalmamba'
SCAN = 'selective_scan'

PROJECTIONS, CONVOLUTION, SELECTIVE_SCAN = 'projections', 'convolution', 'scan'
GATES, NORMS, COPIES, POINT_WISE = 'SCAttn, sum of directions', 'norms', 'copies', 'element by element'
PATCHES, REST = 'patch embedding, merging', 'rest'

PART_OF_OPERATION = {
    SCAN: SELECTIVE_SCAN,
    'causal_conv1d': CONVOLUTION,
    'depthwise_conv2d_silu': CONVOLUTION,
    'gate_and_merge': GATES,
    'merge_and_normalise': GATES,
    'add_rotate_rms_norm': NORMS,
    'scan_orders': REST,
    'resize_map': REST,
    'of_traced_size': REST,
    'recurrence': SELECTIVE_SCAN,
}

# An operation itself, 'mmlocalmamba::name', or what torch.library calls its node of the graph.
_NAME = re.compile(rf'{NAMESPACE}(?:::|_)(\w+)')


def full_name(operation: str, backward: bool = False) -> str:
    """Return the name by which PyTorch's dispatcher knows an operation or its backward."""
    return f'{NAMESPACE}::{operation}{"_backward" if backward else ""}'


def part_of_operation(event: str) -> str | None:
    """Return the part that an event of the profiler belongs to by its name; None if it is no operation of the package.

    Example:
        >>> part_of_operation('mmlocalmamba::selective_scan_backward')
        'scan'
        >>> part_of_operation('GeneratedBackwardFor_mmlocalmamba_causal_conv1d_defaultBackward')
        'convolution'
        >>> part_of_operation('aten::add')
    """
    found = _NAME.search(event)
    if found is None:
        return None
    return next((part for name, part in PART_OF_OPERATION.items() if found[1].startswith(name)), None)
