from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.engine.data_check.batches import fewer_than_a_batch
from mmlocalmamba.engine.data_check.sizes import num_samples

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


@pytest.fixture
def classifier(tmp_path, monkeypatch) -> Config:
    """The search on ImageNet, on ten images of two classes."""
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val'):
        for index in range(10):
            folder = tmp_path / 'mine' / split / ('cat', 'dog')[index % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (8, 8)).save(folder / f'{index}.png')
    cfg = Config.fromfile(CONFIGS / 'search/local_vim_search_sampled.py')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = 'mine'
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 2
    return cfg


def test_less_than_a_batch_is_refused(classifier, complaint) -> None:
    text = complaint(classifier)

    assert 'The training data have 10 images, fewer than one batch of train_dataloader.batch_size=128' in text
    assert 'such as train_dataloader.batch_size=2' in text


@pytest.mark.parametrize(
    'change',
    [
        {'train_dataloader.batch_size': 10},
        {'train_dataloader.drop_last': False},
        {'train_dataloader.sampler.type': 'InfiniteSampler'},
    ],
)
def test_a_batch_that_can_be_filled_passes(change, classifier) -> None:
    classifier.merge_from_dict(change)

    assert check_data(classifier, ['train', 'val']) == []


@pytest.mark.parametrize(('batch', 'finds'), [(5, False), (6, True)])
def test_each_process_needs_a_batch(batch, finds, classifier, monkeypatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    classifier.merge_from_dict({'launcher': 'pytorch', 'train_dataloader.batch_size': batch})

    found = list(fewer_than_a_batch(classifier))

    assert bool(found) == finds
    assert not finds or '10 images, 5 in each of 2 processes, fewer than' in found[0].text


def test_files_are_counted_until_there_are_enough(classifier) -> None:
    key, data_set = 'train_dataloader.dataset', classifier.train_dataloader.dataset

    assert num_samples(key, data_set, classifier) == 10
    assert num_samples(key, data_set, classifier, enough=3) == 5, 'one folder will do'
