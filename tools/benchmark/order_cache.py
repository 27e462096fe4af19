"""Count how often a training with many image sizes finds its scan orders in the cache. Nothing is computed.

python tools/benchmark/order_cache.py                         LocalVMamba-T and -S, 400 different sizes
python tools/benchmark/order_cache.py --sizes 100 --batch 4   fewer sizes, in larger batches
"""

import argparse
import random
from collections.abc import Iterator
from typing import Any

import torch

from mmlocalmamba.analysis.text_table import align
from mmlocalmamba.directions import published_directions
from mmlocalmamba.directions.order_cache import CAPACITY, OrderCache
from mmlocalmamba.directions.orders import scan_length

DEPTHS = {'local_vmamba_tiny': (2, 2, 9, 2), 'local_vmamba_small': (2, 2, 27, 2)}
STRIDES = (4, 8, 16, 32)
SHORT_SIDES, LONG_SIDE = tuple(range(480, 801, 32)), 1333
"""How multi-scale training of COCO resizes: the short side is one of these, the long side at most that."""

ASPECTS = ((4 / 3, 0.55), (3 / 2, 0.35), (1.0, 0.05), (16 / 9, 0.05))
"""Ratios of the sides of COCO's images and how frequent they are, roughly; each is blurred by 3 %."""

PORTRAIT = 0.25
"""Part of the images that are higher than wide."""

DEVICE = torch.device('meta')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Count the hits of the cache of scan orders in multi-scale training.')
    parser.add_argument('--sizes', type=int, default=400, help='different sizes to train on (default: 400)')
    parser.add_argument('--steps', type=int, default=4000, help='training steps to count (default: 4000)')
    parser.add_argument('--batch', type=int, default=2, help='images that are padded to one size (default: 2)')
    parser.add_argument('--divisor', type=int, default=32, help='sizes are padded to multiples of it (default: 32)')
    args = parser.parse_args(arguments)
    for name in ('sizes', 'steps', 'batch', 'divisor'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} wants a positive number, got {getattr(args, name)}')
    return args


def draw_sizes(batch: int, divisor: int, generator: random.Random) -> Iterator[tuple[int, int]]:
    """Draw the sizes of batches: the largest height and width of the images in each, padded."""
    aspects, frequencies = zip(*ASPECTS, strict=True)
    while True:
        images = []
        for _ in range(batch):
            aspect = generator.choices(aspects, frequencies)[0] * generator.uniform(0.97, 1.03)
            short = min(generator.choice(SHORT_SIDES), round(LONG_SIDE / max(aspect, 1 / aspect)))
            long = min(round(short * max(aspect, 1 / aspect)), LONG_SIDE)
            images.append((long, short) if generator.random() < PORTRAIT else (short, long))
        height, width = (max(sides) for sides in zip(*images, strict=True))
        yield -(-height // divisor) * divisor, -(-width // divisor) * divisor


def different_sizes(count: int, batch: int, divisor: int, generator: random.Random) -> list[tuple[int, int]]:
    """Draw batches until so many different sizes have come up, or hardly any new one does.

    A size is listed as often as it comes up, so that drawing from the list repeats the frequencies.
    """
    drawn: list[tuple[int, int]] = []
    seen: set[tuple[int, int]] = set()
    sizes = draw_sizes(batch, divisor, generator)
    while len(seen) < count and len(drawn) < 1000 * count:
        drawn.append(next(sizes))
        seen.add(drawn[-1])
    return drawn


def empty_orders(
    names: tuple[str, ...], height: int, width: int, middle_token: bool, device: torch.device
) -> torch.Tensor:
    """Stand in for orders: a tensor of their size, without data."""
    length = max(scan_length(name, height, width, middle_token) for name in names)
    return torch.empty(len(names), length, dtype=torch.int32, device=device)


def simulate(model: str, sizes: list[tuple[int, int]], steps: int, generator: random.Random) -> dict[str, Any]:
    """Train so many steps at random sizes of a list: what the cache does meanwhile."""
    blocks = published_directions(model)
    strides = [stride for stride, depth in zip(STRIDES, DEPTHS[model], strict=True) for _ in range(depth)]
    cache, largest = OrderCache(empty_orders), 0
    for _ in range(steps):
        height, width = generator.choice(sizes)
        before = cache.misses
        for names, stride in zip(blocks, strides, strict=True):
            cache.get(names, -(-height // stride), -(-width // stride), False, DEVICE)
        largest = max(largest, cache.misses - before)
    per_step = cache.misses / steps
    return {
        'model': model,
        'sizes': len(set(sizes)),
        'MiB kept': cache.size(DEVICE) / 2**20,
        'MiB at most': CAPACITY / 2**20,
        'hits %': 100 * cache.hits / (cache.hits + cache.misses),
        'orders made per step': per_step,
        'most in a step': largest,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a row per model."""
    args = parse_args(arguments)
    sizes = different_sizes(args.sizes, args.batch, args.divisor, random.Random(0))
    print(align([simulate(model, sizes, args.steps, random.Random(1)) for model in DEPTHS]))


if __name__ == '__main__':
    main()
