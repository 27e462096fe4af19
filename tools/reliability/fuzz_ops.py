"""Call every operation at random, validly and not, on every instruction set: nothing may crash or be silently wrong.

    python tools/reliability/fuzz_ops.py --calls 100000

Half of the calls are valid: outputs and all gradients are compared with the naive function in double precision. The
others are spoiled: they may be accepted if they still make sense, or end in a TypeError, ValueError or RuntimeError.
Calls go through the public functions and through ``torch.ops.mmlocalmamba``, forward and backward. They are made in
processes of their own, so that one that crashes is reported, with the number that repeats it:

    python tools/reliability/fuzz_ops.py --replay 123

``make fuzz`` runs it, ``make sanitize`` the same on a library built with AddressSanitizer and UBSan.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import linecache
import os
import random
import struct
import sys
import time
import traceback
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import mmlocalmamba
from fuzz_calls import OPERATIONS, TOLERANCES, Call, draw_call
from fuzz_mutations import spoil
from fuzz_workers import Fault, Report, run_workers
from mmlocalmamba.ops.backends.cpu import library

PACKAGE = Path(mmlocalmamba.__file__).parent
SECONDS_PER_CALL = 300
"""After which a call counts as hung."""


class Outcome(NamedTuple):
    """What became of a call.

    Attributes:
        operation: Its name.
        kind: ``'valid'``, ``'accepted'`` or ``'refused'`` (spoiled ones), or ``'fault'``.
        text: What was wrong.
    """

    operation: str
    kind: str
    text: str = ''


def main() -> None:
    """Run the command line; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--calls', type=int, default=100_000, help='how many calls')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='processes (default: one per core)')
    parser.add_argument('--seed', type=int, default=0, help='number of the first call')
    parser.add_argument('--replay', type=int, metavar='NUMBER', help='repeat one call, in this process')
    parser.add_argument('--library', type=Path, help='another build of the kernel library')
    parser.add_argument('--worker', nargs=4, metavar=('FIRST', 'STEP', 'END', 'STATUS'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library is not None:
        use_library(options.library.resolve())
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what torch.empty gives with NaN
    if options.worker:
        first, step, end, status = options.worker
        work(range(int(first), int(end), int(step)), Path(status))
        return
    if options.replay is not None:
        outcome = fuzz_one(options.replay)
        print(f'{outcome.operation}: {outcome.kind} {outcome.text}')
        sys.exit(outcome.kind == 'fault')

    start = time.monotonic()
    command = [sys.executable, __file__, *(['--library', str(options.library)] if options.library else []), '--worker']
    report = run_workers(command, options.seed, options.calls, options.jobs)
    print_report(report, time.monotonic() - start)
    sys.exit(bool(report.faults))


def use_library(path: Path) -> None:
    """Compute with a library other than the package's own."""
    module = import_module('mmlocalmamba.ops.backends.cpu.library')
    vars(module).update(FOLDER=path.parent, _FILE_NAMES={sys.platform: path.name})


def work(seeds: range, status: Path) -> None:
    """Make calls; the status file always holds the number of the present one."""
    counts: Counter[str] = Counter()
    place = os.open(status, os.O_WRONLY)
    torch.set_num_threads(1)
    for seed in seeds:
        os.pwrite(place, struct.pack('q', seed), 0)
        if seed % 1000 < seeds.step:
            faulthandler.dump_traceback_later(SECONDS_PER_CALL, exit=True)
        outcome = fuzz_one(seed)
        counts[f'{outcome.operation} {outcome.kind}'] += 1
        if outcome.kind == 'fault':
            print(json.dumps(dict(seed=seed, text=f'{outcome.operation}: {outcome.text}')), flush=True)
    print(json.dumps(dict(counts=counts)), flush=True)


def fuzz_one(seed: int) -> Outcome:
    """Make the call of a number."""
    draw = random.Random(~seed)
    name = draw.choice(sorted(OPERATIONS))
    valid, public = draw.random() < 0.5, draw.random() < 0.5
    kernels = library()
    kernels.use_instruction_set(draw.choice(kernels.instruction_sets()))
    call = draw_call(name, seed)
    if valid:
        return Outcome(name, *_judge_valid(call, public))
    return Outcome(name, *_judge_spoiled(call, public, draw))


def _judge_valid(call: Call, public: bool) -> tuple[str, str]:
    tolerance = max(TOLERANCES[x.dtype] for x in call.leaves.values())
    try:
        wanted = _naively(call)
        got = _publicly(call) if public else _by_dispatcher(call)
    except Exception:
        return 'fault', f'a valid call failed: {_describe(call.arguments)}\n{traceback.format_exc()}'
    for name, want in wanted.items():
        difference = _difference(got[name], want)
        if not difference <= tolerance:
            return 'fault', f'{name} differs by {difference:.1e}: {_describe(call.arguments)}'
    return 'valid', ''


def _judge_spoiled(call: Call, public: bool, draw: random.Random) -> tuple[str, str]:
    operation, done = OPERATIONS[call.operation], ''
    try:
        if public:
            call.arguments, done = spoil(call.arguments, draw)
            _publicly(call, backward=draw.random() < 0.5)
        elif draw.random() < 0.5:
            call.arguments, done = spoil(call.arguments, draw)
            getattr(torch.ops.mmlocalmamba, call.operation)(**call.arguments)
        else:
            outputs = dict(zip(operation.outputs, call.results(_registered(call.operation)), strict=True))
            arguments, done = spoil(_backward_arguments(call, outputs), draw)
            getattr(torch.ops.mmlocalmamba, f'{call.operation}_backward')(**arguments)
    except (TypeError, ValueError, RuntimeError, MemoryError) as error:
        if public and not _is_ours(error):
            return 'fault', f'an error of others after {done}: {error!r} {_describe(call.arguments)}'
        return 'refused', ''
    except Exception as error:
        return 'fault', f'no clean error after {done}: {error!r}, {_place(error)} {_describe(call.arguments)}'
    return 'accepted', ''


def _registered(name: str) -> Any:
    operation = getattr(torch.ops.mmlocalmamba, name)
    return lambda arguments: operation(**arguments)


def _naively(call: Call) -> dict[str, Tensor]:
    """Compute outputs and gradients by the naive function, in double precision."""
    double = {k: x.detach().double().requires_grad_() for k, x in call.leaves.items()}
    tables = {k: x.double() for k, x in call.arguments.items() if k in ('cos', 'sin') and x is not None}
    operation = OPERATIONS[call.operation]
    outputs = Call(call.operation, call.arguments | double | tables, call.dtype).results(operation.naive)
    return _with_gradients(call.operation, outputs, double)


def _publicly(call: Call, backward: bool = True) -> dict[str, Tensor]:
    leaves = {k: x.detach() for k, x in call.leaves.items()}
    for x in leaves.values():
        x.requires_grad_(backward and x.is_floating_point() and not x.is_inference())
    operation = OPERATIONS[call.operation]
    outputs = Call(call.operation, call.arguments | leaves, call.dtype).results(operation.public)
    wanted = {k: x for k, x in leaves.items() if x.requires_grad}
    return _with_gradients(call.operation, outputs, wanted) if wanted else {}


def _by_dispatcher(call: Call) -> dict[str, Tensor]:
    """Call the registered operations themselves, forward and backward."""
    names = OPERATIONS[call.operation].outputs
    outputs = dict(zip(names, call.results(_registered(call.operation)), strict=True))
    gradients = getattr(torch.ops.mmlocalmamba, f'{call.operation}_backward')(**_backward_arguments(call, outputs))
    leaves = list(call.leaves)
    if call.operation == 'add_rotate_rms_norm':  # hidden and the stream before share one gradient
        gradients = [gradients[0]] * ('before' in leaves) + list(gradients)
        leaves = [k for k in ('before', 'hidden', 'weight') if k in leaves]
    return outputs | {f'gradient of {k}': x for k, x in zip(leaves, gradients, strict=True)}


def _backward_arguments(call: Call, outputs: dict[str, Tensor]) -> dict[str, Any]:
    """Give what the registered backward takes; gradients of outputs as in :func:`_with_gradients`."""
    schema = getattr(torch.ops.mmlocalmamba, f'{call.operation}_backward').default._schema
    values = call.arguments | outputs
    given = dict(zip(OPERATIONS[call.operation].outputs, _output_gradients(outputs.values()), strict=True))
    return {a.name: given[a.name[5:]] if a.name.startswith('grad_') else values[a.name] for a in schema.arguments}


def _with_gradients(name: str, outputs: list[Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    outputs = outputs[: OPERATIONS[name].results]
    found = torch.autograd.grad(
        outputs, list(leaves.values()), _output_gradients(outputs), allow_unused=True, materialize_grads=True
    )
    named = dict(zip(OPERATIONS[name].outputs, outputs, strict=False))
    return named | {f'gradient of {k}': x for k, x in zip(leaves, found, strict=True)}


def _output_gradients(outputs: Any) -> list[Tensor]:
    """Give the same gradients of outputs of the same shapes."""
    return [torch.linspace(-1, 1.5, max(y.numel(), 1))[: y.numel()].view(y.shape).to(y.dtype) for y in outputs]


def _difference(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape:
        return float('inf')
    if got.numel() == 0:
        return 0.0
    scale = max(want.abs().max().item(), 1.0)
    return (got.detach().double() - want.detach()).abs().max().item() / scale


def _is_ours(error: BaseException) -> bool:
    """Tell whether an error was raised by this package, on purpose; or is one that says enough."""
    text = str(error)
    if isinstance(error, MemoryError) or any(
        word in text for word in ('memory', 'overflow', 'Inference tensors', 'Could not run')
    ):
        return True
    file, line = _place(error)
    return Path(file).is_relative_to(PACKAGE) and linecache.getline(file, line).strip().startswith('raise')


def _place(error: BaseException) -> tuple[str, int]:
    """Give the file and the line that raised an error."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return (place.tb_frame.f_code.co_filename, place.tb_lineno) if place is not None else ('', 0)


def _describe(arguments: dict[str, Any]) -> str:
    return ', '.join(
        f'{k} {tuple(x.shape)} {x.dtype} {x.stride() if x.layout == torch.strided else x.layout}'
        if isinstance(x, Tensor)
        else f'{k}={x}'
        for k, x in arguments.items()
    )


def print_report(report: Report, seconds: float) -> None:
    """Print what was called, and what was wrong."""
    kinds = ('valid', 'refused', 'accepted', 'fault')
    names = sorted({key.split()[0] for key in report.counts})
    print(f'{"operation":24}' + ''.join(f'{kind:>10}' for kind in kinds))
    for name in names:
        print(f'{name:24}' + ''.join(f'{report.counts[f"{name} {kind}"]:10,}' for kind in kinds))
    totals = [sum(report.counts[f'{name} {kind}'] for name in names) for kind in kinds]
    print(f'{"all":24}' + ''.join(f'{total:10,}' for total in totals))
    print(f'{sum(totals):,} calls, {len(report.faults)} faults, {seconds:.0f} s')
    for fault in report.faults[:MOST_SHOWN]:
        print(f'\ncall {fault.seed}: {fault.text}')


MOST_SHOWN = 20

__all__ = ['Fault', 'fuzz_one', 'main']

if __name__ == '__main__':
    main()
