"""Draw the searched scan directions of models (paper figure 4), or alpha over a search.

python tools/analysis/plot_directions.py local_vim local_vmamba_tiny --out figure_4.png      published ones
python tools/analysis/plot_directions.py work_dirs/my_search/directions.json                 those of a file
python tools/analysis/plot_directions.py SEARCH_CONFIG.py --checkpoint CHECKPOINT [--top-k 4]
python tools/analysis/plot_directions.py work_dirs/my_search/directions_log.jsonl            alpha over training
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmlocalmamba.analysis.plot_directions import plot_directions, plot_history
from mmlocalmamba.directions import load_directions, published_directions
from mmlocalmamba.models.weights.files import read_state_dict
from mmlocalmamba.registry import MODELS
from mmlocalmamba.search import probabilities, top_directions
from mmlocalmamba.search.export import TOP_K
from mmlocalmamba.search.hook import read_log


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=f'Draw scan directions (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument(
        'sources', nargs='+', help='names of published models, JSON files, one search config, or one .jsonl log'
    )
    parser.add_argument('--checkpoint', help='checkpoint of the search whose config is given')
    parser.add_argument('--top-k', type=int, default=TOP_K, help=f'directions per block (default: {TOP_K})')
    parser.add_argument('--out', default='directions.png', help='picture to write (default: directions.png)')
    return parser.parse_args(arguments)


def searched_probabilities(config: str, checkpoint: str | None) -> list[dict[str, float]]:
    """Read the probabilities out of a supernet's checkpoint.

    Raises:
        ValueError: If no checkpoint was given.
    """
    if checkpoint is None:
        raise ValueError(f'to draw what {config} found, give its checkpoint: --checkpoint <file>')
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(cfg.model)
    model.load_state_dict(read_state_dict(checkpoint))
    return probabilities(model)


def main(arguments: list[str] | None = None) -> None:
    """Draw and save."""
    args = parse_args(arguments)
    suffixes = {Path(source).suffix for source in args.sources}
    if suffixes & {'.jsonl', '.py'} and len(args.sources) > 1:
        raise ValueError(f'give one search config or one log at a time, got {args.sources}')
    source = args.sources[0]
    if suffixes == {'.jsonl'}:
        figure = plot_history(read_log(source))
    elif suffixes == {'.py'}:
        blocks = searched_probabilities(source, args.checkpoint)
        title = Path(source).stem
        figure = plot_directions({title: top_directions(blocks, args.top_k)}, {title: blocks})
    else:
        figure = plot_directions(
            {
                name: load_directions(name) if name.endswith('.json') else published_directions(name)
                for name in args.sources
            }
        )
    figure.savefig(args.out, dpi=150)
    print(args.out)


if __name__ == '__main__':
    main()
