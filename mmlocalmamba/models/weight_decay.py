"""What weight decay leaves alone: the one place that says so."""

from __future__ import annotations

from torch import nn

NO_DECAY_NAMES = ('bias', 'A_log', 'D', 'pos_embed', 'cls_token', 'cls_pos_embed', 'relative_position_bias_table')
"""Parameters without weight decay, by the last part of their names."""


def is_free_of_decay(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay leaves a parameter alone, by its name and its number of dimensions.

    Beside :data:`NO_DECAY_NAMES` it leaves those alone whose names end in ``_bias``, and those of one dimension:
    biases, norms, and the ``alpha`` of a direction search.
    """
    last = name.rsplit('.', 1)[-1]
    return parameter.ndim <= 1 or last in NO_DECAY_NAMES or last.endswith('_bias')
