"""Make a small, safe file of weights for others: ``python tools/publish.py CHECKPOINT --out NAME``."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.publishing import publish


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Keep the weights, the classes and the config text of a checkpoint '
        f'(mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='what training has saved')
    parser.add_argument(
        '--out',
        required=True,
        metavar='NAME',
        help='path of the new file; -<start of its SHA-256>.pth is put behind it',
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--ema',
        dest='which',
        action='store_const',
        const='averaged',
        help='take the averaged weights (the default where there are any)',
    )
    which.add_argument(
        '--raw', dest='which', action='store_const', const='raw', help='take the weights that were averaged'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Write the file, and say what it has."""
    args = parse_args(arguments)
    refuse_unsafe_checkpoints()
    made = publish(args.checkpoint, args.out, args.which)
    of = '' if made.weights == 'only' else f'{made.weights} '
    print(f'{args.checkpoint}: {made.before:,} bytes')
    print(f'{made.path}: {made.after:,} bytes, {made.tensors} tensors of the {of}weights, read back and equal')


if __name__ == '__main__':
    main()
