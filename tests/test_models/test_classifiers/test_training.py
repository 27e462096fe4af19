"""ImageNet configs run on a few generated images, and their checkpoints start detectors and segmenters."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image

from mmlocalmamba.engine.device import fit_precision
from mmlocalmamba.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
VMAMBA = dict(dims=[8, 16], depths=[1, 1], directions=[['h', 'w2'], ['v', 'w2_flip']])
ONE = pytest.mark.parametrize('cfg', ['local_vim_t'], indirect=True)
VIM = dict(embed_dim=16, depth=2, directions=[['h', 'w2'], ['v', 'w2_flip']])


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Lay data/imagenet out in the current folder: two classes, four images each for training, two for validation."""
    monkeypatch.chdir(tmp_path)
    for split, count in (('train', 4), ('val', 2)):
        for name in ('cat', 'dog'):
            folder = tmp_path / 'data/imagenet' / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.random.randint(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{index}.JPEG')


@pytest.fixture(params=['local_vmamba_t', 'local_vim_t'])
def cfg(request, images):
    """An ImageNet config with a small model, small images, and its EMA quickened."""
    cfg = Config.fromfile(CONFIGS / f'imagenet/{request.param}.py')
    cfg.merge_from_dict({'work_dir': 'work', 'model.head.num_classes': 2, 'model.data_preprocessor.num_classes': 2})
    cfg.model.head.in_channels = 16
    if 'vim' in request.param:
        cfg.model.backbone.update(arch=VIM, img_size=32, patch_size=8)
    else:
        cfg.model.backbone.update(arch=VMAMBA, out_indices=(1,))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.pipeline[0].input_size = 32
    cfg.val_evaluator.topk = (1,)
    cfg.train_cfg.max_epochs = 2
    cfg.custom_hooks[0].update(ema_type='ExponentialMovingAverage', momentum=0.5)
    cfg.param_scheduler = None
    fit_precision(cfg)
    return cfg


class Recorder(Hook):
    """Keeps the weights as they are after each iteration."""

    def __init__(self):
        self.states = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append({name: value.clone() for name, value in runner.model.state_dict().items()})


def train(cfg, name, **changes):
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict({'experiment_name': name, 'work_dir': name, **changes})
    runner = Runner.from_cfg(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder.states


def saved(name, epoch=2):
    return torch.load(f'{name}/epoch_{epoch}.pth', weights_only=False)


def test_the_checkpoint_holds_the_averaged_weights(cfg):
    states = train(cfg, 'run')
    assert len(states) == 4
    average = {name: value.clone() for name, value in states[0].items()}
    for state in states[1:]:
        for name, value in average.items():
            value.mul_(0.5).add_(state[name], alpha=0.5)
    checkpoint = saved('run')
    for name, value in average.items():
        torch.testing.assert_close(checkpoint['state_dict'][name], value, msg=name)
        torch.testing.assert_close(checkpoint['ema_state_dict'][f'module.{name}'], states[-1][name], msg=name)
    assert list(Path('run').glob('best_accuracy_top1_epoch_*.pth')), 'the best one is kept'


def detector(kind, checkpoint):
    """Build a demo's detector around LocalVMamba, or a segmenter around LocalVim, whose backbone starts from a file."""
    if kind == 'LocalVMamba':
        cfg = Config.fromfile(CONFIGS / 'demo/mask_rcnn_localvmamba_micro_shapes.py')
        cfg.model.backbone.update(arch=VMAMBA, out_indices=(0, 1))
        cfg.model.neck.update(in_channels=[8, 16])
    else:
        cfg = Config.fromfile(CONFIGS / 'demo/upernet_localvim_micro_shapes.py')
        cfg.model.backbone.update(arch=VIM, img_size=64, out_indices=(0, 1))  # has larger position tables
        cfg.model.decode_head.update(in_channels=[16, 16], in_index=[0, 1])
        cfg.model.auxiliary_head.update(in_channels=16, in_index=1)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def test_its_averaged_weights_start_a_detector_or_a_segmenter(cfg, capfd):
    train(cfg, 'run')
    backbone = detector(cfg.model.backbone.type.rpartition('.')[2], 'run/epoch_2.pth').backbone
    averaged = saved('run')['state_dict']
    for name, value in backbone.state_dict().items():
        if not name.startswith(('norm0', 'norm1', 'pos_embed')):  # outputs' norms are the detector's own
            torch.testing.assert_close(value, averaged[f'backbone.{name}'], msg=name)
    count = len([name for name in averaged if name.startswith('backbone.')])
    assert f'{count}/{count} backbone tensors loaded from run/epoch_2.pth' in ''.join(capfd.readouterr())
    if backbone.state_dict().get('pos_embed') is not None:
        assert backbone.pos_embed.shape[1] == 4 * averaged['backbone.pos_embed'].shape[1]
        torch.testing.assert_close(backbone.pos_embed.mean(), averaged['backbone.pos_embed'].mean(), atol=1e-2, rtol=0)


@pytest.fixture
def plain(cfg):
    """The same without anything random: no augmentation, no mixing, no drop path, images in their order."""
    cfg.merge_from_dict(
        {
            'model.backbone.drop_path_rate': 0.0,
            'model.data_preprocessor.mixup': 0.0,
            'model.data_preprocessor.cutmix': 0.0,
            'train_dataloader.dataset.pipeline': cfg.val_dataloader.dataset.pipeline,
            'train_dataloader.sampler.shuffle': False,
        }
    )
    return cfg


def assert_close(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=name)


@pytest.mark.slow
@ONE
def test_accumulated_batches_are_one_large_one(plain):
    """Half the batch, accumulated twice, with the options that the schedule's comment names."""
    train(plain, 'large', **{'train_dataloader.batch_size': 8})
    options = {'optim_wrapper.accumulative_counts': 2, 'custom_hooks.0.interval': 2}
    states = train(plain, 'small', **options)
    last = [saved(name)['ema_state_dict'] for name in ('large', 'small')]
    assert [state.pop('steps').item() for state in last] == [2, 4]
    assert_close(*last)
    # The average starts one update earlier than without accumulation, from the initial weights.
    name = 'head.fc.weight'
    average = (states[0][name] + states[2][name]) / 2
    torch.testing.assert_close(saved('small')['state_dict'][name], average)


@pytest.mark.slow
@ONE
@pytest.mark.parametrize('average', ['ExponentialMovingAverage', 'mmlocalmamba.WarmupEMA'])
def test_resuming_changes_nothing(plain, average):
    plain.custom_hooks[0].ema_type = average
    train(plain, 'whole')
    train(plain, 'resumed', **{'train_cfg.max_epochs': 1})
    train(plain, 'resumed', resume=True)
    for key in ('state_dict', 'ema_state_dict'):
        assert_close(saved('whole')[key], saved('resumed')[key])


@ONE
def test_a_folder_with_other_classes_stops_before_training(cfg):
    Path('data/imagenet/val/dog').rename('data/imagenet/val/cow')
    with pytest.raises(ValueError, match=r"classes of train_dataloader and val_dataloader differ in \['cow', 'dog'\]"):
        train(cfg, 'run')
    assert not list(Path('run').glob('*.pth'))


@ONE
def test_the_number_of_classes_must_be_that_of_the_folders(cfg):
    with pytest.raises(ValueError, match='model.head.num_classes is 1000, but the data of train_dataloader have 2'):
        train(cfg, 'run', **{'model.head.num_classes': 1000})


@ONE
def test_a_folder_without_classes_stops_before_training(cfg):
    for folder in ('cat', 'dog'):
        (Path('data/imagenet/train') / folder).rename(Path('data') / folder)
    with pytest.raises(ValueError, match='data/imagenet/train has no classes: want one folder per class'):
        train(cfg, 'run')


class Predictions(Hook):
    """Keeps what the model puts out while it is tested."""

    def __init__(self):
        self.classes = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.classes += [int(output['pred_scores'].argmax()) for output in outputs]


@ONE
def test_a_published_file_is_evaluated_as_it_is(cfg, shared_dir):
    """As tools/test.py does: averaged weights, which the file lacks, must not stand in its way."""
    file = shared_dir / 'reference/local_vim_micro.pt'
    meta = torch.load(file, weights_only=True)['meta']
    arch = {key: meta[key] for key in ('embed_dim', 'depth', 'directions')}
    cfg.model.backbone.update(arch=arch, img_size=meta['img_size'], patch_size=16, drop_path_rate=0.0)
    cfg.merge_from_dict({'model.head.num_classes': 1000, 'model.head.in_channels': meta['embed_dim']})
    cfg.default_hooks.pop('num_classes')
    cfg.test_dataloader = copy.deepcopy(cfg.val_dataloader)
    cfg.test_dataloader.dataset.pipeline[0].input_size = meta['img_size']
    cfg.merge_from_dict({'load_from': str(file), 'experiment_name': 'published'})
    runner, hook = Runner.from_cfg(cfg), Predictions()
    runner.register_hook(hook)
    runner.test()

    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(file, weights_only=True)['state_dict'])
    images = torch.stack([item['inputs'] for item in runner.test_dataloader.dataset])
    with torch.no_grad():
        expected = model(images).argmax(1).tolist()
    assert hook.classes == expected
    assert len(set(expected)) > 1
