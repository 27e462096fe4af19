import pickle
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmlocalmamba  # noqa: F401  before mmdet


@pytest.fixture
def checkpoint_of():
    """Save an untrained model's weights as a checkpoint."""

    def save(config: Path) -> str:
        import torch
        from mmengine.registry import MODELS

        cfg = Config.fromfile(config)
        init_default_scope(cfg.default_scope)
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, 'model.pth')
        return 'model.pth'

    return save


def test_detector_is_evaluated_drawn_and_saved(tool, det_config, checkpoint_of) -> None:
    checkpoint = checkpoint_of(det_config)

    tool('test').main([str(det_config), checkpoint, '--work-dir', 'out', '--out', 'out.pkl', '--show-dir', 'pictures'])

    assert len(list(Path('pictures').glob('*.png'))) == 4
    results = pickle.loads(Path('out.pkl').read_bytes())
    assert len(results) == 4
    assert 'pred_instances' in results[0]
    assert any('coco/bbox_mAP' in path.read_text() for path in Path('out').glob('*/*.json'))


def test_segmenter_is_evaluated_drawn_and_saved(tool, seg_config, checkpoint_of) -> None:
    checkpoint = checkpoint_of(seg_config)

    tool('test').main([str(seg_config), checkpoint, '--work-dir', 'out', '--out', 'labels', '--show-dir', 'pictures'])

    assert len(list(Path('labels').glob('*.png'))) == 4
    assert len(list(Path('pictures').glob('**/*.png'))) == 4
    assert any('mIoU' in path.read_text() for path in Path('out').glob('*/*.json'))


def test_segmenter_with_test_time_augmentation(tool, seg_config, checkpoint_of) -> None:
    tool('test').main([str(seg_config), checkpoint_of(seg_config), '--work-dir', 'out', '--tta'])

    assert any('mIoU' in path.read_text() for path in Path('out').glob('*/*.json'))


def test_augmentation_must_be_configured(tool, det_config) -> None:
    with pytest.raises(ValueError, match='tta_model and tta_pipeline'):
        tool('test').main([str(det_config), 'model.pth', '--tta'])


def test_missing_checkpoint_is_named(tool, det_config) -> None:
    with pytest.raises(FileNotFoundError, match='checkpoint = model.pth: there is no such file'):
        tool('test').main([str(det_config), 'model.pth'])


def test_missing_data_are_named(tool, seg_config) -> None:
    Path('data/ade/images').rename('data/ade/pictures')

    with pytest.raises(FileNotFoundError, match='test_dataloader.dataset.data_prefix.img_path = data/ade/images'):
        tool('test').main([str(seg_config), 'model.pth'])


def test_drawing_needs_the_hook(tool, det_config) -> None:
    with pytest.raises(ValueError, match='visualization hook'):
        tool('test').main(
            [str(det_config), 'model.pth', '--show-dir', 'x', '--cfg-options', 'default_hooks.visualization=None']
        )


def test_predictions_of_a_detector_want_a_pickle(tool, det_config) -> None:
    with pytest.raises(ValueError, match=r"\.pkl or \.pickle file, got 'out.json'"):
        tool('test').main([str(det_config), 'model.pth', '--out', 'out.json'])
