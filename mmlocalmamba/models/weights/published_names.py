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

_VIM_RENAMES: tuple[tuple[str, str], ...] = (
    (r'\.mixer\.attn\.', '.mixer.merge.attn.'),
    (r'\.mixer\.multi_scan\.weights$', '.mixer.merge.alpha'),
    (r'\.mixer\.conv1d\.weight$', '.mixer.conv_weight'),
    (r'\.mixer\.conv1d\.bias$', '.mixer.conv_bias'),
    (r'\.mixer\.x_proj\.weight$', '.mixer.x_proj_weight'),
    (r'\.mixer\.dt_proj\.weight$', '.mixer.dt_proj_weight'),
    (r'\.mixer\.dt_proj\.bias$', '.mixer.dt_proj_bias'),
    (r'^norm_f\.', 'head.norm.'),
    (r'^head\.(weight|bias)$', r'head.fc.\1'),
)

_PER_DIRECTION = re.compile(r'(?P<stem>.*\.mixer\.(?:A_log|D|conv1d|x_proj|dt_proj))_(?P<k>\d+)(?P<rest>(?:\.\w+)?)')


def is_published(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are tensors in the published implementation's naming."""
    return any('.op.A_logs' in name or '.mixer.A_log_0' in name for name in state)


def local_vmamba_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename LocalVMamba's tensors; those flattened over directions get their direction axis back."""
    out = {}
    for name, value in state.items():
        new = _rename(name, _VMAMBA_RENAMES)
        weight = state.get(re.sub(r'\.(A_logs|Ds)$', '.dt_projs_bias', name))
        if weight is not None and new.endswith(('.A_log', '.D')):
            value = value.unflatten(0, tuple(weight.shape))
        if new.endswith('.merge.alpha'):
            value = value.flatten()
        out[new] = value
    return out


def local_vim_from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename LocalVim's tensors; per-direction ones are stacked, the class token's position gets a table of its own.

    Raises:
        ValueError: If the rotary tables differ from the formula that this package computes them by.
    """
    merged: dict[str, Tensor] = {}
    groups: dict[str, dict[int, Tensor]] = {}
    for name, value in state.items():
        match = _PER_DIRECTION.fullmatch(name)
        if match:
            groups.setdefault(match['stem'] + match['rest'], {})[int(match['k'])] = value
        elif name.startswith('rope.'):
            _check_rotary_table(name, value)
        else:
            merged[name] = value
    for name, parts in groups.items():
        merged[name] = torch.stack([parts[k] for k in sorted(parts)])
    out = {_rename(name, _VIM_RENAMES): value for name, value in merged.items()}
    for name, value in out.items():
        if name.endswith('.conv_weight'):
            out[name] = value.squeeze(2)  # (K, D, 1, width)
        if name.endswith('.merge.alpha'):
            out[name] = value.flatten()
    if 'cls_token' in out and 'pos_embed' in out:
        positions = out['pos_embed']
        middle = (positions.shape[1] - 1) // 2
        out['cls_pos_embed'] = positions[:, middle : middle + 1]
        out['pos_embed'] = torch.cat([positions[:, :middle], positions[:, middle + 1 :]], 1)
    return out


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
