"""A classifier's tensors in our names: under ``backbone.`` and ``head.``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .published_names import is_published

if TYPE_CHECKING:
    from ..backbones.base import ScanBackbone


def classifier_from_published(backbone: ScanBackbone | nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published classifier's tensors; any others come out as they are.

    Args:
        backbone: The backbone that the classifier has.
        state: Tensors by name. Under ``backbone.``, published names are the backbone's own to translate.
    """
    convert = getattr(backbone, 'convert_published', None)
    if convert is None or not is_published(state) or any(name.startswith('backbone.') for name in state):
        return dict(state)
    return {name if name.startswith('head.') else f'backbone.{name}': value for name, value in convert(state).items()}
