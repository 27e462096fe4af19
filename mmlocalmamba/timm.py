"""The backbones as models of timm: importing this lets ``timm.create_model('local_vmamba_tiny')`` build them.

They have timm's interface: ``features_only=True``, ``in_chans``, ``num_classes``, ``reset_classifier``,
``forward_intermediates`` and the rest. So whatever builds its encoders with timm takes them too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, register_model
from timm.models._features import feature_take_indices
from timm.models._registry import generate_default_cfgs
from torch import Tensor, nn

from mmlocalmamba.models.backbones.hierarchical import HierarchicalBackbone, Stage
from mmlocalmamba.models.backbones.plain import PlainBackbone
from mmlocalmamba.models.classifiers.head import ClassificationHead
from mmlocalmamba.models.layers.ssm_parameters import init_linear
from mmlocalmamba.models.variants import VARIANTS, find_variant
from mmlocalmamba.models.weight_decay import is_free_of_decay
from mmlocalmamba.models.weights.classifiers import classifier_from_published
from mmlocalmamba.models.weights.files import read_state_dict

_POOLINGS = ('avg', '')


class TimmModel(nn.Module):
    """One of our backbones and a classification head, with the interface of timm's models.

    Its tensors have the names of :class:`mmlocalmamba.models.ImageClassifier`: a checkpoint of one fits the other.

    Args:
        variant: Name of the backbone, one of :data:`MODELS`.
        num_classes: Classes of the head; 0 for none, which leaves the pooled features.
        in_chans: Channels of the image.
        global_pool: ``'avg'``: the head averages over all positions; ``''``: it does not.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Stochastic depth rate of the last block; rises linearly from 0.
        img_size: Side in pixels that LocalVim's position tables are made for; others take any size without it.

    Attributes:
        feature_info: Channels, reduction and name of each stage (hierarchical) or block (LocalVim).
        num_features: Channels of the last one.

    Raises:
        ValueError: If an argument is unknown or out of range.
    """

    def __init__(
        self,
        variant: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        img_size: int | None = None,
    ) -> None:
        super().__init__()
        chosen = find_variant(variant)
        settings = {**chosen.settings, 'in_channels': in_chans, 'drop_path_rate': drop_path_rate, 'out_norm': False}
        plain = issubclass(chosen.backbone, PlainBackbone)
        if plain:
            settings |= {'out_type': 'residual', 'out_indices': (-1,)}
            if img_size is not None:
                settings['img_size'] = img_size
        self.backbone: Any = chosen.backbone(**settings)
        widths = [self.backbone.dim] * self.backbone.depth if plain else self.backbone.dims
        self.feature_info = [
            dict(num_chs=width, reduction=self.backbone.stride_of(i), module=self._unit_name(i))
            for i, width in enumerate(widths)
        ]
        for i in range(len(widths)):  # the maps of all units can be asked for, and none has a norm of its own
            self.backbone.add_module(f'norm{i}', nn.Identity())
        self.num_features = self.head_hidden_size = widths[-1]
        self.num_classes, self.global_pool, self.drop_rate = num_classes, global_pool, drop_rate
        self.head = ClassificationHead(self.num_features, max(num_classes, 1), 'RMSNorm' if plain else 'LN')
        self.reset_classifier(num_classes, global_pool)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B, in_chans, H, W); returns logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Give the last map, (B, num_features, h, w), before its norm."""
        return self.backbone.compute_maps(x, [len(self.feature_info) - 1])[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Normalise a map (B, num_features, h, w), pool it, and classify.

        Args:
            x: From :meth:`forward_features`.
            pre_logits: Leave the classifier out.

        Returns:
            (B, num_classes), or (B, num_features) without a classifier; a map of those where nothing is pooled.
        """
        x = self.head.norm(x.permute(0, 2, 3, 1))
        if self.global_pool == 'avg':
            x = x.mean((1, 2))
        x = F.dropout(x, self.drop_rate, self.training)
        x = x if pre_logits else self.head.fc(x)
        return x if self.global_pool == 'avg' else x.permute(0, 3, 1, 2)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Give the maps of several stages or blocks.

        Args:
            x: Images (B, in_chans, H, W).
            indices: Units by number; an int for the last n, None for all.
            norm: Apply the head's norm to the last unit's map.
            stop_early: Do not compute units after the last index; the final map is not given then.
            output_fmt: ``'NCHW'``, the only one.
            intermediates_only: Leave the final map out.

        Returns:
            The maps (B, C, h, w); unless ``intermediates_only``, after the final map.

        Raises:
            ValueError: If ``output_fmt`` is another one, or ``stop_early`` comes without ``intermediates_only``.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f'output_fmt={output_fmt!r} is not offered: only NCHW is')
        if stop_early and not intermediates_only:
            raise ValueError('stop_early=True leaves the final map out: pass intermediates_only=True too')
        last = len(self.feature_info) - 1
        chosen, _ = feature_take_indices(len(self.feature_info), indices)
        wanted = sorted({*chosen, *(() if intermediates_only else (last,))})
        maps = dict(zip(wanted, self.backbone.compute_maps(x, wanted), strict=True))
        outputs = [self._normalise(maps[i]) if norm and i == last else maps[i] for i in sorted(chosen)]
        return outputs if intermediates_only else (maps[last], outputs)

    def _normalise(self, x: Tensor) -> Tensor:
        return self.head.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what is not needed for the maps of some units; returns their numbers."""
        chosen, highest = feature_take_indices(len(self.feature_info), indices)
        units = self._units()
        del units[highest + 1 :]
        if isinstance(units[-1], Stage):
            units[-1].downsample = None
        if prune_norm:
            self.head.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0)
        return chosen

    def get_classifier(self) -> nn.Module:
        """Give the classifier."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one.

        Args:
            num_classes: Its classes; 0 for none.
            global_pool: ``'avg'`` or ``''``. Default: as it is.

        Raises:
            ValueError: If ``global_pool`` is another one.
        """
        pooling = self.global_pool if global_pool is None else global_pool
        if pooling not in _POOLINGS:
            raise ValueError(f'global_pool={pooling!r} is not offered: choose one of {_POOLINGS}')
        self.num_classes, self.global_pool = num_classes, pooling
        self.head.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        init_linear(self.head.fc)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Choose whether the activations of each block are computed again in the backward, to save memory."""
        for module in self.backbone.modules():
            if isinstance(module, (HierarchicalBackbone, PlainBackbone, Stage)):
                module.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Give the names of the parameters that weight decay leaves alone."""
        return {name for name, parameter in self.named_parameters() if is_free_of_decay(name, parameter)}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Tell how parameters fall into layers by their names: per stage if ``coarse``, else per block."""
        stem = r'^backbone\.(?:patch_embed|pos_embed)'
        if isinstance(self.backbone, PlainBackbone):
            return dict(stem=stem, blocks=r'^backbone\.layers\.(\d+)')
        blocks = r'^backbone\.stages\.(\d+)'
        fine = [(r'^backbone\.stages\.(\d+)\.downsample', (99,)), (blocks + r'\.blocks\.(\d+)', None)]
        return dict(stem=stem, blocks=blocks if coarse else fine)

    def load_pretrained(self, source: str | Path) -> None:
        """Load a checkpoint: a published one, or one of ours; timm calls this for ``pretrained=True``.

        A classifier for another number of classes is left out, and so is one that the model has no room for. The log
        says so. Weights of RGB images are fitted to ``in_chans``.

        Args:
            source: File or URL.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it holds no tensors, or they do not fit.
        """
        state = classifier_from_published(self.backbone, read_state_dict(source))
        if not any(name.startswith('backbone.') for name in state):
            state = {f'backbone.{name}': value for name, value in state.items()}
        own = self.state_dict()
        own_head = {name: value for name, value in own.items() if name.startswith('head.')}
        kept = {name: value for name, value in state.items() if name.startswith('backbone.')}
        fitting = {
            name: state[name] for name, value in own_head.items() if name in state and state[name].shape == value.shape
        }
        self.load_state_dict(kept | own_head | fitting)
        left_out = [name for name in own_head if name not in fitting]
        logging.getLogger('mmlocalmamba').info(
            '%d tensors loaded from %s%s',
            len(kept | fitting),
            source,
            f'; {", ".join(left_out)} start anew' if left_out else '',
        )

    def _units(self) -> nn.ModuleList:
        return self.backbone.layers if isinstance(self.backbone, PlainBackbone) else self.backbone.stages

    def _unit_name(self, index: int) -> str:
        return f'backbone.{"layers" if isinstance(self.backbone, PlainBackbone) else "stages"}.{index}'


def _default_cfg(name: str) -> dict[str, Any]:
    plain = issubclass(VARIANTS[name].backbone, PlainBackbone)
    return dict(
        url=VARIANTS[name].weights or '',
        num_classes=1000,
        input_size=(3, 224, 224),
        pool_size=None,
        crop_pct=0.875,
        interpolation='bicubic',
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        first_conv='backbone.patch_embed.proj' if plain else 'backbone.patch_embed',
        classifier='head.fc',
        license='apache-2.0',
        custom_load=True,
    )


def _feature_indices(name: str) -> Sequence[int]:
    """Give the units whose maps ``features_only=True`` gives by default: those that the backbone itself outputs."""
    backbone, settings, _ = VARIANTS[name]
    return settings.get('out_indices') or signature(backbone).parameters['out_indices'].default


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """Make the function that timm calls to build a model."""

    def build(
        pretrained: bool = False, pretrained_cfg_overlay: dict[str, Any] | None = None, **kwargs: Any
    ) -> nn.Module:
        # timm takes a file of one's own for one of timm's, unless it is told to leave reading to the model.
        kwargs['pretrained_cfg_overlay'] = {'custom_load': True, **(pretrained_cfg_overlay or {})}
        feature_cfg = dict(out_indices=_feature_indices(name), feature_cls='getter')
        return build_model_with_cfg(partial(TimmModel, name), name, pretrained, feature_cfg=feature_cfg, **kwargs)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f'Build {name}: see :class:`TimmModel`.'
    return build


MODELS = tuple(name for name in VARIANTS if 'cls_token' not in name and not name.startswith('vim_'))
"""Names of the models that are registered: all backbones whose classifiers average over a map.

Those that classify by a class token (Vim, and LocalVim with one) come from
:func:`mmlocalmamba.models.variants.build_backbone` alone.
"""

__all__ = ['MODELS', 'TimmModel']

default_cfgs = generate_default_cfgs({name: _default_cfg(name) for name in MODELS})
for _name in MODELS:
    register_model(_entry_point(_name))
