"""Checks, before anything is built, that loading, normalisation and backbone agree about the images' channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

_ADVICE = 'docs/multispectral.md shows a whole config.'


def check_channels(cfg: Config) -> None:
    """Check the channels of a config whose backbone takes other images than RGB. Changes nothing.

    Raises:
        ValueError: If the data preprocessor would drop channels or has other means than channels, or a loading
            transform gives other channels. The message names the config keys and both numbers.
    """
    model = cfg.get('model', {})
    channels = model.get('backbone', {}).get('in_channels', 3)
    wants = f'model.backbone.in_channels={channels}'
    preprocessor = model.get('data_preprocessor') or {}
    if not isinstance(preprocessor, Mapping):
        return
    for key in ('bgr_to_rgb', 'rgb_to_bgr'):
        if channels != 3 and preprocessor.get(key):
            raise ValueError(
                f'{wants}, but model.data_preprocessor.{key}=True keeps three channels and drops all others: use '
                f"type='mmlocalmamba.MultispectralDataPreprocessor' without it. {_ADVICE}"
            )
    means = len(preprocessor.get('mean') or ())
    if means not in (0, 1, channels):
        raise ValueError(
            f'{wants}, but model.data_preprocessor.mean has {means} values: give one per channel to '
            f"type='mmlocalmamba.MultispectralDataPreprocessor'. {_ADVICE}"
        )
    for key, transform in _loading(cfg):
        given = _loaded_channels(transform)
        if given is not None and given != channels:
            raise ValueError(
                f"{wants}, but {key} (type='{transform['type']}') gives images of {given} channels: use "
                f"type='mmlocalmamba.LoadMultispectralImage', channels={channels} (for gray images also "
                f"type='LoadImageFromFile', color_type='grayscale'). {_ADVICE}"
            )


def _loaded_channels(transform: Mapping[str, Any]) -> int | None:
    """Tell how many channels a loading transform gives; None if only the file tells."""
    kind = str(transform.get('type')).rpartition('.')[2]
    if kind == 'LoadMultispectralImage':
        return transform.get('channels')
    if kind == 'LoadImageFromFile':
        return {'color': 3, 'grayscale': 1}.get(transform.get('color_type', 'color'))
    return None


def _loading(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the transforms of all splits' data sets, with their config keys."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader') or {}
        yield from _transforms(f'{split}_dataloader.dataset', loader.get('dataset') or {})


def _transforms(key: str, dataset: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, transform in enumerate(dataset.get('pipeline') or []):
        if isinstance(transform, Mapping):
            yield f'{key}.pipeline[{index}]', transform
    if isinstance(dataset.get('dataset'), Mapping):
        yield from _transforms(f'{key}.dataset', dataset['dataset'])
    for index, inner in enumerate(dataset.get('datasets') or []):
        yield from _transforms(f'{key}.datasets[{index}]', inner)
