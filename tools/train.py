"""Train a detector, a segmenter or a classifier: ``python tools/train.py CONFIG``, in the mm conventions."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse

from mmengine.config import Config

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.allocator import keep_freed_memory
from mmlocalmamba.engine.channel_check import check_channels
from mmlocalmamba.engine.cli import build_runner, load_config, make_parser, scale_learning_rate
from mmlocalmamba.engine.data_check import check_data, clean_annotations
from mmlocalmamba.engine.device import fit_launcher, fit_precision, has_accelerator, start_process_group, use_amp
from mmlocalmamba.engine.hooks import AveragedWeightsHook, BadSamplesHook, FloatPredictionsHook, LoadedWeightsHook
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.engine.model_check import check_model
from mmlocalmamba.engine.resume import settle_resume
from mmlocalmamba.engine.weight_check import check_weights, starting_point
from mmlocalmamba.engine.worker_death import explain_dead_workers


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Train a model (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a value, from the newest one in the work dir, if it is whole',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (CPU: bfloat16)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch size'
    )
    return parser.parse_args(arguments)


def prepare(cfg: Config, args: argparse.Namespace) -> None:
    """Apply what the command line and the device ask for."""
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scale_learning_rate(cfg)
    fit_precision(cfg)
    fit_launcher(cfg)


def main(arguments: list[str] | None = None) -> None:
    """Load and prepare the config, check what it asks for, then train."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()

    cfg = load_config(args)
    prepare(cfg, args)

    notes = [
        settle_resume(cfg, args.resume),
        *clean_annotations(cfg, ['train', 'val']),
        *check_data(cfg, ['train', 'val']),
    ]
    check_weights(cfg)
    check_channels(cfg)
    check_model(cfg)

    if not has_accelerator():
        keep_freed_memory()
    start_process_group(cfg.launcher)
    runner = build_runner(cfg)
    runner.register_hook(LoadedWeightsHook(complete=bool(cfg.get('resume'))))
    runner.register_hook(BadSamplesHook(cfg.get('bad_samples', 'raise')))
    runner.register_hook(AveragedWeightsHook())
    runner.register_hook(FloatPredictionsHook())
    for note in filter(None, notes):
        runner.logger.warning(note)
    runner.logger.info(starting_point(cfg))
    with explain_dead_workers():
        runner.train()


if __name__ == '__main__':
    main()
