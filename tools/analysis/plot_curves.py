"""Draw training curves, and what a direction search found over time, from the logs in work dirs.

python tools/analysis/plot_curves.py work_dirs/demo --out curves.png
python tools/analysis/plot_curves.py work_dirs/a work_dirs/b --keys loss lr coco/bbox_mAP
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path

from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.plot_curves import plot_curves
from mmlocalmamba.analysis.plot_directions import plot_history
from mmlocalmamba.analysis.training_logs import choose_curves, read_curves
from mmlocalmamba.search.hook import LOG_NAME, read_log


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=f'Draw training curves (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='folder of a run')
    parser.add_argument(
        '--keys',
        nargs='+',
        metavar='NAME',
        help='values to draw (default: losses, learning rate, gradient norm, main metrics)',
    )
    add_out_argument(parser, 'curves.png')
    args = parser.parse_args(arguments)
    if len(set(args.work_dirs)) < len(args.work_dirs):
        parser.error('a work dir is named twice')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Read, draw and save; probabilities of a search go into files of their own."""
    args = parse_args(arguments)
    runs = {str(folder): read_curves(folder) for folder in args.work_dirs}
    every = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    figures = {'': plot_curves(runs, args.keys or choose_curves(every))}
    for folder in args.work_dirs:
        if (folder / LOG_NAME).is_file():
            figures[f'_alpha_{folder.resolve().name}'] = plot_history(read_log(folder / LOG_NAME))
    for suffix, figure in figures.items():
        paths = [path.with_stem(path.stem + suffix) for path in args.out]
        save_figure(figure, paths, args.dpi)
        print(*paths, sep='\n')


if __name__ == '__main__':
    main()
