"""Accuracy of classification."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmlocalmamba.registry import METRICS


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Percentage of images whose class is among the k with the highest scores: ``accuracy/top1``, ``accuracy/top5``.

    An image with a score that is NaN or infinite is never right, whatever k is: a model that diverged must not be kept
    as the best one. The log says how many such images there were. Without any image, all percentages are NaN.

    Args:
        topk: The values of k; one above the number of classes counts every image whose scores are finite.
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
        """Keep the rank of each image's class, from 0; it is infinite if a score is not finite."""
        for sample in data_samples:
            scores, label = sample['pred_scores'], sample['gt_label']
            if label is None:
                raise ValueError('TopKAccuracy needs the class of every image, but the data set gives none')
            # Ties count against the prediction: a model that scores all classes alike has no accuracy to show.
            rank = int((scores >= scores[int(label)]).sum()) - 1
            # A comparison with NaN is false, so that NaN alone would make the rank look like the best one.
            self.results.append(rank if bool(scores.isfinite().all()) else math.inf)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Turn ranks into percentages."""
        broken = results.count(math.inf)
        if broken:
            print_log(
                f'{broken} of {len(results)} images have scores that are NaN or infinite: they count as wrong. '
                'The model has diverged, or its forward overflows.',
                logger='current',
                level=logging.WARNING,
            )
        # The main process alone gets here: if it raised for want of images, the others would wait for it for ever.
        return {
            f'top{k}': 100 * sum(rank < k for rank in results) / len(results) if results else math.nan
            for k in self.topk
        }
