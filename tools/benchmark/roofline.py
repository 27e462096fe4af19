"""Print estimates for an A100 and an H100: the scan's time, a profile of each block, images per second.

Nothing here is measured.

python tools/benchmark/roofline.py                        LocalVMamba-T at 224 x 224
python tools/benchmark/roofline.py --model local_vim_tiny --size 1024 1024 --batch 2 --dtype float32
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import block_costs
from block_costs import Operation, local_vim_block, local_vmamba_block, model_seconds, seconds
from mmlocalmamba.analysis.text_table import align
from scan_costs import (
    GPUS,
    Cost,
    Gpu,
    Layer,
    fused_backward,
    fused_forward,
    local_vim_layers,
    local_vmamba_layers,
    permute_backward,
    permute_forward,
)

DIMS = (96, 192, 384, 768)
MODELS: dict[str, Callable[..., list[tuple[Layer, int]]]] = {
    'local_vmamba_tiny': partial(local_vmamba_layers, dims=DIMS, depths=(2, 2, 9, 2)),
    'local_vmamba_small': partial(local_vmamba_layers, dims=DIMS, depths=(2, 2, 27, 2)),
    'local_vim_tiny': partial(local_vim_layers, embed_dim=192, depth=20),
    'local_vim_small': partial(local_vim_layers, embed_dim=384, depth=20),
}
ITEMSIZES = {'float32': 4, 'float16': 2, 'bfloat16': 2}
WAYS: dict[str, dict[str, Callable[[Layer, Gpu], Cost]]] = {
    'forward': {'fused': fused_forward, 'permute': permute_forward},
    'backward': {'fused': fused_backward, 'permute': permute_backward},
}
BATCHES = (1, 32, 128)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Estimate times on GPUs: nothing is measured.')
    parser.add_argument('--model', choices=sorted(MODELS), default='local_vmamba_tiny')
    parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), default=(224, 224), help='in pixels')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--dtype', choices=sorted(ITEMSIZES), default='bfloat16', help='of tokens')
    return parser.parse_args(arguments)


def scan_rows(layers: list[tuple[Layer, int]]) -> list[dict[str, Any]]:
    """Describe the scan of each kind of layer, by pass and way, and all layers together."""
    found: list[dict[str, Any]] = []
    for phase, ways in WAYS.items():
        for way, estimate in ways.items():
            totals = dict.fromkeys(GPUS, 0.0)
            for layer, count in layers:
                row: dict[str, Any] = {
                    'pass': f'{phase} {way}',
                    'tokens': layer.tokens,
                    'D': layer.channels,
                    'x': count,
                }
                costs = {key: estimate(layer, gpu) for key, gpu in GPUS.items()}
                for key, gpu in GPUS.items():
                    bounds = costs[key].bounds(gpu)
                    totals[key] += count * costs[key].seconds(gpu)
                    row[f'{key} us'] = 1e6 * costs[key].seconds(gpu)
                    row[f'{key} limit'] = max(bounds, key=bounds.__getitem__)
                first = costs['a100']
                row |= {'MB': first.bytes / 1e6, 'M exp': first.exponentials / 1e6, 'launches': first.launches}
                found.append(row)
            total = {f'{key} us': 1e6 * value for key, value in totals.items()}
            found.append(dict.fromkeys(found[0]) | {'pass': f'{phase} {way}', 'tokens': 'all', **total})
    return found


def blocks_of(
    model: str, layers: list[tuple[Layer, int]], gpu: Gpu, training: bool, way: str = 'fused'
) -> list[tuple[list[Operation], int]]:
    """List the operations of each kind of block, and how many blocks there are of it."""
    count = local_vim_block if model.startswith('local_vim') else local_vmamba_block
    return [(count(layer, gpu, training, way), number) for layer, number in layers]


def block_rows(operations: list[Operation], gpu: Gpu) -> list[dict[str, Any]]:
    """Give the profile of a block: its operations, and their sum."""
    found: list[dict[str, Any]] = []
    for operation in operations:
        row: dict[str, Any] = {'operation': operation.name}
        for phase, cost in (('forward', operation.forward), ('backward', operation.backward)):
            row |= {f'{phase} us': 1e6 * seconds(cost, gpu), f'{phase} launches': cost.launches}
        found.append(row)
    total = {key: sum(row[key] for row in found) for key in found[0] if key != 'operation'}
    return [*found, {'operation': 'all', **total}]


def throughput_rows(model: str, size: tuple[int, int], itemsize: int) -> list[dict[str, Any]]:
    """Estimate images per second in inference and training, by the way of scanning, batch and GPU."""
    found = []
    for way in ('fused', 'permute'):
        for batch in BATCHES:
            layers = MODELS[model](*size, batch=batch, itemsize=itemsize)
            row: dict[str, Any] = {'scan': way, 'batch': batch}
            for key, gpu in GPUS.items():
                for what, training in (('inference', False), ('training', True)):
                    time = model_seconds(blocks_of(model, layers, gpu, training, way), gpu, training)
                    row[f'{key} {what}'] = batch / time
            found.append(row)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    args = parse_args(arguments)
    itemsize = ITEMSIZES[args.dtype]
    layers = MODELS[args.model](*args.size, batch=args.batch, itemsize=itemsize)
    size = ' x '.join(map(str, args.size))
    print(f'ESTIMATE, nothing measured: {args.model}, {args.batch} x {size}, 4 directions, {args.dtype}\n')
    print(
        'Lower limits of the scan: the slowest of bytes, exponentials, exchanges between lanes, products, and the walk'
    )
    print('of one warp over its tokens, at the peak rates of the data sheets.')
    print(align(scan_rows(layers)) + '\n')
    for gpu in GPUS.values():
        for (operations, count), (layer, _) in zip(blocks_of(args.model, layers, gpu, True), layers, strict=True):
            print(f'{gpu.name}, one of {count} blocks of {layer.tokens} tokens and {layer.channels} channels')
            print(align(block_rows(operations, gpu)) + '\n')
    print('ESTIMATED images per second, nothing measured.', (block_costs.__doc__ or '').split('\n\n', 1)[1])
    print(align(throughput_rows(args.model, tuple(args.size), itemsize)))


if __name__ == '__main__':
    main()
