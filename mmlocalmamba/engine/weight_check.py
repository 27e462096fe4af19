"""The weights that a run starts from: are they there and safe to load, and what the log says about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from mmlocalmamba.compat.torch_load import check_checkpoint
from mmlocalmamba.models.weights.damage import damage

from .data_check import path_problem

_RELEASES = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/'
_VMAMBA = 'https://github.com/MzeroMiko/VMamba/releases/download/'
_VIM = 'https://huggingface.co/hustvl/'
PUBLISHED_WEIGHTS = {
    ('LocalVim', 'tiny'): _RELEASES + 'local_vim_tiny.ckpt',
    ('LocalVim', 'small'): _RELEASES + 'local_vim_small.ckpt',
    ('LocalVMamba', 'small'): _RELEASES + 'local_vssm_small.ckpt',
    ('VMamba', 'tiny'): _VMAMBA + '%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth',
    ('VMamba', 'small'): _VMAMBA + '%23v0cls/vssmsmall_dp03_ckpt_epoch_238.pth',
    ('VMamba', 'base'): _VMAMBA + '%23v0cls/vssmbase_dp06_ckpt_epoch_241.pth',
    ('VMamba', 'tiny_s1l8'): _VMAMBA + '%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth',
    ('VMamba', 'small_s1l20'): _VMAMBA + '%23v2cls/vssm1_small_0229s_ckpt_epoch_240.pth',
    ('VMamba', 'base_s1l20'): _VMAMBA + '%23v2cls/vssm1_base_0229s_ckpt_epoch_225.pth',
    ('VMamba', 'tiny_s2l5'): _VMAMBA + '%23v2cls/vssm_tiny_0230_ckpt_epoch_262.pth',
    ('VMamba', 'small_s2l15'): _VMAMBA + '%23v2cls/vssm_small_0229_ckpt_epoch_222.pth',
    ('VMamba', 'base_s2l15'): _VMAMBA + '%23v2cls/vssm_base_0229_ckpt_epoch_237.pth',
    ('Vim', 'tiny'): _VIM + 'Vim-tiny-midclstok/resolve/main/vim_t_midclstok_76p1acc.pth',
    ('Vim', 'small'): _VIM + 'Vim-small-midclstok/resolve/main/vim_s_midclstok_80p5acc.pth',
    ('Vim', 'base'): _VIM + 'Vim-base-midclstok/resolve/main/vim_b_midclstok_81p9acc.pth',
}
"""ImageNet weights by class and ``arch`` of the backbone, as their authors' pages list them."""

KINDS = {kind for kind, _ in PUBLISHED_WEIGHTS}


def check_weights(cfg: Config) -> None:
    """Check that the checkpoints that training will start from are there and safe to load. Changes nothing.

    Args:
        cfg: The whole config; ``load_from`` and ``model.backbone.init_cfg`` are read.

    Raises:
        FileNotFoundError: If a local checkpoint is missing. The message names its config key.
        ValueError: If it is damaged, or holds objects that are refused for safety.
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
        ValueError: If it is damaged, or holds objects that are refused for safety.
    """
    if '://' in checkpoint:
        return
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'{key} = {checkpoint}: there is no such file. {path_problem(Path(checkpoint)) or "It is a folder."} '
            f'(Relative paths start at {Path.cwd()}.)'
        )
    problem = damage(checkpoint)
    if problem is not None:
        raise ValueError(f'{key} = {checkpoint}: the file is damaged, {problem}. Copy or download it again')
    check_checkpoint(checkpoint)


def starting_point(cfg: Config) -> str:
    """Return the sentence about the weights that training starts from, for the log."""
    if cfg.get('load_from'):
        if cfg.get('resume'):
            return f'Training resumes from {cfg.load_from}.'
        return f'The model starts from {cfg.load_from}: how many of its tensors are loaded is said below.'
    return _first_weights(cfg)


def _first_weights(cfg: Config) -> str:
    """Return the sentence about a run that neither resumes nor loads a whole model."""
    checkpoint = _pretrained(cfg)
    if checkpoint:
        how = ', by a warm start' if cfg.model.backbone.init_cfg.get('warm_start') else ''
        return f'The backbone starts from {checkpoint}{how}.'
    backbone = cfg.model.get('backbone', {})
    kind = str(backbone.get('type')).split('.')[-1]
    if kind not in KINDS:
        return f'No pretrained weights were given: the backbone {kind} starts as its own defaults say.'
    arch = backbone.get('arch', 'tiny')
    url = PUBLISHED_WEIGHTS.get((kind, arch)) if isinstance(arch, str) else None
    published = f'Published weights of this size: {url}.' if url else 'No weights of this size were ever published.'
    text = (
        f'The backbone {kind} (arch={arch!r}) trains FROM SCRATCH: no pretrained weights were given. {published} '
        'Give a checkpoint with: --cfg-options pretrained=<file or URL>'
    )
    if (kind, arch) == ('LocalVMamba', 'tiny'):
        text += f'. It can start from VMamba-T: --cfg-options pretrained={PUBLISHED_WEIGHTS["VMamba", "tiny"]} '
        text += 'warm_start=True'
    return text


def _pretrained(cfg: Config) -> str | None:
    """Return the checkpoint that the backbone's init_cfg names."""
    init_cfg = cfg.model.get('backbone', {}).get('init_cfg')
    return init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None
