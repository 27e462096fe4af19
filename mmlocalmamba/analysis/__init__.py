"""Analysis of models: their parameters and FLOPs, what their gates do, and pictures of them and of their runs."""

from typing import Any

__all__ = ['GateRecord', 'record_gates']


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported when asked for: other parts of this package need neither the models nor timm
        from . import gates

        return getattr(gates, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
