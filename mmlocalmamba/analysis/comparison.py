"""Comparing models on one data set: parameters, FLOPs, images per second, memory, and published or measured metrics."""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.fileio import load
from torch import nn

from mmlocalmamba.engine.allocator import keep_freed_memory

from .flops import build_model, count_model, total
from .measuring import UnavailableError, interleaved, resident

_METRICS = {
    'coco/bbox_mAP': ('box AP', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'mIoU': ('mIoU', 1),
    'accuracy/top1': ('Top 1 Accuracy', 1),
}
"""What evaluators call a metric -> what papers call it, and the factor that gives their unit, percent."""


@dataclass(frozen=True)
class Setup:
    """How speed and memory are measured.

    Attributes:
        height: Rows of the images in pixels.
        width: Columns of the images in pixels.
        batch: Images per batch.
        runs: Rounds; the median counts.
        device: ``'cpu'`` or ``'cuda'``.
        threads: Threads of PyTorch.
    """

    height: int
    width: int
    batch: int = 1
    runs: int = 5
    device: str = 'cpu'
    threads: int = 2


@dataclass
class Row:
    """One model of a comparison.

    Attributes:
        name: The config's name.
        config: Its path.
        params: Parameters.
        flops: Multiply-adds of one image; see :mod:`mmlocalmamba.analysis.flops`.
        published_flops: The same in the convention of the published counter.
        images_per_second: Of forwards in evaluation mode, up to the heads' raw outputs.
        memory: Most bytes of such a forward beyond what there was before the model was built, weights included. None
            where the system does not tell.
        published: The authors' metrics, by name; empty if there are none.
        measured: Those of a checkpoint here, by the same names; empty if none was given.
    """

    name: str
    config: str
    params: int = 0
    flops: int = 0
    published_flops: int = 0
    images_per_second: float = 0.0
    memory: int | None = None
    published: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


def read_models(index: Path) -> list[Mapping[str, Any]]:
    """Return the entries of all metafiles that a model-index.yml imports, in its order."""
    return [model for metafile in load(index)['Import'] for model in load(index.parent / metafile)['Models']]


def read_configs(paths: Sequence[str]) -> list[Config]:
    """Read configs that are to be compared.

    Raises:
        ValueError: If they are tested on different data.
    """
    cfgs = [Config.fromfile(path) for path in paths]
    data = [_data_of(cfg) for cfg in cfgs]
    for path, found in zip(paths, data, strict=True):
        if found != data[0]:
            raise ValueError(
                f'only models of one data set can be compared: {paths[0]} is tested on {data[0]}, but {path} on {found}'
            )
    return cfgs


def compare(cfgs: Sequence[Config], setup: Setup, index: Path, progress: Callable[[str], None] = print) -> list[Row]:
    """Count and measure the models of configs; those of several training schedules are measured once.

    Args:
        cfgs: The configs, of one data set.
        setup: How to measure.
        index: The model-index.yml that knows what was published for configs, by their names.
        progress: Is told what is being done.

    Returns:
        One row per config, in their order, without measured metrics.
    """
    published = {model['Name']: model['Results'][0]['Metrics'] or {} for model in read_models(index)}
    keys = [_identity(cfg) for cfg in cfgs]
    first: dict[str, Config] = {}
    for key, cfg in zip(keys, cfgs, strict=True):
        first.setdefault(key, cfg)
    progress(f'counting {len(first)} models')
    # Detectors write into the config that they are built from.
    models = {key: build_model(copy.deepcopy(cfg)) for key, cfg in first.items()}
    costs = {key: total(count_model(model, setup.height, setup.width)) for key, model in models.items()}
    progress(f'measuring speed in {setup.runs} rounds')
    speeds = _speeds({key: (first[key], model) for key, model in models.items()}, setup)
    del models
    memories: dict[str, int | None] = {}
    for i, (key, cfg) in enumerate(first.items(), 1):
        progress(f'measuring memory {i}/{len(first)}')
        memories[key] = peak_memory(cfg.filename, setup)
    rows = []
    for cfg, key in zip(cfgs, keys, strict=True):
        name, cost = Path(cfg.filename).stem, costs[key]
        sizes = (cost.params, cost.flops, cost.published_flops)
        rows.append(Row(name, cfg.filename, *sizes, speeds[key], memories[key], dict(published.get(name, {}))))
    return rows


def _data_of(cfg: Config) -> str:
    """Describe the data that a config is tested on."""
    if 'test_dataloader' not in cfg:
        return 'nothing'
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return f'{dataset.type} in {dataset.get("data_root", "")}'


def _identity(cfg: Config) -> str:
    """Give a text that is the same for configs of the same model, whatever it starts from and however it trains."""
    model = cfg.model.to_dict()
    for key in ('init_cfg', 'drop_path_rate'):
        model['backbone'].pop(key, None)
    return json.dumps(model, sort_keys=True, default=str)


def _speeds(models: Mapping[str, tuple[Config, nn.Module]], setup: Setup) -> dict[str, float]:
    """Measure the images per second of models in turn."""
    functions = {key: forward_of(cfg, model, setup) for key, (cfg, model) in models.items()}
    times = interleaved(functions, setup.runs, setup.device)
    return {key: setup.batch / statistics.median(rounds) for key, rounds in times.items()}


def forward_of(cfg: Config, model: nn.Module, setup: Setup) -> Callable[[], Any]:
    """Return a function that runs a model's forward on random images, up to its heads' raw outputs.

    A detector with regions proposes and looks at as many as its ``test_cfg`` says; nothing is thresholded or pasted.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(setup.batch, 3, setup.height, setup.width, generator=generator).to(setup.device)
    arguments: list[Any] = [images]
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.structures import DetDataSample

        size = (setup.height, setup.width)
        shapes = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
        arguments.append([DetDataSample(metainfo=shapes) for _ in range(setup.batch)])
    model = model.to(setup.device).eval()

    @torch.no_grad()
    def run() -> Any:
        return model(*arguments, mode='tensor')

    return run


def peak_memory(config: str, setup: Setup) -> int | None:
    """Measure the peak memory of a model's forward in a process of its own; None where the system does not tell.

    Raises:
        RuntimeError: If that process fails.
    """
    if setup.device == 'cpu':
        try:
            resident('VmHWM')
        except UnavailableError:
            return None
    task = json.dumps([str(Path(config).resolve()), vars(setup)])
    done = subprocess.run([sys.executable, '-m', __name__, task], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f'measuring the memory of {config} ended with status {done.returncode}:\n{done.stderr or done.stdout}'
        )
    return json.loads(done.stdout.splitlines()[-1])


def _peak_here(config: str, setup: Setup) -> int:
    """Run a forward in this process and return its peak in bytes."""
    torch.set_num_threads(setup.threads)
    on_gpu = setup.device == 'cuda'
    if not on_gpu:
        keep_freed_memory()  # as tools/test.py does
    cfg = Config.fromfile(config)
    before = torch.cuda.memory_allocated() if on_gpu else resident('VmRSS')
    forward_of(cfg, build_model(cfg), setup)()
    return (torch.cuda.max_memory_allocated() if on_gpu else resident('VmHWM')) - before


def papers_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """Give an evaluator's metrics by the names and in the unit that papers use; others as they are called.

    Example:
        >>> papers_metrics({'coco/bbox_mAP': 0.465, 'coco/bbox_mAP_s': 0.3})
        {'box AP': 46.5}
        >>> papers_metrics({'my/score': 0.7})
        {'my/score': 0.7}
    """
    known = {name: values[key] * factor for key, (name, factor) in _METRICS.items() if key in values}
    return known or dict(values)


if __name__ == '__main__':
    _config, _setup = json.loads(sys.argv[1])
    print(_peak_here(_config, Setup(**_setup)))  # noqa: T201
