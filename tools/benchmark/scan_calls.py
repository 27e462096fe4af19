"""The scans that a model makes, recorded while it runs: each with its tensors in the layout in which it got them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.ops import ScanInputs
from operations import SCAN, full_name


@dataclass(frozen=True)
class ScanCall:
    """One call of the scan's operation, or of its backward.

    Attributes:
        operation: The operation.
        arguments: What it was called with, by the names in the operation's schema.
    """

    operation: Callable[..., Any]
    arguments: dict[str, Any]

    def __call__(self) -> Any:
        """Do it again."""
        return self.operation(**self.arguments)

    @property
    def inputs(self) -> ScanInputs:
        """The inputs, as :func:`mmlocalmamba.ops.local_selective_scan` takes them."""
        return ScanInputs(**{name: self.arguments[name] for name in ScanInputs._fields})

    @property
    def work(self) -> ScanWork:
        """The sizes of the scan."""
        u, dt, A, order = (self.arguments[name] for name in ('u', 'dt', 'A', 'order'))
        directions, channels, d_state = A.shape
        numbers = torch.arange(1, order.shape[1] + 1, device=order.device)
        return ScanWork(
            batch=u.shape[0],
            tokens=self.arguments['num_tokens'],
            positions=order.shape[1],
            visited=int((numbers * (order >= 0)).amax(1).sum()),
            directions=directions,
            channels=channels,
            d_state=d_state,
            dt_width=dt.shape[-1],
            itemsize=u.element_size(),
            spatial=u.dim() == 3,
        )


@dataclass(frozen=True)
class ScanWork:
    """Sizes of a scan, and the least that has to be done for it.

    Attributes:
        batch: Images.
        tokens: Tokens L of a map.
        positions: Positions L_scan of the longest direction, padding included.
        visited: Positions of all directions together, padding included, but not what follows a direction's last token.
        directions: Directions K.
        channels: Channels D.
        d_state: States N per channel.
        dt_width: Numbers that a token's step sizes come as: their rank R, or the channels D.
        itemsize: Bytes of a number of a token.
        spatial: Whether tokens are in their own places, gathered by the scan; otherwise they are in scan order.
    """

    batch: int
    tokens: int
    positions: int
    visited: int
    directions: int
    channels: int
    d_state: int
    dt_width: int
    itemsize: int
    spatial: bool

    @property
    def exponentials(self) -> int:
        """Decays, one per direction, token, channel and state: of the forward, and at least of the backward."""
        # Padding without numbers of its own has one decay for all of it.
        positions = self.directions * self.tokens if self.spatial else self.visited
        return self.batch * positions * self.channels * self.d_state

    @property
    def forward_bytes(self) -> int:
        """Bytes of u, dt, B, C and y, each once."""
        return self.itemsize * (self._inputs + self._outputs)

    @property
    def backward_bytes(self) -> int:
        """Bytes of u, dt, B, C and the gradient of y, and of the gradients of the first four, each once."""
        return self.itemsize * (2 * self._inputs + self._outputs)

    @property
    def _outputs(self) -> int:
        return self.batch * self.directions * self.tokens * self.channels

    @property
    def _inputs(self) -> int:
        """Numbers in u, dt, B and C."""
        per_position = self.dt_width + 2 * self.d_state  # dt, B and C
        if self.spatial:  # one u for all directions
            return self.batch * self.tokens * (self.channels + self.directions * per_position)
        return self.batch * self.visited * (self.channels + per_position)


def forward_calls(model: nn.Module, image: Tensor, expected: int) -> list[ScanCall]:
    """Record the scans of a forward without gradients.

    Args:
        model: The model.
        image: Its input.
        expected: How many scans it makes.

    Raises:
        RuntimeError: If it makes another number of them.
    """
    with torch.no_grad(), _Recorder(full_name(SCAN)) as recorder:
        model(image)
    return recorder.checked(expected)


def backward_calls(step: Callable[[], Any], expected: int) -> list[ScanCall]:
    """Record the scans' backwards of a training step, in the order of the forward; see :func:`forward_calls`."""
    with _Recorder(full_name(SCAN, backward=True)) as recorder:
        step()
    return recorder.checked(expected)[::-1]


def arguments_by_name(operation: Any, positional: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """Name the arguments of a call of an operation as its schema does; PyTorch leaves defaults out of a call."""
    named = {}
    for i, argument in enumerate(operation._schema.arguments):
        if i < len(positional):
            named[argument.name] = positional[i]
        else:
            named[argument.name] = keywords.get(argument.name, argument.default_value)
    return named


class _Recorder(TorchDispatchMode):
    """Records the calls of one operation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls: list[ScanCall] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == self.name:
            named = arguments_by_name(func, args, kwargs or {})
            detached = {name: x.detach() if isinstance(x, Tensor) else x for name, x in named.items()}
            self.calls.append(ScanCall(func, detached))
        return func(*args, **(kwargs or {}))

    def checked(self, expected: int) -> list[ScanCall]:
        if len(self.calls) != expected:
            raise RuntimeError(f'{len(self.calls)} calls of {self.name} were seen where {expected} were expected')
        return self.calls
