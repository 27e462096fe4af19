"""Evaluate a checkpoint at several paddings of its test images, to see what padding does to it.

python tools/analysis/padding_effect.py CONFIG CHECKPOINT                     batch 1, batch 4, multiples of 32 and 192
python tools/analysis/padding_effect.py CONFIG CHECKPOINT --resize 191 157    the same on images of one size
python tools/analysis/padding_effect.py CONFIG CHECKPOINT --cfg-options model.backbone.padding=skip
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
import sys

from mmlocalmamba.analysis.padding_effect import measure, resize_test_images, settings_of
from mmlocalmamba.analysis.text_table import align
from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.allocator import keep_freed_memory
from mmlocalmamba.engine.cli import load_config, make_parser
from mmlocalmamba.engine.device import has_accelerator
from mmlocalmamba.engine.weight_check import check_file


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Evaluate a checkpoint at several paddings (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--batch', type=int, default=4, help='images per batch; detectors only (default: 4)')
    parser.add_argument(
        '--multiples',
        type=int,
        nargs='*',
        default=[32, 192],
        metavar='SIDE',
        help='pad the sides of single images up to multiples of these, one after the other (default: 32 192)',
    )
    parser.add_argument(
        '--resize', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='resize all test images to this size'
    )
    args = parser.parse_args(arguments)
    for name, numbers in (('--batch', [args.batch]), ('--multiples', args.multiples), ('--resize', args.resize or [1])):
        if min(numbers, default=1) < 1:
            parser.error(f'{name} wants positive numbers, got {min(numbers)}')
    return args


def say(text: str) -> None:
    """Print progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Evaluate and print a table."""
    args = parse_args(arguments)
    refuse_unsafe_checkpoints()
    cfg = load_config(args)
    check_file('checkpoint', args.checkpoint)
    if args.resize is not None:
        resize_test_images(cfg, *args.resize)
    settings = settings_of(cfg, args.batch, args.multiples)
    if not has_accelerator():
        keep_freed_memory()  # as tools/test.py does
    print(f'\n{align(measure(cfg, args.checkpoint, settings, cfg.work_dir, say))}')


if __name__ == '__main__':
    main()
