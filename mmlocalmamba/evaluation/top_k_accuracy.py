"""Accuracy of classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from mmlocalmamba.registry import METRICS


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Percentage of images whose class is among the k with the highest scores: ``accuracy/top1``, ``accuracy/top5``.

    Args:
        topk: The values of k; one above the number of classes counts every image.
        collect_device: ``'cpu'`` or ``'gpu'``: where the processes' results are gathered.
        prefix: First part of the names.

    Raises:
        ValueError: If ``topk`` is empty or holds anything but positive whole numbers; when used, if images have no
            ground truth.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device, prefix)
        if not topk or not all(isinstance(k, int) and k >= 1 for k in topk):
            raise ValueError(f'topk={topk!r} must be positive whole numbers, such as (1, 5)')
        self.topk = tuple(topk)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep, for each image, at which place of the ranking its class is."""
        for sample in data_samples:
            scores, label = sample['pred_scores'], sample['gt_label']
            if label is None:
                raise ValueError('TopKAccuracy needs the class of every image, but the data set gives none')
            # Ties count against the prediction: a model that scores all classes alike has no accuracy to show.
            ahead = int((scores >= scores[int(label)]).sum()) - 1
            self.results.append(ahead)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Turn places into percentages."""
        return {f'top{k}': 100 * sum(place < k for place in results) / len(results) for k in self.topk}
