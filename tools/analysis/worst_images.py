"""Draw the images that a test run got most wrong, with truth and prediction side by side.

python tools/test.py CONFIG CHECKPOINT --out predictions.pkl          segmentation: --out FOLDER
python tools/analysis/worst_images.py CONFIG predictions.pkl --count 8 --out worst.png
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.saved_results import TestResults
from mmlocalmamba.analysis.worst_images import QUALITY, plot_worst_images, rank_images
from mmlocalmamba.engine.cli import load_config, make_parser


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Draw the worst images of a test run (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('predictions', help='what tools/test.py --out wrote: a .pkl file of your own, or a folder')
    parser.add_argument('--count', type=int, default=8, help='how many images (default: 8)')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of boxes that count (default: 0.3)')
    parser.add_argument('--iou-thr', type=float, default=0.5, help='least IoU of an object and its box (default: 0.5)')
    add_out_argument(parser, 'worst.png')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Rank, draw, save and list."""
    args = parse_args(arguments)
    results = TestResults(load_config(args), args.predictions)
    worst = rank_images(results, args.count, args.score_thr, args.iou_thr)
    caption = f'The {len(worst)} worst images by {QUALITY[results.task]}'
    save_figure(plot_worst_images(worst, results, caption, args.score_thr), args.out, args.dpi)
    for ranked in worst:
        print(f'{ranked.quality:.3f}  {ranked.image.path}')
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
