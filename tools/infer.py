"""Run a trained model on pictures or videos: ``python tools/infer.py INPUT --config C --checkpoint W --out DIR``."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
import sys
from pathlib import Path

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.inference.inputs import find_sources
from mmlocalmamba.inference.predictors import Predictor
from mmlocalmamba.inference.running import Inference
from mmlocalmamba.inference.slicing import Slices
from mmlocalmamba.inference.trained import add_model_arguments, model_of


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Predict with a detector, a segmenter or a classifier (mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument('input', metavar='INPUT', help='picture, video, folder, or pattern such as "photos/*.jpg"')
    add_model_arguments(parser)
    parser.add_argument(
        '--out', default='predictions', metavar='DIR', help='folder of the results (default: predictions)'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='leave objects with lower scores out of the overlays (default: 0.3)',
    )
    parser.add_argument('--batch-size', type=int, default=1, help='pictures or slices at a time (default: 1)')
    parser.add_argument('--slices', type=int, metavar='SIDE', help='cut large pictures into slices of that many pixels')
    parser.add_argument(
        '--overlap', type=float, help='part of its side that a slice shares with the next (default: 0.2)'
    )
    args = parser.parse_args(arguments)
    if args.overlap is not None and args.slices is None:
        parser.error('--overlap is that of slices: give --slices too')
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr {args.score_thr}: want a score from 0 to 1')
    return args


def main(arguments: list[str] | None = None) -> None:
    """Find the pictures, load the model, then predict; exits with 1 if no file could be read."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()

    out = Path(args.out)
    sources = find_sources(args.input, leave_out=out)
    slices = None if args.slices is None else Slices(args.slices, 0.2 if args.overlap is None else args.overlap)
    predictor = Predictor(model_of(args), args.batch_size, slices)

    outcome = Inference(predictor, out, args.score_thr).run(sources)

    print(f'{outcome.done} of {len(sources)} files: results are in {out}')
    if outcome.skipped:
        print(f'{len(outcome.skipped)} could not be read:', *outcome.skipped, sep='\n  ')
    if not outcome.done:
        sys.exit(1)


if __name__ == '__main__':
    main()
