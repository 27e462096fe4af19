"""Where the time of a model goes: its forward and backward by part, from PyTorch's profiler.

Every operation's own time counts for one part. These rules decide, the first that fits:

1. The selective scan counts as the scan, wherever it is.
2. What is done inside a module that is a part of its own counts for that module: patch embedding and merging, or
   SCAttn and the sum over directions with LocalVMamba's norm and gate.
3. The rest goes by the names of operations. An operation without a rule counts for the one that it is a part of: a view
   inside a matrix product counts for the product, but a copy there is a copy.
4. What no rule knows is the rest, Python and the autograd engine included.

A backward operation is taken to be where its forward was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from compared_models import BACKWARD, draw_image, label, side_of, step_of
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.layers.merge import DirectionMerge
from mmlocalmamba.models.layers.patch import PatchEmbed, PatchMerging
from operations import (
    CONVOLUTION,
    COPIES,
    GATES,
    NORMS,
    PATCHES,
    POINT_WISE,
    PROJECTIONS,
    REST,
    SELECTIVE_SCAN,
    part_of_operation,
)
from timing import Result, Setup, Table

_NAMES: dict[str, tuple[str, ...]] = {
    PROJECTIONS: ('addmm', 'mm', 'bmm', 'baddbmm', 'linear', 'matmul', 'mkldnn_linear'),
    NORMS: ('layer_norm', 'rms_norm', 'native_layer_norm', 'native_layer_norm_backward', '_fused_rms_norm'),
    COPIES: ('copy_', 'clone', 'contiguous', 'cat', 'stack', 'constant_pad_nd', 'index', 'index_select', 'gather'),
    POINT_WISE: (
        *('add', 'add_', 'sub', 'mul', 'mul_', 'div', 'div_', 'neg', 'exp', 'exp_', 'pow', 'rsqrt', 'sum', 'mean'),
        *('silu', 'silu_', 'silu_backward', 'sigmoid', 'sigmoid_backward', 'gelu', 'gelu_backward', 'fill_'),
        *('zero_', 'zeros', 'zeros_like', 'select_backward', 'slice_backward', '_fused_rms_norm_backward'),
    ),
}
_BY_NAME = {f'aten::{name}': part for part, names in _NAMES.items() for name in names}
_COMPOSED = ('aten::rms_norm',)
"""Operations that consist of others, all of which count for the same."""

PARTS = (PROJECTIONS, CONVOLUTION, SELECTIVE_SCAN, GATES, NORMS, COPIES, POINT_WISE, PATCHES, REST)
_MODULES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    ((PatchEmbed, PatchMerging), PATCHES),
    (DirectionMerge, GATES),
)
_MARK = 'benchmark part: '
_WHOLE = 'benchmark whole: '

Profile = dict[str, dict[str, float]]
"""Milliseconds by pass ('forward', 'backward') and part."""


def profiles(setup: Setup) -> Result:
    """Profile the forward and the backward of LocalVMamba and LocalVim by part."""
    side, arch = side_of(setup), 'micro' if setup.small else 'tiny'
    models: dict[str, nn.Module]
    models = {'LocalVMamba': LocalVMamba(arch), 'LocalVim': LocalVim(arch, img_size=side, out_indices=(-1,))}
    tables = []
    for name, model in models.items():
        found = profile_parts(model, step_of(model, draw_image(setup, side)), setup)
        tables.append(Table(label(name, setup), _rows(found)))
    notes = ["Times are the operations' own, under the profiler, which slows them down a little."]
    if setup.device == 'cuda':
        notes.append('On the GPU they are those of kernels: what Python does meanwhile is not in them.')
    return Result(f'profile of forward and backward, {setup.batch} x 3 x {side} x {side}', tables=tables, notes=notes)


def _rows(found: Profile) -> list[dict[str, Any]]:
    rows = []
    sums = {phase: sum(parts.values()) for phase, parts in found.items()}
    for part in (*PARTS, 'all'):
        row: dict[str, Any] = {'part': part}
        for phase, parts in found.items():
            milliseconds = sums[phase] if part == 'all' else parts[part]
            row |= {f'{phase} ms': milliseconds, f'{phase} %': 100 * milliseconds / sums[phase]}
        rows.append(row)
    return rows


def profile_parts(model: nn.Module, step: Callable[[], Any], setup: Setup) -> Profile:
    """Profile a training step of a model.

    Args:
        model: The model.
        step: What runs its forward and backward once.
        setup: Number of rounds, of which ``few_runs`` are profiled and averaged, and device.

    Returns:
        Milliseconds of each pass and part, all parts of :data:`PARTS` included.
    """
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (setup.device == 'cuda')
    with _marked(model):
        step()
        with profile(activities=activities) as profiler:
            for _ in range(setup.few_runs):
                with record_function(_WHOLE):
                    step()
    events = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CPU]
    return _add_up(events, setup)


@contextmanager
def _marked(model: nn.Module) -> Iterator[None]:
    """Mark in the profile when a module runs that is a part of its own."""
    handles: list[Any] = []
    for module in model.modules():
        for kinds, part in _MODULES:
            if isinstance(module, kinds):
                open_marks: list[record_function] = []

                def enter(_: Any, __: Any, part: str = part, marks: list[record_function] = open_marks) -> None:
                    marks.append(record_function(_MARK + part))
                    marks[-1].__enter__()

                def leave(_: Any, __: Any, ___: Any, marks: list[record_function] = open_marks) -> None:
                    marks.pop().__exit__(None, None, None)

                handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add_up(events: list[FunctionEvent], setup: Setup) -> Profile:
    found: Profile = {phase: dict.fromkeys(PARTS, 0.0) for phase in ('forward', 'backward')}
    forwards = _creators(events)
    for event in events:
        chain = list(_with_ancestors(event))
        if not chain[-1].name.startswith(_WHOLE) and setup.device == 'cpu':
            continue
        node = next((e for e in chain if e.name.startswith('autograd::engine::evaluate_function')), None)
        creator = None if node is None else forwards.get((node.fwd_thread, node.sequence_nr))
        phase = 'forward' if node is None and all(e.name != BACKWARD for e in chain) else 'backward'
        part = part_of(chain, creator)
        time = event.self_cpu_time_total if setup.device == 'cpu' else event.self_device_time_total
        found[phase][part] += time / 1e3 / setup.few_runs
    return found


def _with_ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    current: FunctionEvent | None = event
    while current is not None:
        yield current
        current = current.cpu_parent


def _creators(events: list[FunctionEvent]) -> dict[tuple[int | None, int], FunctionEvent]:
    """Find the forward operation that made each node of the graph, by thread and number."""
    # Operations that make no node carry the number of the next one: the last to start is the one that made it.
    creators: dict[tuple[int | None, int], FunctionEvent] = {}
    for event in events:
        key = (event.thread, event.sequence_nr)
        if event.sequence_nr < 0 or event.fwd_thread:
            continue
        if key not in creators or event.time_range.start > creators[key].time_range.start:
            creators[key] = event
    return creators


def part_of(chain: list[FunctionEvent], creator: FunctionEvent | None = None) -> str:
    """Return the part that an operation counts for.

    Args:
        chain: The operation, what it is a part of, and so on.
        creator: In a backward, the forward operation whose gradient is computed.
    """
    rules = [_rule(event.name) for event in chain]
    if SELECTIVE_SCAN in rules:
        return SELECTIVE_SCAN
    for event in [*chain, *([] if creator is None else _with_ancestors(creator))]:
        if event.name.startswith(_MARK):
            return event.name.removeprefix(_MARK)
        if event.name in _COMPOSED:
            return _BY_NAME[event.name]
    return next((rule for rule in rules if rule is not None), REST)


def _rule(name: str) -> str | None:
    if name.startswith('aten::') and 'conv' in name:
        return CONVOLUTION
    return part_of_operation(name) or _BY_NAME.get(name)
