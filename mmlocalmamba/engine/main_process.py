"""Work that one process of several does, without leaving the others to wait when it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process

T = TypeVar('T')


def on_main_process(function: Callable[[], T]) -> T:
    """Call a function in the main process alone; every process must get here, and gets its result.

    MMEngine's ``master_only`` lets the other processes go on. If the main process then fails, they wait for it in their
    next collective operation until that times out.

    Args:
        function: Called without arguments; its result must be picklable.

    Returns:
        What the function returned, in every process.

    Raises:
        RuntimeError: In the other processes, if the function raised; the main process raises the error itself.
    """
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if is_main_process():
        try:
            outcome[0] = function()
        except Exception as error:
            failure = error
            outcome[1] = f'{type(error).__name__}: {error}'
    broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise RuntimeError(f'the main process failed: {outcome[1]}')
    return outcome[0]


def in_every_process(function: Callable[[], object]) -> None:
    """Call a function in every process; if it fails in one, all raise, and none is left to wait for it.

    Args:
        function: Called without arguments. Where it waits for the other processes itself, it must not fail before.

    Raises:
        RuntimeError: In the processes where it did not fail; the others raise the error itself.
    """
    failure: Exception | None = None
    try:
        function()
    except Exception as error:
        failure = error
    mine = None if failure is None else f'{type(failure).__name__}: {failure}'
    problems = [problem for problem in all_gather_object(mine) if problem is not None]
    if failure is not None:
        raise failure
    if problems:
        raise RuntimeError(f'another process failed: {problems[0]}')
