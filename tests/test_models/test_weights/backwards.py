"""From our tensor names back to those of the published files of VMamba and Vim."""

from collections.abc import Mapping

import torch
from torch import Tensor

VMAMBA = (
    ('patch_embed.proj.', 'patch_embed.0.'),
    ('patch_embed.norm.', 'patch_embed.2.'),
    ('patch_embed.first.conv.', 'patch_embed.0.'),
    ('patch_embed.first.norm.', 'patch_embed.2.'),
    ('patch_embed.second.conv.', 'patch_embed.5.'),
    ('patch_embed.second.norm.', 'patch_embed.7.'),
    ('.downsample.conv.', '.downsample.1.'),
    ('.downsample.norm.', '.downsample.3.'),
    ('stages.', 'layers.'),
    ('.mixer.merge.attn.', '.op.multi_scan.attn.'),
    ('.mixer.dt_proj_', '.op.dt_projs_'),
    ('.mixer.A_log', '.op.A_logs'),
    ('.mixer.D', '.op.Ds'),
    ('.mixer.conv.', '.op.conv2d.'),
    ('.mixer.', '.op.'),
    ('head.norm.', 'classifier.norm.'),
    ('head.fc.', 'classifier.head.'),
)
FIRST_VMAMBA = (
    ('patch_embed.0.', 'patch_embed.proj.'),
    ('patch_embed.2.', 'patch_embed.norm.'),
    ('classifier.', ''),
    ('.norm.', '.ln_1.'),
    ('.op.', '.self_attention.'),
)


def published_vmamba(state: Mapping[str, Tensor], vanilla: bool = False) -> dict[str, Tensor]:
    """Rename VMamba's or LocalVMamba's tensors.

    Args:
        state: Tensors of a bare backbone, with ``head.*`` beside if there is a classifier.
        vanilla: Whether the stages are joined by patch merging, whose names are the published ones.
    """
    rules = [(ours, theirs) for ours, theirs in VMAMBA if not (vanilla and '.downsample.' in ours)]
    out = {}
    for name, value in state.items():
        value = value.flatten(0, 1) if name.endswith(('.A_log', '.D')) else value
        name = f'out{name}' if name.startswith('norm') else name
        out[_replace(name, rules)] = value
    return out


def first_vmamba(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published tensors of the vanilla kind to what the first files call them."""
    out = {}
    for name, value in published.items():
        rules = [(ours, theirs) for ours, theirs in FIRST_VMAMBA if not (ours == '.norm.' and '.downsample.' in name)]
        out[_replace(name, rules)] = value
    return out


def published_vim(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Vim's tensors, with ``head.*`` beside if there is a classifier."""
    out = {}
    for name, value in state.items():
        mixer, _, parameter = name.rpartition('.')
        if name == 'pos_embed':
            middle = value.shape[1] // 2
            value = torch.cat([value[:, :middle], state['cls_pos_embed'], value[:, middle:]], 1)
        elif name == 'cls_pos_embed':
            continue
        if not mixer.endswith('.mixer'):
            out[_replace(name, (('head.norm.', 'norm_f.'), ('head.fc.', 'head.')))] = value
            continue
        for suffix, part in zip(('', '_b'), value, strict=True):
            part = part[:, None] if parameter == 'conv_weight' else part
            layer, _, kind = parameter.rpartition('_')
            layer = 'conv1d' if layer == 'conv' else layer
            if kind in ('weight', 'bias'):
                new = f'{layer}{suffix}.{kind}'
            else:
                new = {'A_log': f'A{suffix}_log', 'D': f'D{suffix}'}[parameter]
            out[f'{mixer}.{new}'] = part
    return out


def _replace(name, rules):
    for ours, theirs in rules:
        name = name.replace(ours, theirs)
    return name
