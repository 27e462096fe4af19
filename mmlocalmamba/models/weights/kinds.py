"""Which backbone a checkpoint is of, told by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STAGES = re.compile(r'(stages|layers)\.\d+\.blocks\.\d+\.')
_LAYERS = re.compile(r'layers\.\d+\.mixer\.')
_SCATTN = re.compile(r'\.(merge|multi_scan|mixer)\.attn\.')


def kind_of(names: Iterable[str]) -> str | None:
    """Tell the class of the backbone that tensors belong to, by our names or the published ones.

    Args:
        names: Names of tensors of a backbone.

    Returns:
        ``'LocalVMamba'``, ``'VMamba'``, ``'LocalVim'`` or ``'Vim'``; None if they are like none of these. Without
        SCAttn, a model is taken for one that never has it: VMamba or Vim.

    Example:
        >>> kind_of(['layers.0.mixer.A_log', 'layers.0.mixer.merge.attn.norm.weight'])
        'LocalVim'
    """
    names = list(names)
    local = any(_SCATTN.search(name) for name in names)
    if any(_STAGES.match(name) for name in names):
        return 'LocalVMamba' if local else 'VMamba'
    if any(_LAYERS.match(name) for name in names):
        return 'LocalVim' if local else 'Vim'
    return None
