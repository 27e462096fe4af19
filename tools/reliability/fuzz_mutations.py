"""Spoiling the arguments of a valid call, in the ways that users and other programs do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OTHER_DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
)

Change = Callable[[Tensor, random.Random], Any]


def spoil(arguments: dict[str, Any], draw: random.Random) -> tuple[dict[str, Any], str]:
    """Change one or two arguments; the result may still be valid.

    Returns:
        The arguments, and what was done to them, for people.
    """
    arguments, done = dict(arguments), []
    for name in draw.sample(sorted(arguments), draw.choice((1, 1, 1, 2))):
        value = arguments[name]
        if isinstance(value, Tensor):
            change = draw.choice(ORDER_CHANGES if name == 'order' and draw.random() < 0.6 else CHANGES)
            arguments[name] = change(value, draw)
            done.append(f'{name}: {change.__name__.strip("_")}')
        else:
            arguments[name] = draw.choice(OTHER_VALUES)
            done.append(f'{name}: {value!r} -> {arguments[name]!r}')
    return arguments, ', '.join(done)


def _other_size(x: Tensor, draw: random.Random) -> Tensor:
    if x.dim() == 0:
        return x[None]
    dim, shape = draw.randrange(x.dim()), list(x.shape)
    shape[dim] = max(0, draw.choice((0, 1, shape[dim] - 1, shape[dim] + 1, 2 * shape[dim])))
    return torch.zeros(shape, dtype=x.dtype)


def _shorter(x: Tensor, draw: random.Random) -> Tensor:
    return x.narrow(0, 0, max(len(x) - 1, 0)) if x.dim() else x


def _another_dimension(x: Tensor, draw: random.Random) -> Tensor:
    return x.unsqueeze(draw.randrange(x.dim() + 1))


def _one_dimension_less(x: Tensor, draw: random.Random) -> Tensor:
    return x.flatten(0, 1) if x.dim() > 1 and draw.random() < 0.5 else x.reshape(-1)


def _no_dimensions(x: Tensor, draw: random.Random) -> Tensor:
    return torch.ones((), dtype=x.dtype)


def _transposed(x: Tensor, draw: random.Random) -> Tensor:
    return x.transpose(draw.randrange(x.dim()), draw.randrange(x.dim())) if x.dim() else x


def _other_dtype(x: Tensor, draw: random.Random) -> Tensor:
    return x.to(draw.choice(OTHER_DTYPES))


def _empty(x: Tensor, draw: random.Random) -> Tensor:
    return x.new_empty(0)


def _meta(x: Tensor, draw: random.Random) -> Tensor:
    return x.to('meta')


def _sparse(x: Tensor, draw: random.Random) -> Tensor:
    return x.contiguous().to_sparse()


def _none(x: Tensor, draw: random.Random) -> None:
    return None


def _number(x: Tensor, draw: random.Random) -> float:
    return 0.5


def _text(x: Tensor, draw: random.Random) -> str:
    return 'tensor'


def _list(x: Tensor, draw: random.Random) -> list[Any]:
    return x.tolist() if x.dim() and x.numel() < 100 else [x]


def _not_finite(x: Tensor, draw: random.Random) -> Tensor:
    return x * draw.choice((float('inf'), float('nan'), 1e30, -1e38, 1e-45)) if x.is_floating_point() else x


def _negated(x: Tensor, draw: random.Random) -> Tensor:
    return torch.zeros(x.shape, dtype=torch.complex64).conj().imag  # whose memory holds the negative


def _inference(x: Tensor, draw: random.Random) -> Tensor:
    with torch.inference_mode():
        return x.clone()


def _out_of_range(x: Tensor, draw: random.Random) -> Tensor:
    return _with_value(x, draw, draw.choice((-2, -(2**31), 2**31 - 1, 1000, 21, x.shape[-1] if x.dim() else 0)))


def _twice(x: Tensor, draw: random.Random) -> Tensor:
    return _with_value(x, draw, 0)


def _with_value(x: Tensor, draw: random.Random, value: int) -> Tensor:
    if x.numel() == 0 or x.dtype != torch.int32:
        return x
    x = x.clone()
    x.view(-1)[draw.randrange(x.numel())] = value
    return x


def _long(x: Tensor, draw: random.Random) -> Tensor:
    return x.long()


CHANGES: tuple[Change, ...] = (
    _other_size,
    _other_size,
    _other_size,
    _shorter,
    _another_dimension,
    _one_dimension_less,
    _no_dimensions,
    _transposed,
    _other_dtype,
    _empty,
    _meta,
    _sparse,
    _none,
    _number,
    _text,
    _list,
    _not_finite,
    _negated,
    _inference,
)

ORDER_CHANGES: tuple[Change, ...] = (_out_of_range, _out_of_range, _twice, _twice, _long)

OTHER_VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    7,
    2**31,
    2**62,
    True,
    0.5,
    float('nan'),
    float('inf'),
    -1.0,
    '',
    'triton',
    'cuda',
    'chunked',
    'reference',
    'nothing',
)
