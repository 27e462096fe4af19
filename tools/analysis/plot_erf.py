"""Draw effective receptive fields: which pixels the middle of a feature map listens to (Luo et al., 2016).

A model is a backbone's name, a config file, or timm:<name>; =<file> behind it gives it weights.

python tools/analysis/plot_erf.py local_vmamba_tiny timm:swin_tiny_patch4_window7_224 --layers 0 1 2 3
python tools/analysis/plot_erf.py CONFIG.py CONFIG.py=CHECKPOINT.pth --layers 2.0 2.1 3 --images data/shapes/val
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.plot_receptive_field import plot_receptive_fields
from mmlocalmamba.analysis.receptive_field import build_model, centre_of, receptive_field
from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.datasets.image_folder import read_rgb
from mmlocalmamba.inference.inputs import find_sources

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, red, green and blue: what all these models are trained with."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Draw effective receptive fields (mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument('models', nargs='+', metavar='MODEL[=WEIGHTS]', help='backbone, config file or timm:<name>')
    parser.add_argument(
        '--layers',
        nargs='+',
        default=['0', '1', '2', '3'],
        metavar='STAGE[.BLOCK]',
        help='stages from 0 (LocalVim, Vim: blocks), or blocks in stages, such as 2.5 (default: 0 1 2 3)',
    )
    parser.add_argument('--images', help='picture, folder or pattern (default: Gaussian noise)')
    parser.add_argument('--max-images', type=int, default=8, metavar='N', help='how many images (default: 8)')
    parser.add_argument('--side', type=int, default=224, help='side of the images in pixels (default: 224)')
    parser.add_argument('--labels', nargs='+', help='what the rows are called (default: as the models)')
    add_out_argument(parser, 'erf.png')
    args = parser.parse_args(arguments)
    if args.labels is not None and len(args.labels) != len(args.models):
        parser.error(f'--labels: want one per model, {len(args.models)}, got {len(args.labels)}')
    if len(set(args.labels or args.models)) < len(args.models):
        parser.error('two rows would have one name: give --labels')
    if min(args.side, args.max_images) < 1:
        parser.error('--side and --max-images want positive numbers')
    return args


def load_images(text: str | None, most: int, side: int) -> list[Tensor]:
    """Give images (3, side, side), normalised: the middle squares of pictures, or noise."""
    if text is None:
        generator = torch.Generator().manual_seed(0)
        return list(torch.randn(most, 3, side, side, generator=generator))
    images = []
    for source in [source for source in find_sources(text) if not source.is_video][:most]:
        picture = read_rgb(source.path)
        width, height = picture.size
        edge = min(width, height)
        left, top = (width - edge) // 2, (height - edge) // 2
        square = picture.crop((left, top, left + edge, top + edge)).resize((side, side))
        pixels = (np.asarray(square, dtype=np.float32) - MEAN) / STD
        images.append(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1))
    return images


def default_label(model: str) -> str:
    """Shorten what names a model for its row."""
    name, _, weights = model.partition('=')
    short = Path(name).stem if name.endswith('.py') else name.removeprefix('timm:')
    return f'{short}\n{Path(weights).name if weights else "random weights"}'


def main(arguments: list[str] | None = None) -> None:
    """Compute, draw and save."""
    args = parse_args(arguments)
    refuse_unsafe_checkpoints()
    images = load_images(args.images, args.max_images, args.side)
    labels = args.labels or [default_label(model) for model in args.models]
    models = {label: build_model(text, args.side) for label, text in zip(labels, args.models, strict=True)}
    centres = {label: [centre_of(model, layer) for layer in args.layers] for label, model in models.items()}
    fields = {label: [receptive_field(centre, images) for centre in row] for label, row in centres.items()}
    source = 'images of noise' if args.images is None else 'pictures'
    caption = f'Mean |d middle / d image| over {len(images)} {source}, {args.side} x {args.side} pixels'
    save_figure(plot_receptive_fields(fields, args.layers, caption), args.out, args.dpi)
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
