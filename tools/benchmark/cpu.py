"""Measure speed and memory as ratios: of the models to timm's Swin and DeiT, of the scan's back ends to each other.

python tools/benchmark/cpu.py                                          everything, on two threads of the CPU
python tools/benchmark/cpu.py --only forward,scan --runs 30            some of it
python tools/benchmark/cpu.py --only resolution --plot tokens.png      time against tokens, as a picture
python tools/benchmark/cpu.py --device cuda --batch 32 --out gpu.json  the same measures on a GPU, also as JSON
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import memory_measure
import model_measures
import profile_measure
import scan_measures
from formatting import to_json, to_text
from growth_plot import plot_growth
from machine import environment, environment_text
from mmlocalmamba.analysis.measuring import UnavailableError
from mmlocalmamba.engine.allocator import keep_freed_memory
from timing import Result, Setup

MEASURES: dict[str, tuple[Callable[[Setup], Result], str]] = {
    'forward': (model_measures.forward, 'LocalVMamba against Swin, forward'),
    'training': (model_measures.training, 'the same, forward and backward'),
    'vim': (model_measures.vim, 'LocalVim against DeiT'),
    'baselines': (model_measures.baselines, "VMamba's second version against Swin, Vim against DeiT"),
    'scan': (scan_measures.scan, "the scans of LocalVMamba's layers against a forward of Swin"),
    'backends': (scan_measures.backends, "the scan's back ends against each other"),
    'bound': (scan_measures.bound, 'the scan beside what its exponentials and bytes need'),
    'profile': (profile_measure.profiles, 'time of forward and backward by part'),
    'bf16': (model_measures.bf16, 'LocalVMamba in bfloat16 autocast'),
    'memory': (memory_measure.memory, "peak memory of a training step of a detector's backbone"),
    'resolution': (model_measures.resolution, 'growth of the time with the image'),
}
PLOTTED = 'resolution'
BUSY = 0.25
"""Load per core above which figures cannot be trusted."""
RUNS = {'full': 15, 'small': 1}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``only`` becomes a list of measures."""
    names = '\n'.join(f'  {name:12s}{text}' for name, (_, text) in MEASURES.items())
    parser = argparse.ArgumentParser(
        description=f'Measure speed and memory as ratios, in interleaved runs.\n\nmeasures:\n{names}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--only', metavar='NAME,...', default=','.join(MEASURES), help='measures (default: all)')
    parser.add_argument('--threads', type=int, default=2, help='threads of PyTorch (default: 2)')
    parser.add_argument('--runs', type=int, help='rounds of each comparison, 3 at most of long ones (default: 15)')
    parser.add_argument('--batch', type=int, default=1, help='images per batch (default: 1)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--size', choices=sorted(RUNS), default='full', help='small: try every measure in seconds')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the results as JSON')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw time against tokens, as PNG, SVG or PDF')
    args = parser.parse_args(arguments)
    args.only = [name.strip() for name in args.only.split(',')]
    unknown = [name for name in args.only if name not in MEASURES]
    if unknown:
        parser.error(f'--only: unknown {", ".join(map(repr, unknown))}: choose from {", ".join(MEASURES)}')
    args.runs = RUNS[args.size] if args.runs is None else args.runs
    for name in ('threads', 'runs', 'batch'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} wants a positive number, got {getattr(args, name)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch sees no GPU here; leave it out to measure on the CPU')
    if args.plot is not None:
        kinds = Figure().canvas.get_supported_filetypes()
        if args.plot.suffix[1:].lower() not in kinds:
            parser.error(f'--plot: no picture can be written as {args.plot.name!r}: name it *.png, *.svg or *.pdf')
        if PLOTTED not in args.only:
            parser.error(f'--plot draws the measure {PLOTTED!r}, which --only leaves out')
    return args


def say(text: str) -> None:
    """Print progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def save(path: Path | None, results: dict[str, Any]) -> None:
    """Write the results so far, if asked to."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + '\n', encoding='utf-8')


def main(arguments: list[str] | None = None) -> None:
    """Take the measures one after the other; each is printed and saved as soon as it is there."""
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    if args.device == 'cpu':
        keep_freed_memory()  # as tools/train.py and tools/test.py do
    setup = Setup(args.device, args.threads, args.runs, args.batch, small=args.size == 'small')
    results: dict[str, Any] = {'environment': environment(setup), 'setup': asdict(setup), 'measures': {}}
    print(environment_text(results['environment']))
    save(args.out, results)
    load = results['environment']['load before']
    if load is not None and load > BUSY * (os.cpu_count() or 1):
        say(f'WARNING: this machine is busy (load {load}): times and ratios are disturbed')
    for i, name in enumerate(args.only, 1):
        measure, text = MEASURES[name]
        say(f'[{i}/{len(args.only)}] {name}: {text} ...')
        start = time.perf_counter()
        try:
            result = measure(setup)
        except UnavailableError as reason:
            results['measures'][name] = {'title': text, 'unavailable': str(reason)}
            print(f'{name}: not measured: {reason}\n')
        else:
            results['measures'][name] = to_json(result)
            print(to_text(result), flush=True)
        say(f'    {time.perf_counter() - start:.1f} s')
        save(args.out, results)
    if args.plot is not None:
        found = results['environment']
        caption = f'{found.get("gpu") or found["cpu"]}, {args.threads} thread(s), batch {args.batch}'
        (table,) = results['measures'][PLOTTED]['tables']
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot_growth(table['rows'], caption).savefig(args.plot, dpi=150)


if __name__ == '__main__':
    main()
