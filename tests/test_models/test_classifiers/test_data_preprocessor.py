import pytest
import torch

from mmlocalmamba.models.classifiers import ClassificationDataPreprocessor


def batch(count=4):
    return dict(inputs=torch.randn(count, 3, 8, 8), labels=torch.arange(count))


def test_training_makes_soft_labels_that_sum_to_one():
    preprocessor = ClassificationDataPreprocessor(6, mixup=0.2, cutmix=1.0, label_smoothing=0.1)
    data = preprocessor(batch(), training=True)
    assert data['labels'].shape == (4, 6)
    torch.testing.assert_close(data['labels'].sum(1), torch.ones(4))


def test_mixup_changes_images_by_the_share_in_the_labels():
    given = batch(2)
    images = given['inputs'].clone()
    data = ClassificationDataPreprocessor(2, mixup=1.0)(given, training=True)
    share = data['labels'][0, 0]
    torch.testing.assert_close(data['inputs'][0], share * images[0] + (1 - share) * images[1])


def test_evaluation_leaves_the_batch_alone():
    given = batch()
    data = ClassificationDataPreprocessor(6, mixup=0.2, cutmix=1.0)(dict(given), training=False)
    assert torch.equal(data['inputs'], given['inputs'])
    assert data['labels'].tolist() == [0, 1, 2, 3]


def test_without_mixing_labels_stay_classes():
    assert ClassificationDataPreprocessor(6)(batch(), training=True)['labels'].dtype == torch.int64


def test_label_smoothing_alone_keeps_the_images():
    given = batch()
    images = given['inputs'].clone()
    data = ClassificationDataPreprocessor(4, label_smoothing=0.1)(given, training=True)
    assert torch.equal(data['inputs'], images)
    assert data['labels'][0].tolist() == pytest.approx([0.925, 0.025, 0.025, 0.025])


def test_an_odd_batch_is_refused():
    with pytest.raises(ValueError, match='the batch has 3: set an even batch_size'):
        ClassificationDataPreprocessor(6, cutmix=1.0)(batch(3), training=True)


def test_negative_mixup_is_refused():
    with pytest.raises(ValueError, match='want mixup and cutmix >= 0'):
        ClassificationDataPreprocessor(6, mixup=-1)
