"""Evaluating checkpoints inside a tool that does more than that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from torch import nn

from mmlocalmamba.engine.cli import build_runner
from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.engine.device import fit_launcher
from mmlocalmamba.engine.hooks import LoadedWeightsHook

from .comparison import papers_metrics


def evaluate(
    cfg: Config, checkpoint: str, work_dir: str, watch: Callable[[nn.Module], object] | None = None
) -> dict[str, float]:
    """Evaluate a checkpoint on a config's test data.

    Args:
        cfg: The config; it is written into.
        checkpoint: File of the weights.
        work_dir: Folder in which the run gets a folder named after the config.
        watch: Is given the model before the evaluation, say to register hooks.

    Returns:
        Metrics as papers name them, in percent.

    Raises:
        ValueError: If the data or the checkpoint do not fit the config.
    """
    check_data(cfg, ['test'])
    cfg.load_from, cfg.resume, cfg.launcher = checkpoint, False, 'none'
    cfg.work_dir = str(Path(work_dir) / Path(cfg.filename).stem)
    fit_launcher(cfg)
    runner = build_runner(cfg)
    runner.register_hook(LoadedWeightsHook(complete=True))
    if watch is not None:
        watch(runner.model)
    return papers_metrics(runner.test())
