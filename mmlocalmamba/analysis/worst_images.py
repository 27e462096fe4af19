"""The images that a test run got most wrong, and a sheet of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mmlocalmamba.datasets.image_folder import read_rgb

from .confusion import match_boxes, pixel_confusion
from .saved_results import Boxes, TestedImage, TestResults, color_of

QUALITY = {'detection': 'F1', 'segmentation': 'mIoU', 'classification': 'score of the true class'}
"""What images are ranked by, from 0 to 1."""

_INCHES = 2.5
_COLUMNS = 4
_OPACITY = 0.6
_LEGEND_INCHES = 1.3
_TITLE_INCHES = 0.3


class RankedImage(NamedTuple):
    """An image with how well it was predicted.

    Attributes:
        quality: See :func:`rank_images`.
        errors: Number of errors, by which images of one quality are ranked: wrong boxes, pixels, or 1 and 0.
        image: Its truth and prediction.
    """

    quality: float
    errors: int
    image: TestedImage


def rank_images(results: TestResults, count: int, score_thr: float = 0.3, iou_thr: float = 0.5) -> list[RankedImage]:
    """Find the worst images of a test run.

    The quality of an image is

    - detector: F1, twice the objects that were found divided by objects plus boxes. An object is found by a box of its
      class with an IoU of at least ``iou_thr``. Images without objects and boxes are perfect.
    - segmenter: the mean IoU of the classes that are in the image or in its prediction.
    - classifier: the score of the true class.

    Args:
        results: Of the test run.
        count: How many at most.
        score_thr: For detectors: boxes with lower scores do not count.
        iou_thr: For detectors.

    Returns:
        The worst first.

    Raises:
        ValueError: If ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f'want at least one image, not {count}')
    worst: list[RankedImage] = []
    for image in results:
        quality, errors = _quality(image, results, score_thr, iou_thr)
        worst.append(RankedImage(quality, errors, image))
        # Label maps are large: those that will not be shown must not pile up.
        worst = sorted(worst, key=lambda ranked: (ranked.quality, -ranked.errors))[:count]
    return worst


def _quality(image: TestedImage, results: TestResults, score_thr: float, iou_thr: float) -> tuple[float, int]:
    truth, found = image.truth, image.found
    if results.task == 'classification':
        return float(found[truth]), int(found.argmax() != truth)
    if results.task == 'segmentation':
        counts = pixel_confusion(truth, found, len(results.classes))
        right = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - right
        present = union > 0
        quality = float((right[present] / union[present]).mean()) if present.any() else 1.0
        return quality, int(counts.sum() - right.sum())
    pairs, missed, false = match_boxes(truth, found, score_thr, iou_thr)
    hits = int((truth.labels[pairs[:, 0]] == found.labels[pairs[:, 1]]).sum())
    everything = 2 * len(pairs) + len(missed) + len(false)
    return 2 * hits / everything if everything else 1.0, everything - 2 * hits


def plot_worst_images(
    worst: Sequence[RankedImage], results: TestResults, caption: str, score_thr: float = 0.3
) -> Figure:
    """Draw a sheet of images: truth and prediction side by side; of a classifier, one panel with both names.

    Args:
        worst: From :func:`rank_images`.
        results: Of the test run.
        caption: A line above the sheet.
        score_thr: For detectors: boxes with lower scores are not drawn.

    Returns:
        The figure. The caller saves it with ``savefig``.

    Raises:
        ValueError: If there is no image, or the images have no files.
    """
    if not worst:
        raise ValueError('there is nothing to draw: the test run has no images')
    if any(ranked.image.path is None for ranked in worst):
        raise ValueError('this data set makes its images up: there are no files to draw')
    panels_each = 1 if results.task == 'classification' else 2
    across = min(panels_each * len(worst), _COLUMNS)
    down = -(-panels_each * len(worst) // across)
    pictures = [np.asarray(read_rgb(str(ranked.image.path))) for ranked in worst]
    aspects = [picture.shape[0] / picture.shape[1] for picture in pictures for _ in range(panels_each)]
    heights = [_INCHES * max(aspects[row * across : (row + 1) * across]) + _TITLE_INCHES for row in range(down)]
    figure = Figure(figsize=(_INCHES * across, sum(heights) + 0.7), layout='constrained')
    panels = figure.subplots(down, across, squeeze=False, gridspec_kw={'height_ratios': heights}).flatten()
    for axes in panels:
        axes.axis('off')
        axes.set_anchor('N')
    for index, (ranked, picture) in enumerate(zip(worst, pictures, strict=True)):
        name = f'{index + 1}. {str(ranked.image.path).rsplit("/", 1)[-1]}'
        own = panels[panels_each * index : panels_each * (index + 1)]
        for axes in own:
            axes.imshow(picture)
        _DRAW[results.task](own, ranked, results, name, score_thr)
    figure.suptitle(caption, fontsize=10)
    if results.task != 'classification':
        handles = [
            Patch(color=color_of(results.palette, i), label=name) for i, name in _shown(worst, results, score_thr)
        ]
        figure.legend(
            handles=handles, loc='outside lower center', ncols=min(len(handles), 7), frameon=False, fontsize=8
        )
    return figure


def _draw_boxes(own: Any, ranked: RankedImage, results: TestResults, name: str, score_thr: float) -> None:
    left, right = own
    left.set_title(f'{name}: truth', fontsize=8, loc='left')
    right.set_title(f'predicted, F1 {ranked.quality:.2f}', fontsize=8, loc='left')
    for axes, boxes in ((left, ranked.image.truth), (right, _sure(ranked.image.found, score_thr))):
        for box, label in zip(boxes.boxes, boxes.labels, strict=True):
            x0, y0, x1, y1 = box
            color = color_of(results.palette, label)
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor='white', linewidth=3))
            axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.8))


def _draw_label_maps(own: Any, ranked: RankedImage, results: TestResults, name: str, score_thr: float) -> None:
    left, right = own
    left.set_title(f'{name}: truth', fontsize=8, loc='left')
    right.set_title(f'predicted, mIoU {ranked.quality:.2f}', fontsize=8, loc='left')
    colors = np.array([*results.palette, (0, 0, 0)]) / 255  # the last is -1's: no class
    for axes, labels in ((left, ranked.image.truth), (right, ranked.image.found)):
        axes.imshow(colors[labels], alpha=_OPACITY)


def _draw_classes(own: Any, ranked: RankedImage, results: TestResults, name: str, score_thr: float) -> None:
    found = ranked.image.found
    taken, truth = results.classes[found.argmax()], results.classes[ranked.image.truth]
    text = f'{name}\ntruth {truth} ({ranked.quality:.2f})\npredicted {taken} ({found.max():.2f})'
    own[0].set_title(text, fontsize=8, loc='left')


_DRAW = {'detection': _draw_boxes, 'segmentation': _draw_label_maps, 'classification': _draw_classes}


def _sure(found: Boxes, score_thr: float) -> Boxes:
    sure = found.scores >= score_thr
    return Boxes(found.boxes[sure], found.labels[sure], found.scores[sure], found.ignored[sure])


def _shown(worst: Sequence[RankedImage], results: TestResults, score_thr: float) -> list[tuple[int, str]]:
    """Give the numbers and names of the classes on the sheet."""
    labels: set[int] = set()
    for ranked in worst:
        truth, found = ranked.image.truth, ranked.image.found
        if results.task == 'detection':
            labels |= {*truth.labels.tolist(), *_sure(found, score_thr).labels.tolist()}
        else:
            labels |= {*np.unique(truth[truth >= 0]).tolist(), *np.unique(found).tolist()}
    return [(label, results.classes[label]) for label in sorted(labels)]
