"""Compare models of one data set: parameters, FLOPs, images per second, memory, and metrics.

python tools/analysis/compare.py CONFIG CONFIG ...                                     any configs of one data set
python tools/analysis/compare.py CONFIG CONFIG --checkpoints CHECKPOINT none           evaluate what there is, too
python tools/analysis/compare.py --table 3 --out table_3.json --plot table_3.png       the rows of a table of the paper
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from mmlocalmamba.analysis.comparison import Row, Setup, compare, read_configs
from mmlocalmamba.analysis.evaluation import evaluate
from mmlocalmamba.analysis.flops import default_shape
from mmlocalmamba.analysis.plot_comparison import plot_comparison
from mmlocalmamba.analysis.text_table import align
from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.allocator import keep_freed_memory
from mmlocalmamba.engine.weight_check import check_file

ROOT = Path(__file__).resolve().parents[2]

_ONE = ('resnet50_1x', 'swin_t_1x', 'convnext_t_1x', 'vmamba_t_1x', 'localvmamba_t_1x', 'vmamba_s_1x')
_THREE = ('swin_t_3x', 'convnext_t_3x', 'vmamba_t_3x', 'localvmamba_t_3x', 'vmamba_s_3x', 'localvmamba_s_3x')
_SEGMENTERS = ('vim_t', 'localvim_t', 'resnet50', 'swin_t', 'vim_s', 'localvim_s', 'vmamba_t', 'localvmamba_t')
TABLES = {
    '2': (
        *('baselines/vim_t', 'baselines/vim_s', 'imagenet/ablation_local_vim_t_mixed'),
        *('imagenet/local_vim_t', 'imagenet/local_vim_s', 'baselines/vmamba_t', 'baselines/vmamba_s'),
        *('imagenet/local_vmamba_t', 'imagenet/local_vmamba_s'),
    ),
    '3': tuple(f'mask_rcnn_{name}' for name in (*_ONE, 'localvmamba_s_1x', *_THREE)),
    '4': tuple(f'upernet_{name}_160k_ade20k' for name in (*_SEGMENTERS, 'vmamba_s', 'localvmamba_s')),
    '5': (
        *('imagenet/ablation_vim_t_horizontal', 'imagenet/ablation_vim_t_local'),
        *('imagenet/ablation_local_vim_t_mixed_no_scattn', 'imagenet/ablation_local_vim_t_mixed'),
    ),
}
"""Configs of tables of the paper in the order of its rows. Rows that have no config here are left out."""

SMALL = (64, 64)
"""Height and width of the images of ``--size small``."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; ``config`` becomes the list of configs, ``checkpoints`` one or None for each."""
    parser = argparse.ArgumentParser(
        description=f'Compare models of one data set (mmlocalmamba {mmlocalmamba.__version__})',
        epilog='Speed and memory are those of forwards in evaluation mode, up to the raw outputs of the heads. The '
        'models are run in turn; the median counts. Memory is measured in a process of its own.',
    )
    parser.add_argument('config', nargs='*', help='config files')
    parser.add_argument('--table', choices=sorted(TABLES), help='configs of a table of the paper, in order')
    parser.add_argument('--checkpoints', nargs='+', metavar='FILE', help='checkpoint of each config, or "none"')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help="pixels (default: the paper's)")
    parser.add_argument('--batch', type=int, default=1, help='images per batch (default: 1)')
    parser.add_argument('--runs', type=int, help='rounds of timing (default: 5)')
    parser.add_argument('--threads', type=int, default=2, help='threads of PyTorch (default: 2)')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--size', choices=['full', 'small'], default='full', help='small: try it out on tiny images')
    parser.add_argument('--work-dir', default='work_dirs/compare', help='logs of evaluations (default: %(default)s)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the figures as JSON')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='draw metric against cost, as PNG, SVG or PDF')
    args = parser.parse_args(arguments)
    if bool(args.config) == bool(args.table):
        parser.error('give configs, or --table for those of a table of the paper')
    if args.table:
        args.config = [str(find_config(name)) for name in TABLES[args.table]]
    args.checkpoints = [None if name == 'none' else name for name in args.checkpoints or ['none'] * len(args.config)]
    if len(args.checkpoints) != len(args.config):
        parser.error(f'--checkpoints wants one for each of {len(args.config)} configs, or "none"')
    args.runs = (1 if args.size == 'small' else 5) if args.runs is None else args.runs
    for name in ('batch', 'runs', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} wants a positive number, got {getattr(args, name)}')
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: PyTorch sees no GPU here; leave it out to measure on the CPU')
    if args.plot is not None and args.plot.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        parser.error(f'--plot: no picture can be written as {args.plot.name!r}: name it *.png, *.svg or *.pdf')
    return args


def find_config(name: str) -> Path:
    """Return the path of a config of :data:`TABLES`: ours, or among the baselines."""
    ours, baseline = ROOT / 'configs' / f'{name}.py', ROOT / 'configs/baselines' / f'{name}.py'
    return ours if ours.is_file() else baseline


def to_text(rows: Sequence[Row]) -> str:
    """Format a comparison as a table; published metrics are marked."""
    names = list(dict.fromkeys(name for row in rows for name in (*row.measured, *row.published)))
    lines: list[dict[str, Any]] = []
    for row in rows:
        line: dict[str, Any] = {
            'config': row.name,
            'params, M': f'{row.params / 1e6:.1f}',
            'FLOPs, G': f'{row.flops / 1e9:.1f}',
            'images/s': row.images_per_second,
            'memory, MiB': '' if row.memory is None else f'{row.memory / 2**20:.0f}',
        }
        for name in names:
            published = f'{row.published[name]:.1f}*' if name in row.published else ''
            line[name] = f'{row.measured[name]:.1f}' if name in row.measured else published
        lines.append(line)
    mark = '\n* published by the authors, not measured here' if any(row.published for row in rows) else ''
    return align(lines) + mark


def say(text: str) -> None:
    """Print progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, save and draw."""
    args = parse_args(arguments)
    refuse_unsafe_checkpoints()
    for checkpoint in filter(None, args.checkpoints):
        check_file('--checkpoints', checkpoint)
    torch.set_num_threads(args.threads)
    if args.device == 'cpu':
        keep_freed_memory()  # as tools/test.py does
    cfgs = read_configs(args.config)
    height, width = args.shape or (SMALL if args.size == 'small' else default_shape(cfgs[0]))
    setup = Setup(height, width, args.batch, args.runs, args.device, args.threads)
    rows = compare(cfgs, setup, ROOT / 'model-index.yml', say)
    for cfg, checkpoint, row in zip(cfgs, args.checkpoints, rows, strict=True):
        if checkpoint is not None:
            say(f'evaluating {checkpoint}')
            row.measured.update(evaluate(cfg, checkpoint, args.work_dir))
    machine = torch.cuda.get_device_name() if args.device == 'cuda' else platform.processor() or platform.machine()
    load = f', load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores' if hasattr(os, 'getloadavg') else ''
    caption = f'{args.batch} x 3 x {height} x {width} pixels, {machine}, {args.threads} thread(s){load}'
    print(f'{caption}\n\n{to_text(rows)}')
    if args.out is not None:
        found = {'setup': asdict(setup), 'machine': caption, 'rows': [asdict(row) for row in rows]}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')
    if args.plot is not None:
        args.plot.parent.mkdir(parents=True, exist_ok=True)
        plot_comparison(rows, caption).savefig(args.plot, dpi=150)


if __name__ == '__main__':
    main()
