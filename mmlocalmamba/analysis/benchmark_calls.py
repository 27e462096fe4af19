"""The scans that a model makes, taken down while it runs: each with the tensors, and their layout, that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

FORWARD, BACKWARD = 'mmlocalmamba::selective_scan', 'mmlocalmamba::selective_scan_backward'

PUBLIC_ARGUMENTS = ('u', 'dt', 'A', 'B', 'C', 'D', 'dt_bias', 'dt_weight', 'order', 'num_tokens', 'log_A')
"""Arguments of :func:`mmlocalmamba.ops.local_selective_scan` that the operation has too."""


@dataclass(frozen=True)
class ScanCall:
    """One call of the scan's operation, or of its backward.

    Attributes:
        operation: The operation.
        arguments: What it was called with, in order.
    """

    operation: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __call__(self) -> Any:
        """Do it again."""
        return self.operation(*self.arguments)

    def argument(self, name: str) -> Any:
        """Give an argument by its name."""
        schema = self.operation._schema  # type: ignore[attr-defined]
        return self.arguments[[argument.name for argument in schema.arguments].index(name)]

    def public_arguments(self) -> dict[str, Any]:
        """Give the arguments for :func:`mmlocalmamba.ops.local_selective_scan`."""
        return {name: self.argument(name) for name in PUBLIC_ARGUMENTS}

    @property
    def work(self) -> ScanWork:
        """The sizes of the scan."""
        directions, channels, d_state = self.argument('A').shape
        u, order = self.argument('u'), self.argument('order')
        positions = torch.arange(1, order.shape[1] + 1, device=order.device)
        return ScanWork(
            batch=u.shape[0],
            tokens=self.argument('num_tokens'),
            length=order.shape[1],
            scanned=int((positions * (order >= 0)).amax(1).sum()),
            directions=directions,
            channels=channels,
            d_state=d_state,
            steps=self.argument('dt').shape[-1],
            itemsize=u.element_size(),
            spatial=u.dim() == 3,
        )


@dataclass(frozen=True)
class ScanWork:
    """Sizes of a scan, and the least that has to be done for it.

    Attributes:
        batch: Images.
        tokens: Tokens L of a map.
        length: Tokens of the longest direction, padding included.
        scanned: Tokens of all directions together, padding included except behind a direction's last token.
        directions: Directions K.
        channels: Channels D.
        d_state: States N per channel.
        steps: Numbers that a token's step sizes come as: their rank R, or the channels D.
        itemsize: Bytes of a number of a token.
        spatial: Whether tokens are in their own places, gathered by the scan; otherwise they are in scan order.
    """

    batch: int
    tokens: int
    length: int
    scanned: int
    directions: int
    channels: int
    d_state: int
    steps: int
    itemsize: int
    spatial: bool

    @property
    def exponentials(self) -> int:
        """Decays, one per direction, token, channel and state: of the forward, and at least of the backward."""
        # Without numbers of its own, one decay does for all padding.
        scanned = self.directions * self.tokens if self.spatial else self.scanned
        return self.batch * scanned * self.channels * self.d_state

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
        per_row = self.steps + 2 * self.d_state  # dt, B and C
        if self.spatial:
            return self.batch * self.tokens * (self.channels + self.directions * per_row)
        return self.batch * self.scanned * (self.channels + per_row)


def forward_calls(model: nn.Module, image: Tensor, expected: int) -> list[ScanCall]:
    """Take down the scans of a forward without gradients.

    Args:
        model: The model.
        image: Its input.
        expected: How many scans it makes.

    Raises:
        RuntimeError: If it makes another number of them.
    """
    with torch.no_grad(), _Recorder(FORWARD) as recorder:
        model(image)
    return recorder.checked(expected)


def backward_calls(step: Callable[[], Any], expected: int) -> list[ScanCall]:
    """Take down the scans' backwards of a training step, in the order of the forward; see :func:`forward_calls`."""
    with _Recorder(BACKWARD) as recorder:
        step()
    return recorder.checked(expected)[::-1]


class _Recorder(TorchDispatchMode):
    """Takes down the calls of one operation."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls: list[ScanCall] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name() == self.name:
            self.calls.append(ScanCall(func, tuple(x.detach() if isinstance(x, Tensor) else x for x in args)))
        return func(*args, **(kwargs or {}))

    def checked(self, expected: int) -> list[ScanCall]:
        if len(self.calls) != expected:
            raise RuntimeError(f'{len(self.calls)} calls of {self.name} were seen where {expected} were expected')
        return self.calls
