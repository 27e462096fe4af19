"""From the published implementation's tensor names to ours: pure functions from dict to dict.

The published files keep directions in separate or flattened tensors, and the classifier beside the backbone. Names that
are unknown here come out unchanged, so that loading reports them. The classifier's come out as ``head.*``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..layers.position import rotary_tables, square_grid
from ..layers.vim_mixer import VimMixer

_VMAMBA_RENAMES: tuple[tuple[str, str], ...] = (
    (r'^patch_embed\.0\.', 'patch_embed.proj.'),
    (r'^patch_embed\.2\.', 'patch_embed.norm.'),
    (r'^layers\.', 'stages.'),
    (r'\.op\.multi_scan\.attn\.', '.mixer.merge.attn.'),
    (r'\.op\.multi_scan\.weights$', '.mixer.merge.alpha'),
    (r'\.op\.dt_projs_', '.mixer.dt_proj_'),
    (r'\.op\.A_logs$', '.mixer.A_log'),
    (r'\.op\.Ds$', '.mixer.D'),
    (r'\.op\.conv2d\.', '.mixer.conv.'),
    (r'\.op\.', '.mixer.'),
    (r'^outnorm(\d)\.', r'norm\1.'),
    (r'^classifier\.norm\.', 'head.norm.'),
    (r'^classifier\.head\.', 'head.fc.'),
)

_FIRST_VMAMBA_RENAMES: tuple[tuple[str, str], ...] = (
    (r'\.ln_1\.', '.norm.'),
    (r'\.self_attention\.', '.op.'),
    (r'^norm\.', 'classifier.norm.'),
    (r'^head\.', 'classifier.head.'),
)
"""From the names of VMamba's first files to those of its later ones."""

_VMAMBA_V2_RENAMES: tuple[tuple[str, str], ...] = (
    (r'^patch_embed\.0\.', 'patch_embed.first.conv.'),
    (r'^patch_embed\.2\.', 'patch_embed.first.norm.'),
    (r'^patch_embed\.5\.', 'patch_embed.second.conv.'),
    (r'^patch_embed\.7\.', 'patch_embed.second.norm.'),
    (r'\.downsample\.1\.', '.downsample.conv.'),
    (r'\.downsample\.3\.', '.downsample.norm.'),
)

_LINEAR = re.compile(r'.*\.(in_proj|out_proj|fc1|fc2)\.weight')

_VIM_RENAMES: tuple[tuple[str, str], ...] = (
    (r'\.mixer\.attn\.', '.mixer.merge.attn.'),
    (r'\.mixer\.multi_scan\.weights$', '.mixer.merge.alpha'),
    (r'^norm_f\.', 'head.norm.'),
    (r'^head\.(weight|bias)$', r'head.fc.\1'),
)

_BIDIRECTIONAL_RENAMES: tuple[tuple[str, str], ...] = (
    (r'\.mixer\.A_b_log$', '.mixer.A_log_b'),
    (r'\.mixer\.conv1d', '.mixer.conv'),
    (r'\.mixer\.(conv|x_proj|dt_proj)(_b)?\.(weight|bias)$', r'.mixer.\1_\3\2'),
)
"""To our names of parameters, with ``_b`` behind those of the backward direction."""


def _part_pattern(parameter: str) -> re.Pattern[str]:
    r"""Match what the published LocalVim calls one direction's part of a parameter, such as x_proj_3.weight."""
    layer, dot, kind = re.sub(r'_(weight|bias)$', r'.\1', parameter).partition('.')
    layer = 'conv1d' if layer == 'conv' else layer
    return re.compile(rf'(?P<mixer>.*\.mixer\.){layer}_(?P<k>\d+){re.escape(dot + kind)}')


_VIM_PARTS = {parameter: _part_pattern(parameter) for parameter in VimMixer.PER_DIRECTION}


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are tensors in the published implementation's naming."""
    marks = ('.op.A_logs', '.self_attention.A_logs', '.mixer.A_log_0', '.mixer.A_b_log')
    return any(name.endswith(marks) for name in state)


def vmamba_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of LocalVMamba, and of VMamba in both generations and in its first files.

    Those flattened over directions get their direction axis back.
    """
    renamed = {_rename(name, _FIRST_VMAMBA_RENAMES): value for name, value in state.items()}
    rules = _VMAMBA_RENAMES
    if 'patch_embed.5.weight' in renamed:  # the convolutional stem of the second version
        rules = _VMAMBA_V2_RENAMES + rules
    out = {}
    for name, value in renamed.items():
        new = _rename(name, rules)
        bias = renamed.get(re.sub(r'\.(A_logs|Ds)$', '.dt_projs_bias', name))
        if bias is not None and new.endswith(('.A_log', '.D')):
            value = value.unflatten(0, tuple(bias.shape))
        elif new.endswith('.merge.alpha'):
            value = value.flatten()
        elif _LINEAR.fullmatch(new):
            value = value.flatten(1)  # some files hold linear layers as convolutions of 1 x 1
        out[new] = value
    return out


def local_vim_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename LocalVim's tensors; per-direction ones are stacked, the class token's position gets a table of its own.

    Raises:
        ValueError: If the rotary tables differ from the formula that this package computes them by.
    """
    out: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        part = _part_of_one_direction(name)
        if part is not None:
            stacks.setdefault(part[0], {})[part[1]] = value
        elif name.startswith('rope.'):
            _check_rotary_table(name, value)
        else:
            new = _rename(name, _VIM_RENAMES)
            out[new] = value.flatten() if new.endswith('.merge.alpha') else value
    for name, parts in stacks.items():
        stacked = torch.stack([parts[k] for k in sorted(parts)])
        out[name] = stacked.squeeze(2) if name.endswith('.conv_weight') else stacked  # from (K, D, 1, width)
    _split_positions(out)
    return out


def vim_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Vim's tensors; those of both directions are stacked, the class token's position gets its own table."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        new = _rename(name, _BIDIRECTIONAL_RENAMES + _VIM_RENAMES)
        if new.endswith(('.conv_weight', '.conv_weight_b')):
            value = value.squeeze(1)  # from (D, 1, width)
        out[new] = value
    for name in [name for name in out if name.rpartition('.')[2] in VimMixer.PER_DIRECTION and f'{name}_b' in out]:
        out[name] = torch.stack([out[name], out.pop(f'{name}_b')])
    _split_positions(out)
    return out


def _split_positions(tensors: dict[str, Tensor]) -> None:
    """Give the position of the class token in the middle a table of its own, in place, if there is such a token."""
    if 'cls_token' in tensors and 'pos_embed' in tensors:
        positions = tensors['pos_embed']
        middle = (positions.shape[1] - 1) // 2
        tensors['cls_pos_embed'] = positions[:, middle : middle + 1]
        tensors['pos_embed'] = torch.cat([positions[:, :middle], positions[:, middle + 1 :]], 1)


def _part_of_one_direction(name: str) -> tuple[str, int] | None:
    """Give our name of the parameter that a published tensor is one direction's part of, and the direction's place."""
    for parameter, pattern in _VIM_PARTS.items():
        match = pattern.fullmatch(name)
        if match:
            return match['mixer'] + parameter, int(match['k'])
    return None


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _check_rotary_table(name: str, table: Tensor) -> None:
    expected = rotary_tables(square_grid(table.shape[0]), table.shape[1])['sin' in name]
    if not torch.allclose(table.float(), expected, atol=1e-4):
        raise ValueError(
            f"the checkpoint's rotary table {name!r} is not the one that LocalVim computes (10000^(-2i / (dim / 2)), "
            'positions scaled to 14): it belongs to another model'
        )
