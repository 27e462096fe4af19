"""Draw how much each block keeps of each scan direction: the mean gate of SCAttn over pictures.

python tools/analysis/plot_gates.py data/shapes/val --checkpoint work_dirs/demo/epoch_12.pth --out gates.png
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmlocalmamba.analysis import record_gates
from mmlocalmamba.analysis.figure_files import add_out_argument, save_figure
from mmlocalmamba.analysis.input_pictures import read_pictures
from mmlocalmamba.analysis.plot_gates import plot_gates
from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.inference.predictors import Predictor
from mmlocalmamba.inference.trained import add_model_arguments, model_of


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f"Draw SCAttn's mean gates per block and direction (mmlocalmamba {mmlocalmamba.__version__})"
    )
    parser.add_argument('input', metavar='INPUT', help='picture, folder, or pattern such as "photos/*.jpg"')
    add_model_arguments(parser)
    parser.add_argument('--max-images', type=int, default=20, metavar='N', help='take the first N (default: 20)')
    add_out_argument(parser, 'gates.png')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Predict the pictures, record the gates, draw and save."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()
    trained = model_of(args)
    predictor = Predictor(trained)
    pictures = read_pictures(predictor.pipeline, args.input, args.max_images)
    with record_gates(trained.model) as records:
        predictor.predict(pictures)
    noun = 'picture' if len(pictures) == 1 else 'pictures'
    save_figure(plot_gates(records, f'Mean gate of SCAttn over {len(pictures)} {noun}'), args.out, args.dpi)
    print(*args.out, sep='\n')


if __name__ == '__main__':
    main()
