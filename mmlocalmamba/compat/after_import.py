"""Changes modules of MMEngine as soon as they are imported, without importing them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


class AfterImport:
    """Meta path finder that calls a function with each of some modules, once it is imported.

    Args:
        functions: What to call, by the full name of the module. It must do nothing the second time.
    """

    def __init__(self, functions: Mapping[str, Callable[[Any], None]]) -> None:
        self.functions = functions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return Python's own spec of one of the modules, with a loader that calls; None for any other name."""
        if fullname not in self.functions:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self.functions[fullname](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def install(self) -> None:
        """Call for what is imported already, and for the rest when it is imported."""
        for name, function in self.functions.items():
            if name in sys.modules:
                function(sys.modules[name])
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
