"""The weights that a run starts from: are they there and safe to load, and what the log says about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmlocalmamba.compat.torch_load import check_checkpoint

from .data_check import path_problem

_RELEASES = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/'
PUBLISHED_WEIGHTS = {
    ('LocalVim', 'tiny'): _RELEASES + 'local_vim_tiny.ckpt',
    ('LocalVim', 'small'): _RELEASES + 'local_vim_small.ckpt',
    ('LocalVMamba', 'small'): _RELEASES + 'local_vssm_small.ckpt',
}


def check_weights(cfg: Config) -> None:
    """Check that the checkpoints that training will start from are there and safe to load. Changes nothing.

    Args:
        cfg: The whole config; ``load_from`` and ``model.backbone.init_cfg`` are read.

    Raises:
        FileNotFoundError: If a local checkpoint is missing. The message names its config key.
        ValueError: If it holds objects that are refused for safety.
    """
    if cfg.get('load_from'):
        check_file('load_from', cfg.load_from)
    checkpoint = _pretrained(cfg)
    if checkpoint:
        check_file('model.backbone.init_cfg.checkpoint', checkpoint)


def check_file(key: str, checkpoint: str) -> None:
    """Check that a checkpoint is there and safe to load; a URL is left to the download.

    Args:
        key: Where it was named: a config key or a command line argument.
        checkpoint: File or URL.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds objects that are refused for safety.
    """
    if '://' in checkpoint:
        return
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'{key} = {checkpoint}: there is no such file. {path_problem(Path(checkpoint)) or "It is a folder."} '
            f'(Relative paths start at {Path.cwd()}.)'
        )
    check_checkpoint(checkpoint)


def starting_point(cfg: Config) -> str:
    """Return the sentence about the weights that training starts from, for the log."""
    if cfg.get('resume'):
        checkpoint = cfg.get('load_from') or find_latest_checkpoint(cfg.work_dir)
        if checkpoint:
            return f'Training resumes from {checkpoint}.'
        return f'There is no checkpoint in {cfg.work_dir} to resume from. {_first_weights(cfg)}'
    if cfg.get('load_from'):
        return f'The model starts from {cfg.load_from}: how many of its tensors are loaded is said below.'
    return _first_weights(cfg)


def _first_weights(cfg: Config) -> str:
    """Return the sentence about a run that neither resumes nor loads a whole model."""
    checkpoint = _pretrained(cfg)
    if checkpoint:
        return f'The backbone starts from {checkpoint}.'
    backbone = cfg.model.get('backbone', {})
    kind = str(backbone.get('type')).split('.')[-1]
    if kind not in ('LocalVMamba', 'LocalVim'):
        return f'No pretrained weights were given: the backbone {kind} starts as its own defaults say.'
    arch = backbone.get('arch', 'tiny')
    url = PUBLISHED_WEIGHTS.get((kind, arch)) if isinstance(arch, str) else None
    published = f'Published weights of this size: {url}.' if url else 'No weights of this size were ever published.'
    return (
        f'The backbone {kind} (arch={arch!r}) trains FROM SCRATCH: no pretrained weights were given. {published} '
        'Give a checkpoint with: --cfg-options pretrained=<file or URL>'
    )


def _pretrained(cfg: Config) -> str | None:
    """Return the checkpoint that the backbone's init_cfg names."""
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg')
    return init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None
