"""Generate the demo data: ``python tools/make_demo_data.py data/shapes``."""

import argparse
from pathlib import Path

from mmlocalmamba.datasets.shapes import write_shapes


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the data set."""
    parser = argparse.ArgumentParser(description='Generate the demo data: textured shapes, in COCO and ADE20K layout')
    parser.add_argument('root', nargs='?', type=Path, default=Path('data/shapes'), help='folder (default: data/shapes)')
    parser.add_argument('--train', type=int, default=200, help='number of training images (default: 200)')
    parser.add_argument('--val', type=int, default=40, help='number of held-out images (default: 40)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same bytes (default: 0)')
    parser.add_argument(
        '--bands', type=int, default=0, help='make multispectral images: TIFF of 16 bits with that many bands'
    )
    args = parser.parse_args(arguments)
    write_shapes(args.root, {'train': args.train, 'val': args.val}, args.seed, args.bands)
    print(f'{args.train} training and {args.val} held-out images are in {args.root}')


if __name__ == '__main__':
    main()
