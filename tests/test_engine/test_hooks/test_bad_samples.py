"""Runs of a model of one weight over image files, some of them bad."""

import logging

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn

import mmlocalmamba  # noqa: F401  isort: skip  before mmcv

import mmcv.transforms  # noqa: F401  registers its transforms

from mmlocalmamba.datasets.bad_samples import BadSampleList
from mmlocalmamba.datasets.checked_loading import BadSampleError
from mmlocalmamba.engine.hooks import BadSamplesHook

COUNT = 8


@DATASETS.register_module()
class NumberedImages(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=f'{self.data_root}/{index}.png') for index in range(COUNT)]


@MODELS.register_module()
class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, img_path, mode, **sample):
        self.seen += img_path
        return dict(loss=self.weight**2) if mode == 'loss' else [dict(done=1) for _ in img_path]


@METRICS.register_module()
class Counted(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return dict(count=len(results))


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, '_log_env', lambda *_: None)  # takes longer than all the rest
    image = cv2.imencode('.png', np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))[1].tobytes()
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        for index in range(COUNT):
            (tmp_path / split / f'{index}.png').write_bytes(image)
    return tmp_path


def runner(folder, workers=0, by_epoch=True, **policy):
    def loader(split, test_mode):
        dataset = dict(
            type='NumberedImages',
            data_root=str(folder / split),
            pipeline=[dict(type='LoadImageFromFile')],
            test_mode=test_mode,
        )
        sampler = dict(type='DefaultSampler' if by_epoch or test_mode else 'InfiniteSampler', shuffle=not test_mode)
        settings = dict(num_workers=workers, persistent_workers=workers > 0, collate_fn=dict(type='default_collate'))
        return dict(batch_size=2, dataset=dataset, sampler=sampler, **settings)

    loop = dict(type='EpochBasedTrainLoop', max_epochs=2) if by_epoch else dict(type='IterBasedTrainLoop', max_iters=8)
    return Runner(
        model=dict(type='OneWeight'),
        work_dir=str(folder / 'work'),
        train_dataloader=loader('train', False),
        train_cfg=loop | dict(val_interval=8 if not by_epoch else 1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader('val', True),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='Counted'),
        test_dataloader=loader('val', True),
        test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(type='Counted'),
        custom_hooks=[dict(type='mmlocalmamba.BadSamplesHook', **policy)],
        experiment_name=folder.name,
    )


def spoil(path, size=60):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_training_goes_on_without_bad_samples_and_lists_them(workers, by_epoch, images, caplog):
    spoil(images / 'train/3.png')
    (images / 'train/5.png').unlink()
    run = runner(images, workers, by_epoch, policy='skip')
    run.logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    run.train()
    assert len(run.model.seen) == 2 * COUNT + (2 if by_epoch else 1) * COUNT
    assert not {str(images / 'train/3.png'), str(images / 'train/5.png')} & set(run.model.seen)
    problems = dict(BadSampleList(run.log_dir).read())
    assert problems[str(images / 'train/5.png')] == 'is not there'
    assert problems[str(images / 'train/3.png')].startswith('is cut off or damaged')
    assert '1 of 8 files of train_dataloader cannot be used' in caplog.text
    assert '2 bad samples so far' in caplog.text


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_a_bad_sample_ends_training_with_its_name(workers, by_epoch, images):
    spoil(images / 'train/3.png')
    with pytest.raises(BadSampleError, match=r"train/3\.png is cut off or damaged.*bad_samples='skip'"):
        runner(images, workers, by_epoch).train()


def test_files_that_are_missing_or_empty_are_named_before_the_first_step(images):
    spoil(images / 'train/1.png', 0)
    (images / 'train/6.png').unlink()
    run = runner(images)
    with pytest.raises(BadSampleError) as caught:
        run.train()
    assert '2 of 8 files of train_dataloader cannot be used' in str(caught.value)
    assert f'{images / "train/1.png"} is empty (0 bytes)\n' in str(caught.value)
    assert f'{images / "train/6.png"} is not there\n' in str(caught.value)
    assert run.model.seen == []


def test_a_bad_image_of_validation_ends_the_run_before_the_first_step(images):
    (images / 'val/2.png').unlink()
    run = runner(images, policy='skip')
    with pytest.raises(BadSampleError, match='1 of 8 files of val_dataloader cannot be used'):
        run.train()
    assert run.model.seen == []


def test_a_bad_image_ends_testing_and_validation(images):
    spoil(images / 'val/2.png')
    for start in (Runner.test, Runner.val):
        with pytest.raises(BadSampleError, match=r'val/2\.png is cut off'):
            start(runner(images, policy='skip'))


def test_nothing_but_bad_files_is_an_error_under_any_policy(images):
    for path in (images / 'train').iterdir():
        spoil(path, 0)
    with pytest.raises(BadSampleError, match='8 of 8 files of train_dataloader cannot'):
        runner(images, policy='skip').train()


def test_the_look_for_files_ends_in_time(images, caplog):
    run = runner(images, scan_seconds=0)
    run.logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    (images / 'train/6.png').unlink()
    with pytest.raises(BadSampleError, match=r'6\.png is not there'):
        run.train()
    assert 'looked for 1 files in 0 s' in caplog.text


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="bad_samples='drop': want"):
        BadSamplesHook('drop')
