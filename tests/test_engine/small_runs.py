"""Runs of the detectors, segmenters and classifiers of our configs that are small enough to be repeated many times."""

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mmengine
import torch
from mmdet.models.task_modules import RandomSampler
from mmdet.registry import TASK_UTILS
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

import mmlocalmamba  # noqa: F401
from mmlocalmamba.datasets.shapes import CLASSES, write_shapes
from mmlocalmamba.engine.cli import build_runner
from mmlocalmamba.engine.device import fit_launcher, fit_precision, start_process_group

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = {
    ('mask_rcnn', 'LocalVMamba'): 'mask_rcnn_localvmamba_t_1x.py',
    ('mask_rcnn', 'LocalVim'): 'mask_rcnn_localvim_t_vitdet.py',
    ('upernet', 'LocalVMamba'): 'upernet_localvmamba_t_160k_ade20k.py',
    ('upernet', 'LocalVim'): 'upernet_localvim_t_160k_ade20k.py',
    ('classifier', 'LocalVMamba'): 'imagenet/local_vmamba_t.py',
    ('classifier', 'LocalVim'): 'imagenet/local_vim_t.py',
    ('search', 'LocalVMamba'): 'search/local_vmamba_t_search.py',
    ('search', 'LocalVim'): 'search/local_vim_search_sampled.py',
}
BACKBONES = ('LocalVMamba', 'LocalVim')
DETECTOR = 'detector.pth'
# MMEngine formats the config four times per run, which takes three times as long as all the rest.
unformatted = patch.object(Config, 'pretty_text', '')
SIDE = 64
WIDTHS = {256: 16, 512: 16, 1024: 32}
CHANNELS = {'LocalVMamba': [32, 64, 128, 256], 'LocalVim': [64, 64, 64, 64]}
CANDIDATES = [['h', 'h_flip', 'v', 'v_flip', 'w2', 'w2_flip', 'w7', 'w7_flip']] * 4
SEARCHED = {
    'LocalVMamba': dict(dims=CHANNELS['LocalVMamba'], depths=[1, 1, 1, 1], directions=CANDIDATES),
    'LocalVim': dict(embed_dim=64, depth=4, directions=CANDIDATES),
}


@TASK_UTILS.register_module()
class EvenSampler(RandomSampler):
    """Samples candidates at even distances instead of random ones."""

    def random_choice(self, gallery: Tensor, num: int) -> Tensor:
        return gallery[torch.linspace(0, len(gallery) - 1, num).round().long()]


class StartHook(Hook):
    """Keeps the parameters that training starts with, initialised by then."""

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.parameters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def write_data(root: Path) -> None:
    """Write the demo data, and the same images in one folder per class."""
    write_shapes(root, {'train': 8, 'val': 5})
    for split in ('train', 'val'):
        for index, image in enumerate(sorted((root / split).iterdir())):
            folder = root / 'folders' / split / ('even', 'odd')[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)


def small_config(kind: str, backbone: str, data: Path, work_dir: Path, launcher: str = 'none') -> Config:
    """Give a config's run with the micro backbone, narrow heads, few proposals and 64 x 64 pixels of the demo data.

    Nothing in it is random but the first weights (and the branches of a search), and it does not validate.
    """
    cfg = Config.fromfile(CONFIGS / FILES[kind, backbone])
    cfg.work_dir, cfg.experiment_name, cfg.launcher = str(work_dir), work_dir.name, launcher
    cfg.default_hooks = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None)
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'EMAHook']
    cfg.visualizer, cfg.param_scheduler = None, None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    fit_precision(cfg)
    arch = SEARCHED[backbone] if kind == 'search' else 'micro'
    cfg.model.backbone.update(arch=arch, drop_path_rate=0.0, init_cfg=None)
    if backbone == 'LocalVim':
        cfg.model.backbone.update(img_size=SIDE, out_indices=(0, 1, 2, 3) if kind == 'upernet' else (3,))
    _narrow(cfg.model)
    shrink = {'mask_rcnn': _shrink_detector, 'upernet': _shrink_segmenter}.get(kind, _shrink_classifier)
    shrink(cfg.model, CHANNELS[backbone])
    for split in ('train', 'test'):
        _use_demo_data(cfg[f'{split}_dataloader'], kind, data, split)
    return cfg


def _shrink_detector(model: ConfigDict, channels: list[int]) -> None:
    model.data_preprocessor.pad_size_divisor = SIDE
    model.neck.in_channels = channels if model.neck.type == 'FPN' else channels[-1]
    for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
        head.num_classes = len(CLASSES)
    for settings in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        settings.update(nms_pre=40, max_per_img=40)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
    # One positive region per image: a process averages the masks' loss over those that it has.
    model.train_cfg.rpn.sampler.update(type='EvenSampler', num=32)
    model.train_cfg.rcnn.sampler.update(type='EvenSampler', num=8, pos_fraction=1 / 8)


def _shrink_segmenter(model: ConfigDict, channels: list[int]) -> None:
    model.data_preprocessor.size = (SIDE, SIDE)
    for head, in_channels in ((model.decode_head, channels), (model.auxiliary_head, channels[2])):
        # Batch norm sees only the images of its process, and SyncBN needs GPUs.
        norm_cfg = dict(type='mmlocalmamba.LN2d')
        head.update(in_channels=in_channels, num_classes=7, dropout_ratio=0.0, norm_cfg=norm_cfg)


def _shrink_classifier(model: ConfigDict, channels: list[int]) -> None:
    model.data_preprocessor.update(num_classes=2, mixup=0.0, cutmix=0.0)
    model.head.update(in_channels=channels[-1], num_classes=2)


def _narrow(node: Any) -> None:
    """Make necks and heads narrow."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list)):
            _narrow(value)
        elif str(key).endswith('channels'):
            node[key] = WIDTHS.get(value, value)


def _use_demo_data(loader: dict, kind: str, data: Path, split: str) -> None:
    if kind in ('classifier', 'search'):
        loader.dataset.update(data_root=str(data / 'folders'))
        loader.dataset.pipeline = [dict(type='mmlocalmamba.TimmTransform', input_size=SIDE, is_training=False)]
    else:
        name = {'mask_rcnn': 'shapes_instance', 'upernet': 'shapes_semantic'}[kind]
        demo = Config.fromfile(CONFIGS / f'_base_/datasets/{name}.py')
        loader.dataset = demo[f'{split}_dataloader'].dataset
        loader.dataset.serialize_data = False  # its garbage collection takes longer than a step
        loader.dataset.data_root = str(data / Path(demo.data_root).relative_to('data/shapes'))
        read, *_, annotate, pack = (step for step in demo[f'{split}_pipeline'] if not step.type.startswith('R'))
        resize = dict(type='Resize', scale=(SIDE, SIDE), keep_ratio=False)
        # Targets to train with are resized too; those to compare predictions with are not.
        loader.dataset.pipeline = [read, *((annotate, resize) if split == 'train' else (resize, annotate)), pack]
    loader.update(
        batch_size=1,
        num_workers=0,
        persistent_workers=False,
        batch_sampler=None,
        sampler=dict(type='InfiniteSampler' if split == 'train' else 'DefaultSampler', shuffle=False),
    )


def start_runner(cfg: Config) -> Runner:
    """Build the runner as tools/train.py does."""
    fit_launcher(cfg)
    start_process_group(cfg.launcher)
    return build_runner(cfg)


@unformatted
def train_for(cfg: Config, iterations: int, batch_size: int) -> dict[str, Any]:
    """Train, and give parameters before and after, the optimizer's momenta, and what was logged last."""
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations)
    cfg.log_processor = dict(by_epoch=False)
    cfg.train_dataloader.batch_size = batch_size
    runner = start_runner(cfg)
    parameters = dict((runner.model.module if is_model_wrapper(runner.model) else runner.model).named_parameters())
    start = StartHook()
    runner.register_hook(start)
    runner.train()
    state = runner.optim_wrapper.optimizer.state
    return {
        'before': start.parameters,
        'after': {name: parameter.detach() for name, parameter in parameters.items()},
        'momenta': {
            name: state[p]['momentum_buffer'] for name, p in parameters.items() if 'momentum_buffer' in state[p]
        },
        'logged': {name: buffer.current() for name, buffer in runner.message_hub.log_scalars.items()},
    }


def write_detector(data: Path, work_dir: Path) -> None:
    """Train a Mask R-CNN on the images that it is then evaluated on, until it finds some of the shapes."""
    cfg = small_config('mask_rcnn', 'LocalVMamba', data, work_dir)
    cfg.train_dataloader.dataset.update(ann_file='annotations/instances_val.json', data_prefix=dict(img='val/'))
    cfg.model.train_cfg.rcnn.sampler.update(num=32, pos_fraction=0.5)
    cfg.optim_wrapper.optimizer.update(lr=3e-3)
    trained = train_for(cfg, 40, batch_size=5)
    torch.save({'state_dict': trained['after']}, data / DETECTOR)


@unformatted
def evaluate(cfg: Config) -> dict[str, Any]:
    """Give a model's metrics; those of a detector, which is a trained one, with the boxes of each image in order."""
    if cfg.default_scope != 'mmdet':
        return {'metrics': start_runner(cfg).test()}
    data, file = Path(cfg.test_dataloader.dataset.data_root), Path(cfg.work_dir) / 'predictions.pkl'
    cfg.load_from = str(data / DETECTOR)
    cfg.model.test_cfg.rpn.update(nms_pre=1000, max_per_img=300)
    cfg.test_evaluator = [
        {**cfg.test_evaluator, 'ann_file': str(data / 'annotations/instances_val.json')},
        {'type': 'mmdet.DumpDetResults', 'out_file_path': str(file)},
    ]
    found = start_runner(cfg).test()
    boxes = [(image['img_id'], image['pred_instances']['bboxes']) for image in mmengine.load(file)]
    return {'metrics': found, 'boxes': boxes}
