"""The backbones by name, with what is published of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .backbones import LocalVim, LocalVMamba, Vim, VMamba
from .backbones.base import ScanBackbone
from .weights.loading import load_backbone

_LOCAL = 'https://github.com/hunto/LocalMamba/releases/download/v1.0.0/'
_VMAMBA = 'https://github.com/MzeroMiko/VMamba/releases/download/'
_VIM = 'https://huggingface.co/hustvl/'


class Variant(NamedTuple):
    """A backbone with everything that its name says.

    Attributes:
        backbone: Its class.
        settings: Arguments of the class that the name stands for.
        weights: URL of published ImageNet-1k weights; None where there are none.
    """

    backbone: type[ScanBackbone]
    settings: Mapping[str, Any]
    weights: str | None = None


def _local_vim(arch: str, weights: str | None = None, **settings: Any) -> Variant:
    return Variant(LocalVim, MappingProxyType(dict(arch=arch, **settings)), weights and _LOCAL + weights)


def _local_vmamba(arch: str, weights: str | None = None) -> Variant:
    return Variant(LocalVMamba, MappingProxyType(dict(arch=arch)), weights and _LOCAL + weights)


def _vmamba(arch: str, weights: str | None = None) -> Variant:
    return Variant(VMamba, MappingProxyType(dict(arch=arch)), weights and _VMAMBA + weights)


def _vim(arch: str, weights: str | None = None, **settings: Any) -> Variant:
    return Variant(Vim, MappingProxyType(dict(arch=arch, **settings)), weights and _VIM + weights)


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        'local_vmamba_micro': _local_vmamba('micro'),
        'local_vmamba_tiny': _local_vmamba('tiny'),
        'local_vmamba_small': _local_vmamba('small', 'local_vssm_small.ckpt'),
        'local_vim_micro': _local_vim('micro', out_indices=(0, 1, 2, 3)),
        'local_vim_tiny': _local_vim('tiny', 'local_vim_tiny.ckpt'),
        'local_vim_tiny_middle_cls_token': _local_vim(
            'tiny', 'local_vim_tiny_middle_cls_token.ckpt', rope=False, middle_cls_token=True
        ),
        'local_vim_small': _local_vim('small', 'local_vim_small.ckpt'),
        'vmamba_micro': _vmamba('micro'),
        'vmamba_tiny': _vmamba('tiny', '%23v0cls/vssmtiny_dp01_ckpt_epoch_292.pth'),
        'vmamba_small': _vmamba('small', '%23v0cls/vssmsmall_dp03_ckpt_epoch_238.pth'),
        'vmamba_base': _vmamba('base'),
        'vmamba_micro_s1l2': _vmamba('micro_s1l2'),
        'vmamba_tiny_s1l8': _vmamba('tiny_s1l8', '%23v2cls/vssm1_tiny_0230s_ckpt_epoch_264.pth'),
        'vmamba_small_s1l20': _vmamba('small_s1l20'),
        'vmamba_base_s1l20': _vmamba('base_s1l20'),
        'vmamba_tiny_s2l5': _vmamba('tiny_s2l5'),
        'vmamba_small_s2l15': _vmamba('small_s2l15'),
        'vmamba_base_s2l15': _vmamba('base_s2l15'),
        'vim_micro': _vim('micro', out_indices=(0, 1, 2, 3)),
        'vim_tiny': _vim('tiny', 'Vim-tiny-midclstok/resolve/main/vim_t_midclstok_76p1acc.pth'),
        'vim_small': _vim('small', 'Vim-small-midclstok/resolve/main/vim_s_midclstok_80p5acc.pth'),
        'vim_base': _vim('base'),
    }
)
"""Every backbone by name. Those whose names hold ``micro`` are for demos and tests."""


def find_variant(name: str) -> Variant:
    """Look a backbone up.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in VARIANTS:
        raise ValueError(f'there is no backbone {name!r}: choose one of {", ".join(VARIANTS)}')
    return VARIANTS[name]


def build_backbone(name: str, pretrained: bool | str | Path = False, **settings: Any) -> ScanBackbone:
    """Build a backbone by name: what to use in programs of one's own.

    Args:
        name: One of :data:`VARIANTS`, such as ``'local_vmamba_tiny'``.
        pretrained: True for the published ImageNet-1k weights, or the file or URL of others; False for none.
        settings: Further arguments of the backbone's class, such as ``in_channels`` or ``out_indices``.

    Returns:
        The backbone: called with images (B, in_channels, H, W), it gives a tuple of maps (B, C, h, w).

    Raises:
        ValueError: If the name is unknown, the weights do not fit, or there are no published ones.
        TypeError: If the class has no such argument.
        OSError: If the weights cannot be read.

    Example:
        >>> import torch
        >>> maps = build_backbone('local_vmamba_micro', in_channels=4, out_indices=(2, 3))(torch.zeros(1, 4, 64, 96))
        >>> [tuple(m.shape) for m in maps]
        [(1, 128, 4, 6), (1, 256, 2, 3)]
    """
    variant = find_variant(name)
    source = published_weights(name) if pretrained is True else pretrained
    backbone = variant.backbone(**{**variant.settings, **settings})
    if source:
        load_backbone(backbone, source)
    return backbone


def published_weights(name: str) -> str:
    """Give the URL of a backbone's published weights.

    Raises:
        ValueError: If there are none.
    """
    weights = find_variant(name).weights
    if weights is None:
        there = ', '.join(other for other, variant in VARIANTS.items() if variant.weights)
        raise ValueError(
            f'no weights of {name} are published: give the file or URL of your own. There are some of {there}'
        )
    return weights
