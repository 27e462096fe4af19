"""Plot how far the scan is from double precision, over the number of tokens, on every instruction set.

python tools/reliability/plot_error_over_length.py error.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from error_over_length import errors
from mmlocalmamba.ops.backends import cpu

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
STYLES = {'avx512': 'o-', 'avx2': 's--', 'baseline': '^:'}
EPSILONS = {dtype: torch.finfo(dtype).eps / 2 for dtype in DTYPES}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('picture', type=Path, help='PNG file to write')
    parser.add_argument('--longest', type=int, default=20, help='power of two of the longest sequence')
    options = parser.parse_args()

    lengths = [2**power for power in range(5, options.longest + 1, 3)]
    sets = cpu.library().instruction_sets()
    figure = Figure(figsize=(10, 4.2), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for color, dtype in enumerate(DTYPES):
        name = str(dtype).removeprefix('torch.')
        for instruction_set in sets:
            found = [errors(length, dtype, instruction_set) for length in lengths]
            for length, error in zip(lengths, found, strict=True):
                print(f'{name:9} {instruction_set:9} {length:8,} tokens: y {error.output:.1e}, {error.gradient:.1e}')
            for panel, values in zip(panels, zip(*found, strict=True), strict=True):
                panel.loglog(
                    lengths,
                    values,
                    STYLES.get(instruction_set, 'x-'),
                    color=f'C{color}',
                    markersize=4,
                    label=f'{name}, {instruction_set}',
                )
    for panel, title in zip(panels, ('output', 'worst gradient'), strict=True):
        for color, dtype in enumerate(DTYPES):
            panel.axhline(EPSILONS[dtype], color=f'C{color}', linewidth=0.6)
        panel.set(title=title, xlabel='tokens')
        panel.set_xscale('log', base=2)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel('largest error / largest value\n(thin lines: half a unit in the last place)')
    panels[1].legend(fontsize=7, loc='center left', bbox_to_anchor=(1.0, 0.5))
    figure.savefig(options.picture, dpi=120)
    print(f'wrote {options.picture}')


if __name__ == '__main__':
    main()
