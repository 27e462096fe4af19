"""A check that the mm packages whose classes a config names are installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

_PACKAGES = {'mmdet': 'MMDetection', 'mmseg': 'MMSegmentation', 'mmpretrain': 'MMPretrain', 'mmyolo': 'MMYOLO'}


def check_packages(cfg: Config) -> None:
    """Check that every mm package that a config needs can be found. Imports none of them.

    Without this check, the first class that is looked up is reported as unknown, whatever it is.

    Args:
        cfg: The whole config.

    Raises:
        ModuleNotFoundError: If a package is missing. The message names the setting that asks for it.
    """
    for key, scope in [('default_scope', cfg.get('default_scope')), *_scopes('', dict(cfg.items()))]:
        if scope in _PACKAGES and find_spec(scope) is None:
            raise ModuleNotFoundError(
                f'the config needs {_PACKAGES[scope]} ({key} names {scope!r}), which is not installed. '
                'python tools/doctor.py prints the line that installs what is missing',
                name=scope,
            )


def _scopes(key: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yield (config key, scope) of every ``type='scope.Name'`` in a config."""
    if isinstance(node, dict):
        kind = node.get('type')
        if isinstance(kind, str) and '.' in kind:
            yield f'{key}.type'.lstrip('.'), kind.split('.')[0]
        items: list[tuple[str, Any]] = [(f'{key}.{name}', value) for name, value in node.items()]
    elif isinstance(node, (list, tuple)):
        items = [(f'{key}[{index}]', value) for index, value in enumerate(node)]
    else:
        return
    for name, value in items:
        yield from _scopes(name.lstrip('.'), value)
