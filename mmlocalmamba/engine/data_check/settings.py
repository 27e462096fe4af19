"""Looks classes up by the ``type`` of a config, and settings that the config leaves to their defaults."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry


def registered(registry: Registry, part: Mapping[str, Any], cfg: Config) -> type | None:
    """Find the class that a part of a config names.

    Args:
        registry: One of MMEngine's root registries.
        part: The part, with ``type``: a name or a class.
        cfg: The whole config, for its ``default_scope``.

    Returns:
        The class; None if there is no such class, or its package is not installed. The run itself says so later.
    """
    kind = part.get('type')
    if not isinstance(kind, str):
        return kind if isinstance(kind, type) else None
    try:
        with registry.switch_scope_and_registry(cfg.get('default_scope') or 'mmengine') as scoped:
            found = scoped.get(kind)
    except (ImportError, KeyError):
        return None
    return found if isinstance(found, type) else None


def setting(part: Mapping[str, Any], name: str, cls: type | None) -> Any:
    """Give a setting of a part of a config, or the default that its class has for it.

    Args:
        part: The part.
        name: Name of an argument of the class.
        cls: The class, if it is known.

    Returns:
        None if neither states it.
    """
    if name in part:
        return part[name]
    for base in cls.__mro__ if cls is not None else ():
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(vars(base)['__init__']).parameters
        if name in parameters:
            default = parameters[name].default
            return None if default is inspect.Parameter.empty else default
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            break  # it hands nothing on that it does not name
    return None


def parts(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (key, part) for every mapping in a config, the outer ones first. Keys are as ``--cfg-options`` wants them.

    Args:
        node: A part of a config.
        key: Its key.
    """
    if isinstance(node, Mapping):
        yield key, node
        for name, value in node.items():
            yield from parts(value, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from parts(value, f'{key}.{index}')


def has_own_vocabulary(cfg: Config) -> bool:
    """Tell whether the classes of a model are not those of its data sets: it scores words, or tracks whatever moves."""
    model = model_of(cfg)
    return 'language_model' in model or 'tracker' in model


def model_of(cfg: Config) -> Mapping[str, Any]:
    """Give the config of the model, out of a wrapper for test-time augmentation."""
    model = cfg.get('model') or {}
    while isinstance(model.get('module'), Mapping):
        model = model['module']
    return model
