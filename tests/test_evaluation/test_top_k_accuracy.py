import pytest
import torch

from mmlocalmamba.evaluation import TopKAccuracy


def evaluate(metric, scores, labels):
    metric.process(None, [dict(pred_scores=s, gt_label=label) for s, label in zip(scores, labels, strict=True)])
    return metric.evaluate(len(labels))


def test_top_1_and_top_2():
    scores = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    result = evaluate(TopKAccuracy((1, 2)), scores, torch.tensor([0, 2, 0, 1]))
    assert result == {'accuracy/top1': 25.0, 'accuracy/top2': 75.0}


def test_k_above_the_number_of_classes_counts_all():
    assert evaluate(TopKAccuracy((5,)), torch.rand(3, 2), torch.tensor([0, 1, 0])) == {'accuracy/top5': 100.0}


def test_equal_scores_are_no_hit():
    assert evaluate(TopKAccuracy((1,)), torch.ones(1, 3), torch.tensor([0])) == {'accuracy/top1': 0.0}


def test_images_without_class_are_refused():
    with pytest.raises(ValueError, match='needs the class of every image'):
        evaluate(TopKAccuracy(), torch.rand(1, 3), [None])


@pytest.mark.parametrize('topk', [(), (0,), (1.5,)])
def test_other_values_of_k_are_refused(topk):
    with pytest.raises(ValueError, match='positive whole numbers'):
        TopKAccuracy(topk)
