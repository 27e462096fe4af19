"""Export the outcome of a direction search: directions, a config to train them with, and the supernet's weights.

    python tools/search/export_directions.py CONFIG CHECKPOINT [--top-k 4] [--target CONFIG] [--out-dir DIR]

writes into DIR (default: beside the checkpoint)

    directions.json       the k most probable directions of each block; arch=dict(..., directions='<path>') takes it
    searched.py           a whole config, with the searched directions in its backbone: --target's, on the search's data
                          if these are of the same kind, or the search's own
    searched_weights.pth  the supernet's weights for those directions, for the search's own sizes (not for --target's)
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmlocalmamba.models.weights.files import read_state_dict
from mmlocalmamba.registry import MODELS
from mmlocalmamba.search import (
    export_weights,
    probabilities,
    searched_config,
    top_directions,
    undecided_blocks,
    write_directions,
)
from mmlocalmamba.search.export import TOP_K
from mmlocalmamba.search.target import keep_data


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=f'Export searched scan directions (mmlocalmamba {mmlocalmamba.__version__})'
    )
    parser.add_argument('config', help='config of the search')
    parser.add_argument('checkpoint', help='checkpoint of the search')
    parser.add_argument('--top-k', type=int, default=TOP_K, help=f'directions per block (default: {TOP_K})')
    parser.add_argument(
        '--target', metavar='CONFIG', help="config to put the directions in (default: the search's own)"
    )
    parser.add_argument('--out-dir', metavar='DIR', help="where to write (default: the checkpoint's folder)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Load the supernet, choose, and write."""
    args = parse_args(arguments)
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    model.load_state_dict(read_state_dict(args.checkpoint))
    blocks = probabilities(model)
    directions = top_directions(blocks, args.top_k)

    folder = Path(args.out_dir or Path(args.checkpoint).parent)
    folder.mkdir(parents=True, exist_ok=True)
    json_path = folder / 'directions.json'
    write_directions(json_path, directions, blocks)
    target = Config.fromfile(args.target) if args.target else cfg
    about_data = keep_data(target, cfg) if args.target else None
    searched_config(target, json_path).dump(folder / 'searched.py')
    torch.save({'state_dict': export_weights(model, directions)}, folder / 'searched_weights.pth')

    width = max(len(name) for block in directions for name in block)
    for index, (chosen, block) in enumerate(zip(directions, blocks, strict=True)):
        print(f'block {index:2d}:  ' + '  '.join(f'{name:{width}} {block[name]:.3f}' for name in chosen))
    undecided = undecided_blocks(blocks)
    if undecided:
        print(
            f'WARNING: the search is undecided in {len(undecided)} of {len(blocks)} blocks: their candidates are as '
            'good as equally probable, and the choice is left to chance. Search for longer, or with a higher learning '
            'rate for alpha (docs/search.md).'
        )
    if about_data:
        print(about_data)
    for name in ('directions.json', 'searched.py', 'searched_weights.pth'):
        print(folder / name)


if __name__ == '__main__':
    main()
