"""Draw the paths on which scan directions visit the tokens of a picture.

python tools/analysis/plot_scan_paths.py photo.jpg --directions h w7 v_flip --grid 14 14 --out paths.png paths.svg
python tools/analysis/plot_scan_paths.py --directions w3 w5_flip --grid 8 12            without a picture
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

import numpy as np

from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.plot_scan_paths import plot_scan_paths
from mmlocalmamba.datasets.image_folder import read_rgb


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=f'Draw scan paths (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('image', nargs='?', metavar='IMAGE', help='picture to draw over (default: white)')
    parser.add_argument(
        '--directions',
        nargs='+',
        default=['h', 'v', 'w2', 'w7'],
        metavar='NAME',
        help='h, v or w<side of the window>, each also with _flip (default: h v w2 w7)',
    )
    parser.add_argument(
        '--grid', type=int, nargs=2, default=[14, 14], metavar=('ROWS', 'COLUMNS'), help='tokens (default: 14 14)'
    )
    parser.add_argument('--title', default='', help='a line above the panels')
    add_out_argument(parser, 'scan_paths.png')
    args = parser.parse_args(arguments)
    if min(args.grid) < 1:
        parser.error(f'--grid wants positive numbers, got {args.grid}')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Draw and save."""
    args = parse_args(arguments)
    image = np.asarray(read_rgb(args.image)) if args.image else None
    rows, columns = args.grid
    save_figure(plot_scan_paths(args.directions, (rows, columns), image, args.title), args.out, args.dpi)
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
