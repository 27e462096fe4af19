"""Measures of the scan alone: all of a model's layers, the back ends against each other, the machine's bounds.

Every scan is given what a model's layer gives it, in the layout in which the layer leaves it.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.ops import available_backends, local_selective_scan
from mmlocalmamba.ops.backends import cpu, triton_report

from .benchmark import Result, Setup, Table, UnavailableError, compare, interleaved, seconds
from .benchmark_calls import ScanCall, ScanWork, backward_calls, forward_calls
from .benchmark_models import draw_image, forward_of, label, side_of, step_of, swin
from .roofline import GPUS

LAYER_STAGE = 1
"""Stage of LocalVMamba whose first layer the back ends are compared on."""

CAPABILITIES = (80, 90)
"""Compute capabilities that the Triton kernels are compiled for: A100 and H100."""


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
    """Put calls of the same sizes together, whatever their directions."""
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
    arguments = call.public_arguments()
    return torch.no_grad()(lambda: local_selective_scan(**arguments, backend=backend))


def _step_with(call: ScanCall, backend: str) -> Callable[[], Any]:
    arguments: dict[str, Any] = {
        name: x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for name, x in call.public_arguments().items()
    }
    inputs = [x for x in arguments.values() if isinstance(x, Tensor) and x.requires_grad]
    work = call.work
    grad = torch.randn(work.batch, work.directions, work.tokens, work.channels, device=inputs[0].device)

    def run() -> None:
        y = local_selective_scan(**arguments, backend=backend)
        torch.autograd.grad(y, inputs, grad.to(y.dtype))

    return run


@dataclass(frozen=True)
class Rates:
    """What a machine can do per second.

    Attributes:
        exponentials: Exponentials.
        bytes: Bytes read or written.
        source: Where these rates are from.
    """

    exponentials: float
    bytes: float
    source: str

    def bounds(self, exponentials: float, moved: float) -> dict[str, float]:
        """Give the milliseconds that each resource needs."""
        return {'exp bound ms': 1e3 * exponentials / self.exponentials, 'bytes bound ms': 1e3 * moved / self.bytes}


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
    """Time every call, and add up those of the same sizes; the last row is all of them."""
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


def gpu_rates(name: str) -> Rates:
    """Give a GPU's rates from its data sheet.

    Raises:
        UnavailableError: If the data sheet of that GPU is not known.
    """
    for key, gpu in GPUS.items():
        if key in name.lower():
            return Rates(gpu.exponentials, gpu.bandwidth, f'data sheet of {gpu.name}')
    raise UnavailableError(f'peak rates are known of {", ".join(GPUS)} only, not of {name!r}')


def cpu_rates(setup: Setup) -> Rates:
    """Measure the exponentials and bytes per second that all threads of this machine reach together."""
    extension = cpu.extension() if cpu.why_not('cpu') is None else None
    function = torch.exp2 if extension is None else extension.exp2
    whose = "torch's exp2" if extension is None else "the C++ kernels' exp2"
    # Large enough to hide the cost of a call, small enough for caches, and for PyTorch not to use threads of its own.
    attempts = 1 if setup.small else 8
    exponentials = max(_exponentials(function, 1 << k, setup) for k in (14, 15) for _ in range(attempts))
    source = torch.ones((1 << 22 if setup.small else 1 << 29) // 4)
    target = torch.empty_like(source)
    moved = 2 * source.nbytes / min(seconds(lambda: target.copy_(source)) for _ in range(2 + attempts))
    where = f'{whose} in cache and a copy of {source.nbytes >> 20} MiB'
    return Rates(exponentials, moved, f'the best seen here, {where}, {setup.threads} thread(s)')


def _exponentials(function: Callable[[Tensor], Tensor], size: int, setup: Setup) -> float:
    """Give the exponentials per second of as many threads as are used, each with a tensor of its own."""
    calls = (1 << 20 if setup.small else 1 << 25) // size
    start = threading.Barrier(setup.threads)
    spans: list[tuple[float, float]] = []

    def work() -> None:
        x = torch.linspace(-8, 0, size)
        function(x)
        start.wait()
        begin = time.perf_counter()
        for _ in range(calls):
            function(x)
        spans.append((begin, time.perf_counter()))

    workers = [threading.Thread(target=work) for _ in range(setup.threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    begins, ends = zip(*spans, strict=True)
    return setup.threads * calls * size / (max(ends) - min(begins))


def triton(setup: Setup) -> Result:
    """Report what Triton's compiler makes of our kernels; needs no GPU.

    Raises:
        UnavailableError: If Triton is not installed or too old, or runs kernels in its interpreter.
    """
    try:
        triton_report.check_compiler()
    except RuntimeError as error:
        raise UnavailableError(str(error)) from error
    tables = []
    for capability in CAPABILITIES[-1:] if setup.small else CAPABILITIES:
        rows: list[Mapping[str, Any]] = [
            {
                'kernel': report.kernel,
                'registers': report.registers,
                'spilled bytes': report.spill_bytes,
                'shared bytes': report.shared_bytes,
                'lane exchanges': report.exchanges,
            }
            for report in triton_report.compile_report(capability)
        ]
        tables.append(Table(f'compiled for sm_{capability}', rows))
    return Result('Triton kernels, float32, N = 16', tables=tables)
