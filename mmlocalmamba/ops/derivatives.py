"""What the operations' derivatives have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


def no_second_derivative(operation: str, naive: str) -> Callable[..., NoReturn]:
    """Make the backward of a backward that has none: it raises a RuntimeError.

    Args:
        operation: The operation, in words.
        naive: Full name of a function that does the same, and that autograd can differentiate again.
    """

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(
            f'{operation} has no second derivative: call backward without create_graph, or use {naive}, which autograd '
            'can differentiate again'
        )

    return backward
