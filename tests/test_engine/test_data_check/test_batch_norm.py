import pytest

from mmlocalmamba.engine.data_check import check_data
from mmlocalmamba.engine.data_check.batch_norm import single_images


def test_one_image_per_batch_is_refused_where_a_map_is_pooled_to_a_pixel(demo, complaint) -> None:
    text = complaint(demo('upernet', train_dataloader__batch_size=1))
    assert 'train_dataloader.batch_size=1 gives BN of model.decode_head a single image at a time' in text
    assert 'one value per channel, which PyTorch refuses to normalise' in text
    assert 'Set train_dataloader.batch_size to 2 or more' in text


def test_one_image_per_batch_is_noted_elsewhere(demo) -> None:
    (note,) = check_data(demo('mask_rcnn', train_dataloader__batch_size=1), ['train'])
    assert 'gives BN of model.neck a single image at a time' in note


def test_one_image_in_each_of_two_processes(demo, monkeypatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = demo('upernet', train_dataloader__batch_size=1, launcher='pytorch')
    (finding,) = single_images(cfg)
    assert '2 processes have 1 image each (train_dataloader.batch_size=1), and BN of model.decode_head' in finding.text
    assert 'SyncBN' in finding.text
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.norm_cfg.type = 'SyncBN'
    assert list(single_images(cfg)) == []


@pytest.mark.parametrize(('processes', 'batch', 'finds'), [(1, 7, True), (1, 4, False), (2, 3, True), (2, 7, False)])
def test_the_last_batch_of_an_epoch(processes, batch, finds, demo, monkeypatch) -> None:
    """Of 8 images."""
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    cfg = demo('mask_rcnn', train_dataloader__batch_size=batch, launcher='pytorch')
    found = list(single_images(cfg))
    assert bool(found) == finds
    if finds:
        assert '8 images in batches of train_dataloader.batch_size=' in found[0].text
        cfg.train_dataloader.drop_last = True
        assert list(single_images(cfg)) == []


def test_segmentation_counts_its_images_and_endless_sampling_has_no_last_batch(demo) -> None:
    cfg = demo('upernet', train_dataloader__batch_size=7)
    assert list(single_images(cfg)) == []
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    (finding,) = single_images(cfg)
    assert finding.severity == 'problem'
    assert '8 images in batches of' in finding.text


@pytest.mark.parametrize('repeated', [1, 2])
def test_wrapped_data_sets_are_counted(repeated, demo) -> None:
    cfg = demo('mask_rcnn', train_dataloader__batch_size=5)
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=repeated, dataset=cfg.train_dataloader.dataset)
    assert bool(list(single_images(cfg))) == (repeated == 2)


def test_norms_that_do_not_learn_or_mix_images_pass(demo) -> None:
    cfg = demo('mask_rcnn', train_dataloader__batch_size=1, model__neck__norm_cfg__type='mmlocalmamba.LN2d')
    cfg.model.backbone = dict(type='ResNet', depth=50, norm_eval=True)
    assert list(single_images(cfg)) == []
    cfg.model.backbone.norm_eval = False
    assert 'BN of model.backbone' in next(single_images(cfg)).text
