"""Do neck and heads expect the maps that the backbone gives?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from .findings import Finding, plural
from .settings import model_of, registered, setting

_HEADS = ('decode_head', 'auxiliary_head', 'panoptic_head')


def backbone_maps(cfg: Config) -> Iterator[Finding]:
    """Compare number and channels of the backbone's maps with ``in_channels`` of what takes them.

    Channels are known of our own backbones, and of others that state theirs as ResNet or Swin do; the number of maps of
    every backbone with ``out_indices``.
    """
    model = model_of(cfg)
    backbone = model.get('backbone')
    if not isinstance(backbone, Mapping):
        return
    cls = registered(MODELS, backbone, cfg)
    indices = setting(backbone, 'out_indices', cls)
    if not isinstance(indices, (list, tuple)) or not all(isinstance(index, int) for index in indices):
        return
    widths = _widths(backbone, cls, indices)
    neck = model.get('neck')
    if isinstance(neck, (list, tuple)):
        neck = neck[0] if neck else None
    if isinstance(neck, Mapping):
        wanted = neck.get('in_channels')
        if isinstance(wanted, (list, tuple)) and 'CLRerNetFPN' not in str(neck.get('type')):  # it takes the last maps
            yield from _compare('model.neck', wanted, range(len(wanted)), indices, widths)
        elif 'SimpleFPN' in str(neck.get('type')) and widths is not None and wanted != widths[-1]:
            yield _other_widths('model.neck.in_channels', wanted, widths[-1], indices)
        return
    for name in _HEADS:
        value = model.get(name)
        heads = value if isinstance(value, (list, tuple)) else [value]
        for place, head in enumerate(heads):
            if isinstance(head, Mapping):
                key = f'model.{name}' + ('' if head is value else f'.{place}')
                yield from _head(key, head, indices, widths, registered(MODELS, head, cfg))


def _head(
    key: str, head: Mapping[str, Any], indices: Sequence[int], widths: Sequence[int] | None, cls: type | None
) -> Iterator[Finding]:
    """Compare a head without a neck before it."""
    wanted, chosen = head.get('in_channels'), setting(head, 'in_index', cls)
    if isinstance(wanted, (list, tuple)):
        if isinstance(chosen, (list, tuple)):
            yield from _chosen(key, wanted, chosen, indices, widths)
        else:
            yield from _compare(key, wanted, range(len(wanted)), indices, widths)
    elif isinstance(wanted, int) and isinstance(chosen, int):
        yield from _chosen(key, [wanted], [chosen], indices, widths)


def _chosen(
    key: str, wanted: Sequence[int], chosen: Sequence[int], indices: Sequence[int], widths: Sequence[int] | None
) -> Iterator[Finding]:
    """Compare the maps that ``in_index`` of a head chooses."""
    outside = [index for index in chosen if not -len(indices) <= index < len(indices)]
    if outside:
        yield Finding(
            f'{key}.in_index has {outside[0]}, but the backbone gives {plural(len(indices), "map")} '
            f'(model.backbone.out_indices={tuple(indices)}): choose from 0 to {len(indices) - 1}, or more out_indices.'
        )
    elif widths is not None and len(wanted) == len(chosen):
        given = [widths[index] for index in chosen]
        if given != list(wanted):
            single = len(given) == 1
            yield _other_widths(
                f'{key}.in_channels', wanted[0] if single else list(wanted), given[0] if single else given, indices
            )


def _compare(
    key: str, wanted: Sequence[int], places: Sequence[int], indices: Sequence[int], widths: Sequence[int] | None
) -> Iterator[Finding]:
    """Compare what takes all maps."""
    if len(wanted) != len(indices):
        yield Finding(
            f'{key}.in_channels={list(wanted)} is for {plural(len(wanted), "map")}, but the backbone gives '
            f'{len(indices)} (model.backbone.out_indices={tuple(indices)}): change one of them.'
        )
    elif widths is not None and list(wanted) != list(widths):
        yield _other_widths(f'{key}.in_channels', list(wanted), list(widths), indices)


def _other_widths(key: str, wanted: Any, given: Any, indices: Sequence[int]) -> Finding:
    return Finding(
        f'{key}={wanted}, but the maps of the backbone have {given} channels '
        f'(model.backbone.out_indices={tuple(indices)}): set {key}={given}.'
    )


def _widths(backbone: Mapping[str, Any], cls: type | None, indices: Sequence[int]) -> list[int] | None:
    """Give the channels of the maps of a backbone; None if they cannot be told from its config."""
    arch = setting(backbone, 'arch', cls)
    zoo = getattr(cls, 'arch_zoo', None)
    sizes = arch if isinstance(arch, Mapping) else zoo.get(arch) if isinstance(zoo, Mapping) else None
    stages: Sequence[int] | None = None
    if isinstance(sizes, Mapping) and 'dims' in sizes:
        stages = sizes['dims']
    elif isinstance(sizes, Mapping) and 'embed_dim' in sizes and 'depth' in sizes:
        return [sizes['embed_dim']] * len(indices)
    elif cls is not None and any(base.__name__ == 'ResNet' for base in cls.__mro__):
        stages = _resnet_widths(backbone, cls)
    elif cls is not None and cls.__name__ == 'SwinTransformer':
        width, depths = setting(backbone, 'embed_dims', cls), setting(backbone, 'depths', cls)
        stages = [width * 2**stage for stage in range(len(depths))] if isinstance(width, int) else None
    if stages is None or not all(-len(stages) <= index < len(stages) for index in indices):
        return None
    return [stages[index] for index in indices]


def _resnet_widths(backbone: Mapping[str, Any], cls: type) -> list[int] | None:
    settings = getattr(cls, 'arch_settings', {}).get(setting(backbone, 'depth', cls))
    base, stages = setting(backbone, 'base_channels', cls), setting(backbone, 'num_stages', cls)
    if settings is None or not isinstance(stages, int):
        return None
    base = base if isinstance(base, int) else setting(backbone, 'stem_channels', cls) or 64
    return [base * getattr(settings[0], 'expansion', 1) * 2**stage for stage in range(stages)]
