"""Optimizer settings per parameter: layer-wise learning rate decay, and what weight decay leaves alone."""

from __future__ import annotations

import logging
import math
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn
from torch.optim import Optimizer

from mmlocalmamba.models.weight_decay import is_free_of_decay
from mmlocalmamba.registry import OPTIM_WRAPPER_CONSTRUCTORS

BACKBONE = 'backbone.'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Set learning rate and weight decay per parameter.

    The learning rate of layer i of n is multiplied by ``layer_decay_rate ** (n - 1 - i)``; which layer a parameter
    belongs to is what the model's ``backbone.get_layer_depth(name, prefix)`` says, and everything outside the backbone
    is of the last layer. Norms, biases, position tables (Swin's too), class tokens, A_log, D and alpha have no weight
    decay (:func:`mmlocalmamba.models.weight_decay.is_free_of_decay`). Parameters that share both settings form one
    group; the groups are printed at DEBUG level.

    Args:
        optim_wrapper_cfg: mmengine's, with ``optimizer``; its ``lr`` and ``weight_decay`` are what is multiplied.
        paramwise_cfg: Settings. ``layer_decay_rate`` is in (0, 1]; default: 1.0, no layer-wise decay. ``lr_mult``
            multiplies learning rates further: factors above 0 by a part of the parameters' names, such as
            ``{'merge.alpha': 10.0}``; default: none.

    Raises:
        ValueError: If a setting is unknown or out of range; from the call, if a name of ``lr_mult`` fits no parameter.
        TypeError: From the call, if layers are asked for and the backbone does not tell them.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        # Never empty: the parent would take an empty one for "no settings per parameter".
        super().__init__(optim_wrapper_cfg, {'layer_decay_rate': 1.0, 'lr_mult': {}, **(paramwise_cfg or {})})

    def __call__(self, model: nn.Module) -> OptimWrapper | Optimizer:
        """Build the optimizer wrapper of a model."""
        wrapper = super().__call__(model)
        optimizer = wrapper.optimizer if isinstance(wrapper, OptimWrapper) else wrapper
        # The registry makes ConfigDicts of the groups, which torch.compile cannot guard.
        optimizer.param_groups[:] = [{key: group[key] for key in group} for group in optimizer.param_groups]
        return wrapper

    def _validate_cfg(self) -> None:
        unknown = set(self.paramwise_cfg) - {'layer_decay_rate', 'lr_mult'}
        if unknown:
            raise ValueError(
                f'paramwise_cfg has unknown settings {sorted(unknown)}: there are layer_decay_rate and lr_mult. What '
                'has no weight decay needs no setting'
            )
        rate = self.paramwise_cfg['layer_decay_rate']
        if not 0 < rate <= 1:
            raise ValueError(f'layer_decay_rate={rate} is out of range: it must be above 0 and at most 1')
        for part, factor in self.paramwise_cfg['lr_mult'].items():
            if not factor > 0:
                raise ValueError(f'lr_mult[{part!r}]={factor} is out of range: it must be above 0')
        for name in ('lr', 'weight_decay'):
            if name not in self.optimizer_cfg:
                raise ValueError(f'the optimizer needs {name}=..., got {dict(self.optimizer_cfg)}')

    def add_params(self, params: list[dict[str, Any]], module: nn.Module) -> None:
        """Add the groups of a model's parameters; frozen ones are left out.

        Args:
            params: The list that is added to.
            module: The model.
        """
        rate = self.paramwise_cfg['layer_decay_rate']
        if rate != 1 and not hasattr(getattr(module, 'backbone', None), 'get_layer_depth'):
            raise TypeError(
                f'layer_decay_rate={rate} needs a model whose backbone has get_layer_depth(); '
                f'{type(module).__name__} has none: use layer_decay_rate=1.0'
            )
        names = [name for name, _ in module.named_parameters()]
        for part in self.paramwise_cfg['lr_mult']:
            if not any(part in name for name in names):
                raise ValueError(f'lr_mult={part!r} is part of no parameter name of this {type(module).__name__}')
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            scale = 1.0 if rate == 1 else _layer_scale(module, name, rate)
            scale *= math.prod(factor for part, factor in self.paramwise_cfg['lr_mult'].items() if part in name)
            decay = 0.0 if is_free_of_decay(name, parameter) else self.base_wd
            group = groups.setdefault(
                (scale, decay), {'params': [], 'names': [], 'lr': self.base_lr * scale, 'weight_decay': decay}
            )
            group['params'].append(parameter)
            group['names'].append(name)
        for _, group in sorted(groups.items()):
            members = ', '.join(group.pop('names'))
            print_log(
                f'lr {group["lr"]:.3g}, weight decay {group["weight_decay"]:.3g}: {members}',
                logger='current',
                level=logging.DEBUG,
            )
            params.append(group)


def _layer_scale(model: nn.Module, name: str, rate: float) -> float:
    layer, layers = model.backbone.get_layer_depth(name, BACKBONE)  # type: ignore[union-attr, operator]
    return rate ** (layers - 1 - layer)
