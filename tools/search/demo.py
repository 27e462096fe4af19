"""Search, export, train the searched and the fixed model, and compare: ``make demo-search``.

    python tools/search/demo.py [--work-dir DIR]

Minutes on a CPU, with generated images. Writes the directions (``searched.png``), the probabilities over training
(``alpha.png``) and everything else into DIR, and prints both accuracies.
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

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'demo'


def train(cfg: Config, work_dir: Path) -> tuple[Runner, float]:
    """Train one model from its config; returns its runner and its top-1 accuracy in percent."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = work_dir.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner, runner.val_loop.run()['accuracy/top1']


def run(work_dir: Path, count: int = 2) -> dict[str, float]:
    """Run the whole demonstration; returns the accuracies in percent by the name of the run."""
    search_cfg = Config.fromfile(CONFIGS / 'textures_search.py')
    fixed_cfg = Config.fromfile(CONFIGS / 'textures_fixed.py')
    search, supernet = train(search_cfg, work_dir / 'search')
    blocks = probabilities(search.model)
    directions = top_directions(blocks, count)
    write_directions(work_dir / 'directions.json', directions, blocks)
    plot_directions({'searched': directions}, {'searched': blocks}).savefig(work_dir / 'searched.png', dpi=150)
    plot_history(read_log(work_dir / 'search' / LOG_NAME)).savefig(work_dir / 'alpha.png', dpi=150)
    searched_cfg = searched_config(search_cfg, work_dir / 'directions.json')
    return {
        'supernet': supernet,
        'searched': train(searched_cfg, work_dir / 'searched')[1],
        'fixed': train(fixed_cfg, work_dir / 'fixed')[1],
    }


def main(arguments: list[str] | None = None) -> None:
    """Run, and print the outcome."""
    parser = argparse.ArgumentParser(description=f'Direction search demo (mmlocalmamba {mmlocalmamba.__version__})')
    parser.add_argument('--work-dir', default='work_dirs/demo_search', help='default: work_dirs/demo_search')
    work_dir = Path(parser.parse_args(arguments).work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # such small tensors are faster that way
    accuracies = run(work_dir)
    print('\nTop-1 accuracy on textures whose classes differ along columns only (chance: 50 %)')
    print(f'  supernet, all 8 candidates   {accuracies["supernet"]:5.1f} %')
    print(f'  searched, 2 of 8             {accuracies["searched"]:5.1f} %')
    print(f'  fixed, h and h_flip          {accuracies["fixed"]:5.1f} %')
    print(f'pictures: {work_dir / "searched.png"} {work_dir / "alpha.png"}')


if __name__ == '__main__':
    main()
