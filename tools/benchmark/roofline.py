"""Print an estimate of the scan's time per layer on an A100 and an H100: nothing here is measured.

python tools/benchmark/roofline.py                        LocalVMamba-T at 224 x 224
python tools/benchmark/roofline.py --model local_vim_tiny --size 1024 1024 --batch 2 --dtype float32
"""

import argparse
from collections.abc import Callable
from functools import partial

from scan_costs import (
    GPUS,
    Layer,
    fused_backward,
    fused_forward,
    local_vim_layers,
    local_vmamba_layers,
    permute_backward,
    permute_forward,
)

MODELS: dict[str, Callable[..., list[tuple[Layer, int]]]] = {
    'local_vmamba_tiny': partial(local_vmamba_layers, dims=(96, 192, 384, 768), depths=(2, 2, 9, 2)),
    'local_vmamba_small': partial(local_vmamba_layers, dims=(96, 192, 384, 768), depths=(2, 2, 27, 2)),
    'local_vim_tiny': partial(local_vim_layers, embed_dim=192, depth=20),
    'local_vim_small': partial(local_vim_layers, embed_dim=384, depth=20),
}
ITEMSIZES = {'float32': 4, 'float16': 2, 'bfloat16': 2}
WAYS = {
    'forward': {'fused': fused_forward, 'permute': permute_forward},
    'backward': {'fused': fused_backward, 'permute': permute_backward},
}


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Estimate the time of the scan on GPUs: nothing is measured.')
    parser.add_argument('--model', choices=sorted(MODELS), default='local_vmamba_tiny')
    parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), default=(224, 224), help='in pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--dtype', choices=sorted(ITEMSIZES), default='bfloat16', help='of u, dt, B, C and y')
    return parser.parse_args(arguments)


def rows(layer: Layer, count: int) -> list[str]:
    """Describe one kind of layer: a line per pass and way."""
    lines = []
    for phase, ways in WAYS.items():
        for way, estimate in ways.items():
            cost = estimate(layer)
            times = []
            for gpu in GPUS.values():
                bounds = cost.bounds(gpu)
                limit = max(bounds, key=lambda name: bounds[name])
                times.append(f'{1e6 * cost.seconds(gpu):9.1f} us ({limit})'.ljust(28))
            lines.append(
                f'{layer.tokens:7d} {layer.channels:5d} {count:3d}x  {phase:8s} {way:8s}'
                f'{cost.bytes / 1e6:9.1f} MB {cost.exponentials / 1e6:9.1f} M exp  ' + ''.join(times)
            )
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Print the table and its totals."""
    args = parse_args(arguments)
    layers = MODELS[args.model](*args.size, batch=args.batch, itemsize=ITEMSIZES[args.dtype])
    size = ' x '.join(map(str, args.size))
    print(f'ESTIMATE, nothing measured: scan of {args.model}, {args.batch} x {size}, 4 directions, {args.dtype}')
    print('Lower limits: the slowest of bytes, exponentials and lane exchanges at the peak rates of the data sheets.')
    names = ''.join(gpu.name.ljust(28) for gpu in GPUS.values())
    print(f'{"tokens":>7s} {"D":>5s} {"":5s} {"pass":8s} {"way":8s}{"":27s}{names}')
    for layer, count in layers:
        print('\n'.join(rows(layer, count)))
    for phase, ways in WAYS.items():
        for way, estimate in ways.items():
            sums = [sum(n * estimate(layer).seconds(gpu) for layer, n in layers) for gpu in GPUS.values()]
            text = ', '.join(f'{gpu.name} {1e3 * s:.2f} ms' for gpu, s in zip(GPUS.values(), sums, strict=True))
            print(f'all layers, {phase} {way}: {text}')


if __name__ == '__main__':
    main()
