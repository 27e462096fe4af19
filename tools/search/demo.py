"""Search, export, train the searched and the fixed model, and compare: ``make demo-search``.

    python tools/search/demo.py [--work-dir DIR] [--seed 0]

Half a minute on one CPU core, with generated images. Writes the directions (``searched.png``), the probabilities over
training (``alpha.png``) and everything else into DIR, and prints the accuracies of all three models.
"""

import mmlocalmamba  # isort: skip  # before any mm package: puts the stand-in for mmcv._ext in place

import argparse
import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmlocalmamba.analysis.plot_directions import plot_directions, plot_history
from mmlocalmamba.search import probabilities, searched_config, top_directions, write_directions
from mmlocalmamba.search.hook import LOG_NAME, read_log

TOP_K = 2  # as many as the fixed model has
CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'demo'


def train(cfg: Config, work_dir: Path, seed: int, epochs: int | None) -> tuple[Runner, float]:
    """Train one model from its config; returns its runner and its top-1 accuracy in percent."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    cfg.randomness.seed = seed
    cfg.train_cfg.max_epochs = epochs or cfg.train_cfg.max_epochs
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner, runner.val_loop.run()['accuracy/top1']


def run(work_dir: Path, seed: int = 0, epochs: int | None = None) -> dict[str, float]:
    """Run the whole demonstration.

    Args:
        work_dir: Where everything goes.
        seed: Of the weights and of the order of the images.
        epochs: Of each of the three trainings. Default: as the configs say.

    Returns:
        The accuracies in percent by the name of the run.
    """
    search_cfg = Config.fromfile(CONFIGS / 'textures_search.py')
    fixed_cfg = Config.fromfile(CONFIGS / 'textures_fixed.py')
    search, supernet = train(search_cfg, work_dir / 'search', seed, epochs)
    blocks = probabilities(search.model)
    directions = top_directions(blocks, TOP_K)
    write_directions(work_dir / 'directions.json', directions, blocks)
    plot_directions({'searched': directions}, {'searched': blocks}).savefig(work_dir / 'searched.png', dpi=150)
    plot_history(read_log(work_dir / 'search' / LOG_NAME)).savefig(work_dir / 'alpha.png', dpi=150)
    searched_cfg = searched_config(search_cfg, work_dir / 'directions.json')
    return {
        'supernet': supernet,
        'searched': train(searched_cfg, work_dir / 'searched', seed, epochs)[1],
        'fixed': train(fixed_cfg, work_dir / 'fixed', seed, epochs)[1],
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, and print the outcome."""
    parser = argparse.ArgumentParser(description=f'Direction search demo (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('--work-dir', default='work_dirs/demo-search', help='default: work_dirs/demo-search')
    parser.add_argument('--seed', type=int, default=0, help='of the weights and the order of the images (default: 0)')
    parser.add_argument('--epochs', type=int, help="of each training (default: the configs' 5)")
    args = parser.parse_args(arguments)
    work_dir = Path(args.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # such small tensors are faster that way
    accuracies = run(work_dir, args.seed, args.epochs)
    print('\nTop-1 accuracy on textures whose classes differ along columns only (chance: 50 %)')
    print(f'  supernet, all 8 candidates   {accuracies["supernet"]:5.1f} %')
    print(f'  searched, 2 of 8             {accuracies["searched"]:5.1f} %')
    print(f'  fixed, h and h_flip          {accuracies["fixed"]:5.1f} %')
    print(f'pictures: {work_dir / "searched.png"} {work_dir / "alpha.png"}')


if __name__ == '__main__':
    main()
