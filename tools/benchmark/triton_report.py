"""Print what Triton's compiler makes of the scan's kernels: registers, spilled bytes, shared memory. No GPU is needed.

Exponentials are per token, channel and state; lane exchanges are instructions per token and 32 channels.

python tools/benchmark/triton_report.py                                      for an A100 and an H100, in float32
python tools/benchmark/triton_report.py --capability 90 --dtype bfloat16     for one of them, in another type
"""

import argparse
from dataclasses import asdict

from compiler_report import DTYPES, KernelReport, check_compiler, compile_report
from fused_kernels import fused_table
from mmlocalmamba.analysis.text_table import align

COLUMNS = {
    'kernel': 'kernel',
    'registers': 'registers',
    'spill_bytes': 'spilled bytes',
    'shared_bytes': 'shared bytes',
    'exponentials': 'exponentials',
    'exchanges': 'lane exchanges',
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Print what Triton's compiler makes of our kernels.")
    parser.add_argument(
        '--capability',
        type=int,
        nargs='+',
        default=[80, 90],
        metavar='NUMBER',
        help='compute capabilities to compile for (default: 80, the A100, and 90, the H100)',
    )
    parser.add_argument('--dtype', choices=sorted(DTYPES), default='float32', help='of the tokens')
    parser.add_argument('--d-state', type=int, default=16, help='states N per channel (default: 16)')
    parser.add_argument(
        '--rank', type=int, default=12, help='rank R of the step sizes; 0: one of every channel (default: 12)'
    )
    args = parser.parse_args(arguments)
    if args.d_state < 1:
        parser.error(f'--d-state wants a positive number, got {args.d_state}')
    if args.rank < 0:
        parser.error(f'--rank wants 0 or a positive number, got {args.rank}')
    try:
        check_compiler()
    except RuntimeError as error:
        parser.error(str(error))
    return args


def format_reports(reports: list[KernelReport]) -> str:
    """Format a table with a row per kernel."""
    found = [
        {name: f'{value:.3g}' if isinstance(value, float) else value for name, value in asdict(report).items()}
        for report in reports
    ]
    return align([{title: row[name] for name, title in COLUMNS.items()} for row in found])


def main(arguments: list[str] | None = None) -> None:
    """Compile and print, a table per compute capability."""
    args = parse_args(arguments)
    for capability in args.capability:
        print(f'compiled for sm_{capability}: {args.dtype}, N = {args.d_state}, R = {args.rank}')
        print(format_reports(compile_report(capability, args.dtype, args.d_state, args.rank)) + '\n', flush=True)
        print(f'around the scan, sm_{capability}: {args.dtype}')
        print(fused_table(capability, args.dtype) + '\n', flush=True)


if __name__ == '__main__':
    main()
