import pickle
from pathlib import Path

import pytest
import torch


@pytest.fixture
def checkpoint_of(model_state):
    """Save an untrained model's weights as a checkpoint."""

    def save(config: Path) -> str:
        torch.save({'state_dict': model_state(config)}, 'model.pth')
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


@pytest.mark.parametrize('arguments', [[], ['--tta']])
def test_random_weights_are_not_evaluated(tool, seg_config, model_state, arguments) -> None:
    state = model_state(seg_config)
    del state['decode_head.conv_seg.bias']
    torch.save({'state_dict': state}, 'cut.pth')

    with pytest.raises(ValueError, match=r'cut.pth does not hold this whole model: 1 of .*\(decode_head.conv_seg.bias'):
        tool('test').main([str(seg_config), 'cut.pth', '--work-dir', 'out', *arguments])


def test_a_head_for_other_classes_is_not_evaluated(tool, det_config, model_state) -> None:
    state = model_state(det_config)
    weight = state['roi_head.bbox_head.fc_cls.weight']
    state['roi_head.bbox_head.fc_cls.weight'] = torch.zeros(81, weight.shape[1])
    torch.save(state, 'coco.pth')

    with pytest.raises(ValueError, match=r'fc_cls.weight, which has shape \(81, \d+\) in the checkpoint and \('):
        tool('test').main([str(det_config), 'coco.pth', '--work-dir', 'out'])


def test_a_checkpoint_of_another_model_is_not_evaluated(tool, seg_config) -> None:
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, 'other.pth')

    with pytest.raises(ValueError, match='no tensor of other.pth fits this model: it has names such as weight'):
        tool('test').main([str(seg_config), 'other.pth', '--work-dir', 'out'])


def test_averaged_weights_are_evaluated(tool, seg_config) -> None:
    """EMAHook saves them under the model's names, and its own under others."""
    seg_config.write_text(seg_config.read_text() + "custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n")
    tool('train').main([str(seg_config), '--work-dir', 'out'])

    tool('test').main([str(seg_config), 'out/iter_2.pth', '--work-dir', 'tested'])

    log = '\n'.join(path.read_text() for path in Path('tested').glob('*/*.log'))
    assert 'tensors of the model were loaded from out/iter_2.pth' in log
    assert any('mIoU' in path.read_text() for path in Path('tested').glob('*/*.json'))


def test_augmentation_must_be_configured(tool, seg_config) -> None:
    seg_config.write_text(seg_config.read_text().replace('tta_', 'other_'))
    with pytest.raises(ValueError, match=r'tta_model and tta_pipeline in the config. For detectors, configs/_base_'):
        tool('test').main([str(seg_config), 'model.pth', '--tta'])


def test_augmentation_of_masks_is_refused(tool, det_config) -> None:
    with pytest.raises(ValueError, match='MMDetection merges boxes alone .DetTTAModel., and this model predicts masks'):
        tool('test').main([str(det_config), 'model.pth', '--tta'])


def test_detector_of_boxes_with_test_time_augmentation(tool, det_config, checkpoint_of) -> None:
    tta = str(Path(__file__).resolve().parents[2] / 'configs/_base_/det_tta.py')
    text = det_config.read_text().replace('_base_ = [', f'_base_ = [{tta!r}, ')
    text += (
        "model.update(type='FasterRCNN')\n"
        'model["roi_head"].update(mask_head=None, mask_roi_extractor=None)\n'
        "test_evaluator['metric'] = 'bbox'\n"
    )
    det_config.write_text(text)
    checkpoint = checkpoint_of(det_config)
    smaller = ['--cfg-options']
    smaller += [f'tta_pipeline.1.transforms.0.{k}.scale=({96 + 16 * k}, 64)' for k in range(3)]

    tool('test').main([str(det_config), checkpoint, '--work-dir', 'out', '--tta', *smaller])

    assert any('coco/bbox_mAP' in path.read_text() for path in Path('out').glob('*/*.json'))


def test_a_damaged_checkpoint_is_not_evaluated(tool, det_config) -> None:
    torch.save({'state_dict': {'weight': torch.zeros(99)}}, 'model.pth')
    whole = Path('model.pth').read_bytes()

    for content in (whole[:500], whole[:-1], whole.replace(bytes(99), bytes(98) + b'1'), b''):
        Path('model.pth').write_bytes(content)
        with pytest.raises(ValueError, match='checkpoint = model.pth: the file is damaged, '):
            tool('test').main([str(det_config), 'model.pth'])


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
