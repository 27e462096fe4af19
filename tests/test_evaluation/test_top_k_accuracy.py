import math

import pytest
import torch
from mmengine.logging import MMLogger

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


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_wrong(bad):
    scores = torch.tensor([[bad, bad, bad], [0.9, bad, 0.1], [0.9, 0.1, 0.0]])
    result = evaluate(TopKAccuracy((1, 5)), scores, torch.tensor([0, 0, 0]))
    assert result == {'accuracy/top1': pytest.approx(100 / 3), 'accuracy/top5': pytest.approx(100 / 3)}


def test_scores_that_are_not_finite_are_counted_in_the_log(caplog):
    logger = MMLogger.get_instance('accuracy')
    logger.addHandler(caplog.handler)
    evaluate(TopKAccuracy((1,)), torch.full((3, 2), math.nan), torch.tensor([0, 1, 0]))
    assert [record.getMessage() for record in caplog.records if 'NaN' in record.getMessage()] == [
        '3 of 3 images have scores that are NaN or infinite: they count as wrong. '
        'The model has diverged, or its forward overflows.'
    ]


def test_no_images_give_no_figure_and_no_error():
    """An error on the main process alone would leave the others waiting for its metrics."""
    assert math.isnan(TopKAccuracy((1,)).compute_metrics([])['top1'])


def test_images_without_class_are_refused():
    with pytest.raises(ValueError, match='needs the class of every image'):
        evaluate(TopKAccuracy(), torch.rand(1, 3), [None])


@pytest.mark.parametrize('topk', [(), (0,), (1.5,)])
def test_other_values_of_k_are_refused(topk):
    with pytest.raises(ValueError, match='positive whole numbers'):
        TopKAccuracy(topk)
