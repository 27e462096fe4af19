"""Measures of the scan alone: all of a model's layers, the back ends against each other, the machine's bounds.

Every scan is given what a model's layer gives it, in the layout in which the layer leaves it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compared_models import draw_image, forward_of, label, side_of, step_of, swin
from mmlocalmamba.analysis.measuring import interleaved
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.ops import ScanInputs, available_backends, local_selective_scan
from rates import Rates, cpu_rates, gpu_rates
from scan_calls import ScanCall, ScanWork, backward_calls, forward_calls
from timing import Result, Setup, Table, compare

LAYER_STAGE = 1
"""Stage of LocalVMamba whose first layer the back ends are compared on."""


def scan(setup: Setup) -> Result:
    """Measure the scans of all of LocalVMamba's layers against one forward of Swin."""
    side, image = side_of(setup), draw_image(setup, side_of(setup))
    _, calls = _vmamba_and_calls(setup, image)
    name, base = f"the scans of {label('LocalVMamba', setup)}'s {len(calls)} layers", label('Swin', setup)
    functions = {name: torch.no_grad()(lambda: [call() for call in calls]), base: forward_of(swin(setup, side), image)}
    times = interleaved(functions, setup.runs, setup.device)
    layers = [{**row, 'layers': len(same)} for row, same in _kinds(calls)]
    return Result(
        f'scan alone, {setup.batch} x 3 x {side} x {side}',
        [compare(times, name, base, setup.wanted(0.44), setup.wanted(0.3))],
        [Table('scans', layers)],
        ['L: tokens, D: channels, K: directions, N: states per channel.'],
    )


def _vmamba_and_calls(setup: Setup, image: Tensor) -> tuple[LocalVMamba, list[ScanCall]]:
    model = LocalVMamba('micro' if setup.small else 'tiny').to(setup.device).eval()
    return model, forward_calls(model, image, sum(model.depths))


def _sizes(work: ScanWork) -> dict[str, int]:
    return {'L': work.tokens, 'D': work.channels, 'K': work.directions, 'N': work.d_state}


def _kinds(calls: list[ScanCall]) -> list[tuple[dict[str, int], list[ScanCall]]]:
    """Group calls of the same sizes, whatever their directions."""
    kinds: dict[tuple[int, ...], list[ScanCall]] = {}
    for call in calls:
        kinds.setdefault(tuple(_sizes(call.work).values()), []).append(call)
    return [(_sizes(same[0].work), same) for same in kinds.values()]


def backends(setup: Setup) -> Result:
    """Measure the back ends that can run here against each other on one layer."""
    model, calls = _vmamba_and_calls(setup, draw_image(setup, side_of(setup)))
    call = calls[sum(model.depths[:LAYER_STAGE])]
    reasons = available_backends(setup.device)
    names = [name for name, reason in reasons.items() if reason is None]
    rows = []
    for what, prepare in (('forward', _forward_with), ('forward + backward', _step_with)):
        functions = {f'{name} {what}': prepare(call, name) for name in names}
        times = interleaved(functions, setup.few_runs, setup.device, warm_up=1)
        for base in ('reference', 'chunked'):
            for name in names[: names.index(base)]:
                wanted = setup.wanted(1.0) if (name, base) == ('chunked', 'reference') else None
                rows.append(compare(times, f'{name} {what}', f'{base} {what}', wanted))
    notes = [f'not run: {name}: {reason}' for name, reason in reasons.items() if reason is not None]
    sizes = ', '.join(f'{key} {value}' for key, value in _sizes(call.work).items())
    return Result(f'back ends on one layer of {label("LocalVMamba", setup)}: {sizes}', rows, notes=notes)


def _forward_with(call: ScanCall, backend: str) -> Callable[[], Any]:
    inputs = call.inputs
    return torch.no_grad()(lambda: local_selective_scan(inputs, backend))


def _step_with(call: ScanCall, backend: str) -> Callable[[], Any]:
    values: list[Any] = [
        x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in call.inputs
    ]
    inputs, work = ScanInputs(*values), call.work
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    grad = torch.randn(work.batch, work.directions, work.tokens, work.channels, device=inputs.u.device)

    def run() -> None:
        y = local_selective_scan(inputs, backend)
        torch.autograd.grad(y, leaves, grad.to(y.dtype))

    return run


def bound(setup: Setup) -> Result:
    """Measure each kind of scan beside what its exponentials and its bytes need at least."""
    rates = gpu_rates(torch.cuda.get_device_name()) if setup.device == 'cuda' else cpu_rates(setup)
    arch, image = 'micro' if setup.small else 'tiny', draw_image(setup, side_of(setup))
    vmamba, vim = LocalVMamba(arch), LocalVim(arch, img_size=side_of(setup), out_indices=(-1,))
    models: dict[str, tuple[nn.Module, int]] = {
        'LocalVMamba': (vmamba, sum(vmamba.depths)),
        'LocalVim': (vim, vim.depth),
    }
    tables = []
    for name, (model, depth) in models.items():
        model = model.to(setup.device)
        passes = {
            'forward': forward_calls(model.eval(), image, depth),
            'backward': backward_calls(step_of(model, image), depth),
        }
        for what, calls in passes.items():
            tables.append(_bound_table(f'{label(name, setup)} {what}', what, calls, rates, setup))
    notes = [
        f'{rates.exponentials / 1e9:.2f} G exponentials and {rates.bytes / 1e9:.1f} GB per second: {rates.source}.',
        'Layers of the same sizes are added up.',
        'At least needed: one exponential per direction, token, channel and state in either pass, and every input and '
        'output moved once. Both the forward and the backward compute more than exponentials.',
    ]
    return Result('scan beside its bounds', tables=tables, notes=notes)


def _bound_table(title: str, what: str, calls: list[ScanCall], rates: Rates, setup: Setup) -> Table:
    """Time every call, and add up those of the same sizes; the last row is the total."""
    with torch.no_grad():
        times = interleaved({str(i): call for i, call in enumerate(calls)}, setup.few_runs, setup.device)
    milliseconds = {id(call): 1e3 * statistics.median(times[str(i)]) for i, call in enumerate(calls)}
    kinds: list[tuple[Mapping[str, int | None], list[ScanCall]]] = [*_kinds(calls)]
    kinds.append((dict.fromkeys(kinds[0][0]), calls))
    rows = []
    for sizes, same in kinds:
        exponentials = sum(call.work.exponentials for call in same)
        moved = sum(call.work.forward_bytes if what == 'forward' else call.work.backward_bytes for call in same)
        bounds = rates.bounds(exponentials, moved)
        needed = sum(milliseconds[id(call)] for call in same)
        rows.append(
            {
                **sizes,
                'layers': len(same),
                'M exp': exponentials / 1e6,
                'MB': moved / 1e6,
                **bounds,
                'ms': needed,
                'ms / bound': needed / max(bounds.values()),
            }
        )
    return Table(title, rows)
