"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``, in the mm conventions."""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmlocalmamba.compat.torch_load import refuse_unsafe_checkpoints
from mmlocalmamba.engine.allocator import keep_freed_memory
from mmlocalmamba.engine.channel_check import check_channels
from mmlocalmamba.engine.cli import build_runner, load_config, make_parser
from mmlocalmamba.engine.data_check import check_data, clean_annotations
from mmlocalmamba.engine.device import fit_launcher, has_accelerator, start_process_group
from mmlocalmamba.engine.hooks import BadSamplesHook, FloatPredictionsHook, LoadedWeightsHook
from mmlocalmamba.engine.log import forward_log
from mmlocalmamba.engine.model_check import check_model
from mmlocalmamba.engine.weight_check import check_file
from mmlocalmamba.engine.worker_death import explain_dead_workers


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(f'Evaluate a model (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='save the predictions: a .pkl file (segmentation: a folder for PNG files)')
    parser.add_argument('--show', action='store_true', help='show each image with its predictions')
    parser.add_argument('--show-dir', help='save each image with its predictions in this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that --show shows an image (default: 2)')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, as tta_model and tta_pipeline say')
    return parser.parse_args(arguments)


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turn the visualization hook on, for ``--show`` and ``--show-dir``."""
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need a visualization hook in the config: default_hooks = dict('
            "visualization=dict(type='DetVisualizationHook')) (segmentation: 'SegVisualizationHook')"
        )
    hook.update(draw=True, interval=1)  # mmsegmentation 1.2 keeps to the interval when testing, too
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    if args.show_dir:
        folder = str(Path(args.show_dir).resolve())
        if 'SegVisualizationHook' in hook.type:
            cfg.visualizer.save_dir = folder
        else:
            hook.test_out_dir = folder


def save_predictions(cfg: Config, out: str) -> None:
    """Add what writes the predictions to the evaluators, for ``--out``."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    if cfg.get('default_scope') == 'mmseg':
        cfg.test_evaluator = [{**metric, 'output_dir': out, 'keep_results': True} for metric in metrics]
        return
    if Path(out).suffix not in ('.pkl', '.pickle'):
        raise ValueError(f'--out wants a .pkl or .pickle file, got {out!r}')
    kind = 'mmdet.DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*metrics, {'type': kind, 'out_file_path': out}]


def use_tta(cfg: Config) -> None:
    """Wrap the model and replace the pipeline as the config says, for ``--tta``.

    Raises:
        ValueError: If the config does not say it, or the model predicts masks of objects, too.
    """
    if cfg.get('default_scope') == 'mmdet' and predicts_masks(cfg.model):
        raise ValueError(
            '--tta: MMDetection merges boxes alone (DetTTAModel), and this model predicts masks of objects, too. Leave '
            '--tta out, or take a model for boxes, such as configs/cross/faster_rcnn_localvmamba_t_1x.py'
        )
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing:
        raise ValueError(
            f'--tta needs {" and ".join(missing)} in the config. For detectors, configs/_base_/det_tta.py has them'
        )
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def predicts_masks(model: Any) -> bool:
    """Tell whether a part of a detector's config is a head for masks."""
    if not isinstance(model, dict):
        return False
    heads = (model.get(key) is not None for key in ('mask_head', 'panoptic_fusion_head'))
    return any(heads) or any(predicts_masks(part) for part in model.values())


def prepare(cfg: Config, args: argparse.Namespace) -> None:
    """Apply what the command line and the device ask for."""
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.out:
        save_predictions(cfg, args.out)
    if args.tta:
        use_tta(cfg)
    fit_launcher(cfg)


def main(arguments: list[str] | None = None) -> None:
    """Load and prepare the config, check the data and the checkpoint, then evaluate."""
    args = parse_args(arguments)
    forward_log()
    refuse_unsafe_checkpoints()

    cfg = load_config(args)
    prepare(cfg, args)

    notes = clean_annotations(cfg, ['test']) + check_data(cfg, ['test'])
    check_file('checkpoint', args.checkpoint)
    check_channels(cfg)
    check_model(cfg)

    if not has_accelerator():
        keep_freed_memory()
    start_process_group(cfg.launcher)
    runner = build_runner(cfg)
    runner.register_hook(LoadedWeightsHook(complete=True))
    runner.register_hook(BadSamplesHook(cfg.get('bad_samples', 'raise')))
    runner.register_hook(FloatPredictionsHook())
    for note in notes:
        runner.logger.warning(note)
    with explain_dead_workers():
        runner.test()


if __name__ == '__main__':
    main()
