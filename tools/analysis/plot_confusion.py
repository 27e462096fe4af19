"""Draw the confusion matrix of a test run: what the model takes each class for.

python tools/test.py CONFIG CHECKPOINT --out predictions.pkl          segmentation: --out FOLDER
python tools/analysis/plot_confusion.py CONFIG predictions.pkl --out confusion.png
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.analysis.confusion import NOTHING, confusion_matrix
from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.plot_confusion import plot_confusion
from mmlocalmamba.analysis.saved_results import TestResults
from mmlocalmamba.engine.cli import load_config, make_parser


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Draw a confusion matrix (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('predictions', help='what tools/test.py --out wrote: a .pkl file of your own, or a folder')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of boxes that count (default: 0.3)')
    parser.add_argument('--iou-thr', type=float, default=0.5, help='least IoU of an object and its box (default: 0.5)')
    add_out_argument(parser, 'confusion.png')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Count, draw and save."""
    args = parse_args(arguments)
    results = TestResults(load_config(args), args.predictions)
    matrix = confusion_matrix(results, args.score_thr, args.iou_thr)
    names = [*results.classes, NOTHING] if results.task == 'detection' else results.classes
    caption = {
        'detection': f'Objects: boxes with a score of {args.score_thr} and an IoU of {args.iou_thr} or more',
        'segmentation': 'Pixels',
        'classification': 'Images',
    }[results.task]
    save_figure(plot_confusion(matrix, names, caption), args.out, args.dpi)
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
