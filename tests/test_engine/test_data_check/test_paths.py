import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocalmamba.engine.data_check import check_data


def det_config(root: str = 'data/coco', **dataset) -> Config:
    dataset = {
        'type': 'CocoDataset',
        'data_root': root,
        'ann_file': 'annotations/instances_train2017.json',
        'data_prefix': {'img': 'train2017/'},
        **dataset,
    }
    return Config({'train_dataloader': {'dataset': dataset}})


def make_coco(root: Path) -> None:
    (root / 'annotations').mkdir(parents=True)
    (root / 'annotations/instances_train2017.json').write_text(json.dumps({}))
    (root / 'train2017').mkdir()
    (root / 'train2017/1.jpg').write_bytes(b'')


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch) -> Path:
    """Relative paths start in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(cfg: Config, *splits: str) -> str:
    with pytest.raises(FileNotFoundError) as caught:
        check_data(cfg, splits or ['train'])
    return str(caught.value)


def test_complete_data_pass() -> None:
    make_coco(Path('data/coco'))
    check_data(det_config(), ['train'])


def test_checking_changes_no_config() -> None:
    make_coco(Path('data/coco'))
    cfg = det_config()
    before = cfg.to_dict()

    check_data(cfg, ['train', 'val', 'test'])

    assert cfg.to_dict() == before


def test_missing_data_are_named_with_key_and_remedy(tmp_path) -> None:
    text = complaint(det_config())

    assert 'train_dataloader.dataset.ann_file = data/coco/annotations/instances_train2017.json' in text
    assert 'train_dataloader.dataset.data_prefix.img = data/coco/train2017' in text
    assert str(tmp_path) in text
    assert 'ln -s /path/to/coco data/coco' in text


def test_unpacked_one_folder_too_deep() -> None:
    make_coco(Path('data/coco/coco'))

    text = complaint(det_config())

    assert 'It is at data/coco/coco/train2017, one folder too deep: move everything in data/coco/coco up' in text


def test_images_unpacked_into_a_folder_of_their_own() -> None:
    make_coco(Path('data/coco'))
    Path('data/coco/train2017').rename('data/coco/images')
    Path('data/coco/train2017').mkdir()
    Path('data/coco/images').rename('data/coco/train2017/train2017')

    text = complaint(det_config())

    assert 'one folder too deep: move everything in data/coco/train2017/train2017 up' in text

    Path('data/coco/train2017/ship').mkdir()  # 'train2017' may be one class of several
    check_data(det_config(), ['train'])


def test_one_folder_too_shallow() -> None:
    (Path('data/ade/images/training')).mkdir(parents=True)
    cfg = det_config('data/ade/ADEChallengeData2016', ann_file='', data_prefix={'img_path': 'images/training'})

    text = complaint(cfg)

    assert 'data/ade holds images/training directly, but it should be inside data/ade/ADEChallengeData2016' in text


def test_annotations_under_another_name() -> None:
    make_coco(Path('data/coco'))
    Path('data/coco/annotations/instances_train2017.json').rename('data/coco/annotations/instances_train_2017.json')

    assert 'it has instances_train_2017.json' in complaint(det_config())


def test_broken_link() -> None:
    Path('data').mkdir()
    Path('data/coco').symlink_to('/nowhere/coco')

    assert 'data/coco is a link to /nowhere/coco, which is not there' in complaint(det_config())


def test_empty_image_folder() -> None:
    make_coco(Path('data/coco'))
    Path('data/coco/train2017/1.jpg').unlink()

    text = complaint(det_config())

    assert 'data/coco/train2017\n    This folder is empty' in text
    assert 'ann_file' not in text


def test_file_in_place_of_a_folder() -> None:
    Path('data').mkdir()
    Path('data/coco').write_text('')

    assert 'data/coco is a file, not a folder' in complaint(det_config())


def test_demo_data_are_to_be_generated() -> None:
    assert 'python tools/make_demo_data.py data/shapes' in complaint(det_config('data/shapes'))


def test_other_splits_are_not_looked_at() -> None:
    check_data(det_config(), ['val', 'test'])


def test_wrapped_datasets_are_looked_at() -> None:
    inner = det_config().train_dataloader.dataset.to_dict()
    cfg = Config({'train_dataloader': {'dataset': {'type': 'RepeatDataset', 'dataset': {'datasets': [inner]}}}})

    assert 'train_dataloader.dataset.dataset.datasets.0.ann_file' in complaint(cfg)


def test_annotations_of_the_evaluator_are_looked_at() -> None:
    cfg = Config({'val_evaluator': [{'type': 'CocoMetric', 'ann_file': 'data/coco/annotations/val.json'}]})

    assert 'val_evaluator.0.ann_file = data/coco/annotations/val.json' in complaint(cfg, 'val')


def test_image_folder_of_classification() -> None:
    cfg = det_config('data/imagenet', ann_file='', data_prefix='train')

    text = complaint(cfg)

    assert 'train_dataloader.dataset.data_prefix = data/imagenet/train' in text
    assert 'https://image-net.org/download' in text


def test_data_root_alone_is_looked_at() -> None:
    assert 'dataset.data_root = data/coco' in complaint(det_config(ann_file='', data_prefix={}))


@pytest.mark.parametrize('remote', [{'data_root': 's3://bucket/coco'}, {'backend_args': {'backend': 'petrel'}}])
def test_remote_data_are_left_alone(remote) -> None:
    check_data(det_config(**remote), ['train'])


def test_absolute_paths_ignore_the_root(tmp_path) -> None:
    make_coco(tmp_path / 'elsewhere')
    check_data(
        det_config(
            ann_file=str(tmp_path / 'elsewhere/annotations/instances_train2017.json'),
            data_prefix={'img': str(tmp_path / 'elsewhere/train2017')},
        ),
        ['train'],
    )
