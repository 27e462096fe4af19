import pytest
from mmengine.config import ConfigDict

from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.engine.data_check.heads import head_classes

from .conftest import ROOT


def said(cfg) -> str:
    return '\n'.join(finding.text for finding in head_classes(cfg, ['train']))


def test_box_and_mask_heads_are_compared_apart(demo) -> None:
    cfg = demo('mask_rcnn', model__roi_head__bbox_head__num_classes=80, model__roi_head__mask_head__num_classes=5)
    assert said(cfg) == (
        'model.roi_head.bbox_head.num_classes is 80; model.roi_head.mask_head.num_classes is 5, but the data of '
        'train_dataloader.dataset have 6 classes (disc, square, triangle, star, ring, ...). Set them: --cfg-options '
        'model.roi_head.bbox_head.num_classes=6 model.roi_head.mask_head.num_classes=6'
    )


def test_the_number_that_a_head_has_by_default_counts(demo) -> None:
    cfg = demo('mask_rcnn')
    del cfg.model.roi_head.bbox_head.num_classes
    assert 'model.roi_head.bbox_head.num_classes is 80, but' in said(cfg)


def test_auxiliary_heads_count(demo, complaint) -> None:
    text = complaint(demo('upernet', model__auxiliary_head__num_classes=150))
    assert 'model.auxiliary_head.num_classes is 150, but the data of train_dataloader.dataset have 7 classes' in text


@pytest.mark.parametrize(
    ('model', 'key'),
    [
        (dict(type='RetinaNet', bbox_head=dict(type='RetinaHead')), 'bbox_head.num_classes'),
        (dict(type='DETR', bbox_head=dict(type='DETRHead')), 'bbox_head.num_classes'),
        (dict(type='DINO', bbox_head=dict(type='DINOHead')), 'bbox_head.num_classes'),
        (dict(type='YOLOX', bbox_head=dict(type='YOLOXHead')), 'bbox_head.num_classes'),
        (dict(type='RTMDet', bbox_head=dict(type='RTMDetSepBNHead')), 'bbox_head.num_classes'),
        (dict(roi_head=dict(bbox_head=[dict(), dict(type='Shared2FCBBoxHead')])), 'roi_head.bbox_head.1.num_classes'),
    ],
)
def test_heads_of_other_detectors(model, key, demo) -> None:
    cfg = demo('mask_rcnn')
    cfg.model = ConfigDict(model)
    heads = model.get('bbox_head') or model['roi_head']['bbox_head']
    for head in heads if isinstance(heads, list) else [heads]:
        head['num_classes'] = 6
    cfg.model = ConfigDict(model)
    assert said(cfg) == ''
    cfg.merge_from_dict({f'model.{key}': 80})
    assert f'model.{key} is 80, but' in said(cfg)
    assert f'--cfg-options model.{key}=6' in said(cfg)


def test_mask2former_has_things_and_stuff_and_a_weight_per_class(demo) -> None:
    cfg = demo('mask_rcnn')
    weights = dict(type='CrossEntropyLoss', class_weight=[1.0] * 80 + [0.1])
    head = dict(type='Mask2FormerHead', num_things_classes=80, num_stuff_classes=0, loss_cls=weights)
    cfg.model = ConfigDict(type='Mask2Former', panoptic_head=head)
    text = said(cfg)
    assert 'model.panoptic_head.num_things_classes + model.panoptic_head.num_stuff_classes is 80, but' in text
    assert '--cfg-options model.panoptic_head.num_things_classes=6 model.panoptic_head.num_stuff_classes=0' in text
    assert 'model.panoptic_head.loss_cls.class_weight has 81 numbers, but the data have 6 classes' in text


@pytest.mark.parametrize('kind', ['SegformerHead', 'SegmenterMaskTransformerHead', 'FPNHead', 'UPerHead'])
def test_heads_of_other_segmenters(kind, demo) -> None:
    cfg = demo('upernet')
    cfg.model = ConfigDict(type='EncoderDecoder', decode_head=dict(type=kind, num_classes=19))
    assert '--cfg-options model.decode_head.num_classes=7' in said(cfg)


def test_a_classifier_is_compared_with_the_folders(tmp_path, monkeypatch) -> None:
    from mmengine.config import Config

    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            folder = tmp_path / 'data/imagenet' / split / name
            folder.mkdir(parents=True)
            (folder / '1.jpg').write_bytes(b'')
    cfg = Config.fromfile(ROOT / 'configs/imagenet/local_vmamba_t.py')
    with pytest.raises(ValueError, match=r'preprocessor\.num_classes and model\.head\.num_classes are 1000'):
        check_data(cfg, ['train', 'val'])
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 2
    cfg.train_dataloader.batch_size = 2
    check_data(cfg, ['train', 'val'])
