"""Train a detector, a segmenter or a classifier: ``python tools/train.py CONFIG``, in the mm conventions."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmengine.config import Config

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.cli import fit_to_device, load_config, make_parser, make_runner, scale_learning_rate, use_amp
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.engine.preflight import check_data, check_weights, starting_point


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Train a model (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a value, from the last one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (needs a GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch size'
    )
    return parser.parse_args(arguments)


def set_resume(cfg: Config, resume: str | None) -> None:
    """Apply ``--resume``."""
    if resume is not None:
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume


def main(arguments: list[str] | None = None) -> None:
    """Check the data and the weights, then train."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()
    cfg = load_config(args)
    set_resume(cfg, args.resume)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scale_learning_rate(cfg)
    check_data(cfg, ['train', 'val'])
    check_weights(cfg)
    fit_to_device(cfg)
    runner = make_runner(cfg)
    runner.logger.info(starting_point(cfg))
    runner.train()


if __name__ == '__main__':
    main()
