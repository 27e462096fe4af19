"""Keeping the orders that were used last, up to so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

CAPACITY = 256 << 20
"""Bytes of orders that are kept on each device.

The blocks of LocalVMamba-T need 3.3 MB for one 800 x 1344 image, those of -S 4.2 MB: 80 and 64 such sizes are kept.
"""

_CPU = torch.device('cpu')


class OrderCache:
    """Remembers stacked orders by what they are made from, and forgets those that were not used for longest.

    An order that is not there costs a few small kernels on its own device, and never waits for it. Only plain tensors
    are kept: not those of inference mode, which autograd refuses later, nor those of a tracer without data.

    Args:
        build: Makes the orders of ``(names, height, width, middle_token, device)``.
        capacity: Bytes to keep on each device.
    """

    def __init__(self, build: Callable[..., Tensor], capacity: int = CAPACITY) -> None:
        self.build, self.capacity = build, capacity
        self.hits = self.misses = 0
        self._kept: dict[torch.device, OrderedDict[tuple[object, ...], Tensor]] = {}
        self._bytes: dict[torch.device, int] = {}
        self._lock = threading.Lock()

    def get(self, names: tuple[str, ...], height: int, width: int, middle_token: bool, device: torch.device) -> Tensor:
        """Give the orders, from the cache if they are there."""
        key = (names, height, width, middle_token, _stream(device))
        with self._lock:
            kept = self._kept.get(device)
            if kept is not None and key in kept:
                self.hits += 1
                kept.move_to_end(key)
                return kept[key]
            self.misses += 1
        with torch.inference_mode(False):
            orders = self.build(names, height, width, middle_token, device)
        if type(orders) is Tensor and not _is_capturing(device):
            self._keep(key, orders)
        return orders

    def size(self, device: torch.device) -> int:
        """Give the bytes that are kept on a device."""
        return self._bytes.get(device, 0)

    def _keep(self, key: tuple[object, ...], orders: Tensor) -> None:
        size, device = orders.numel() * orders.element_size(), orders.device
        with self._lock:
            kept = self._kept.setdefault(device, OrderedDict())
            if key in kept or size > self.capacity:
                return
            kept[key] = orders
            self._bytes[device] = self._bytes.get(device, 0) + size
            while self._bytes[device] > self.capacity:
                _, oldest = kept.popitem(last=False)
                self._bytes[device] -= oldest.numel() * oldest.element_size()


def _stream(device: torch.device) -> int:
    """Tell the stream that kernels run on: what one stream writes, another may read too early."""
    if device == _CPU:  # quickly: every block of a model asks in every step
        return 0
    return torch.cuda.current_stream(device).cuda_stream if device.type == 'cuda' else 0


def _is_capturing(device: torch.device) -> bool:
    """Tell whether a CUDA graph is being captured, whose tensors belong to that graph."""
    return device.type == 'cuda' and torch.cuda.is_current_stream_capturing()
