"""Weights of RGB images for a backbone that takes images of other channels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

_RGB = 3
_FIRST_CONVOLUTIONS = ('patch_embed.proj.weight', 'patch_embed.first.conv.weight', 'stem.0.weight')


def fit_input_channels(
    tensors: dict[str, Tensor], own: Mapping[str, Tensor], owner: str, source: str | Path
) -> list[str]:
    """Adapt the first convolution in place if it takes RGB images and the backbone's takes others, as timm does.

    For one channel its weights are summed over the channels, so that a gray image gives what its RGB copy would. For
    any other number they are repeated over the channels, in the order R, G, B, R, ..., and scaled by 3 / channels.

    Args:
        tensors: The checkpoint's tensors by their names in the backbone.
        own: The backbone's tensors.
        owner: The backbone's class, for messages.
        source: What the tensors come from, for messages.

    Returns:
        What there is to note for the log.

    Raises:
        ValueError: If the convolution takes neither RGB images nor those of the backbone.
    """
    notes = []
    for name in _FIRST_CONVOLUTIONS:
        given, wanted = tensors.get(name), own.get(name)
        if given is None or wanted is None or given.dim() != wanted.dim():
            continue
        channels, in_channels = given.shape[1], wanted.shape[1]
        if channels == in_channels:
            continue
        if channels != _RGB:
            raise ValueError(
                f'{source} is of images with {channels} channels ({name} is {tuple(given.shape)}), but this {owner} '
                f'has in_channels={in_channels}: only weights of RGB images (3 channels) are adapted to others. Set '
                f'in_channels={channels}, or give a checkpoint of {in_channels} or 3 channels'
            )
        from timm.models import adapt_input_conv

        tensors[name] = adapt_input_conv(in_channels, given)
        how = 'summed over them' if in_channels == 1 else f'repeated and scaled by {_RGB}/{in_channels}'
        notes.append(f'{name} adapted from {channels} to {in_channels} input channels: {how}')
    return notes
