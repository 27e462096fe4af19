"""What a test run predicted beside what is true: the files of ``tools/test.py --out`` with the config's data set."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from mmlocalmamba.inference.classes import Color, name_classes, tested_dataset


@dataclass(frozen=True)
class Boxes:
    """Objects in a picture.

    Attributes:
        boxes: float (n, 4): left, top, right, bottom in pixels.
        labels: int (n,).
        scores: float (n,): those of predictions; ones for the truth.
        ignored: bool (n,): truth that predictions may find or not, such as crowds.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class TestedImage:
    """A picture of the test data.

    Attributes:
        path: Its file; None if the data set makes pictures up.
        truth: What is true: boxes; a label map, int (height, width), -1 where nothing is said; or a class.
        found: What the model predicts: boxes; a label map; or the scores of the classes, float (classes,).
    """

    __test__ = False  # for pytest: no test, in spite of its name

    path: str | None
    truth: Any
    found: Any


class TestResults:
    """The pictures of a test run, with the truth; iterate over them as often as needed.

    Args:
        cfg: The config that was tested.
        predictions: What ``tools/test.py --out`` wrote: a pickle file, or a segmenter's folder of PNG files. Unpickling
            runs code that a file brings: read files of your own only.

    Attributes:
        task: ``'detection'``, ``'segmentation'`` or ``'classification'``.
        classes: Name of each class.
        palette: Colour of each class: red, green, blue from 0 to 255.

    Raises:
        FileNotFoundError: If there are no predictions.
        ValueError: If they are not those of this data set.
    """

    __test__ = False

    def __init__(self, cfg: Config, predictions: str | Path) -> None:
        self.path = Path(predictions)
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        settings = tested_dataset(cfg)
        self._pipeline: Sequence[Any] = settings.get('pipeline') or ()
        self._dataset: Any = DATASETS.build(settings)
        self._samples: Any = None
        if self.path.is_dir():
            self.task = 'segmentation'
        elif self.path.is_file():
            self._samples = pickle.loads(self.path.read_bytes())
            self.task = self._task_of_samples()
        else:
            raise FileNotFoundError(f'there are no predictions {predictions}: tools/test.py --out writes them')
        meta = {'dataset_meta': self._dataset.metainfo}
        scores = self._samples[0]['pred_scores'] if self.task == 'classification' else None
        self.classes, self.palette = name_classes(cfg, meta, None if scores is None else len(scores))

    def __iter__(self) -> Iterator[TestedImage]:
        read = {'detection': self._boxes, 'segmentation': self._label_maps, 'classification': self._scores}
        return read[self.task]()

    def _task_of_samples(self) -> str:
        count, images = len(self._samples), len(self._dataset)
        if count != images or not count:
            raise ValueError(f'{self.path} holds predictions of {count} images, but the test data are {images} images')
        for key, task in (('pred_instances', 'detection'), ('pred_scores', 'classification')):
            if key in self._samples[0]:
                return task
        raise ValueError(f'{self.path} holds neither boxes nor scores, but {", ".join(self._samples[0])}')

    def _boxes(self) -> Iterator[TestedImage]:
        by_id = {sample['img_id']: sample for sample in self._samples}
        for index in range(len(self._dataset)):
            info = self._dataset.get_data_info(index)
            if info['img_id'] not in by_id:
                raise ValueError(f'{self.path} holds no predictions of image {info["img_id"]}, {info["img_path"]}')
            found = by_id[info['img_id']]['pred_instances']
            instances = info['instances']
            truth = Boxes(
                np.array([instance['bbox'] for instance in instances], dtype=float).reshape(-1, 4),
                np.array([instance['bbox_label'] for instance in instances], dtype=int),
                np.ones(len(instances)),
                np.array([bool(instance.get('ignore_flag')) for instance in instances], dtype=bool),
            )
            boxes, labels, scores = (np.asarray(found[name]) for name in ('bboxes', 'labels', 'scores'))
            predicted = Boxes(boxes.astype(float), labels, scores, np.zeros(len(labels), dtype=bool))
            yield TestedImage(info['img_path'], truth, predicted)

    def _label_maps(self) -> Iterator[TestedImage]:
        loads = [transform for transform in self._pipeline if 'LoadAnnotations' in str(transform['type'])]
        if not loads:
            raise ValueError('the test pipeline has no LoadAnnotations: it says how label maps are read')
        load = TRANSFORMS.build(loads[0])
        for index in range(len(self._dataset)):
            info = load(self._dataset.get_data_info(index))
            path = self.path / f'{Path(info["img_path"]).stem}.png'
            stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if stored is None:
                raise ValueError(f'there is no label map {path} of {info["img_path"]}: is this the folder of --out?')
            truth = info['gt_seg_map'].astype(int)
            if stored.shape != truth.shape:
                raise ValueError(f'{path} is of size {stored.shape}, but the true label map of size {truth.shape}')
            truth[truth == self._dataset.ignore_index] = -1
            # The metric writes labels as the files of the data set have them.
            found = stored.astype(int) - int(bool(info.get('reduce_zero_label')))
            yield TestedImage(info['img_path'], truth, found)

    def _scores(self) -> Iterator[TestedImage]:
        for index, sample in enumerate(self._samples):  # in the order of the data set
            info = self._dataset.get_data_info(index) if hasattr(self._dataset, 'get_data_info') else {}
            label = int(sample['gt_label'])
            if info.get('gt_label', label) != label:
                raise ValueError(
                    f'image {index} is of class {label} in {self.path}, but of class {info["gt_label"]} in the data '
                    'set: the test run saw other data, or in another order'
                )
            yield TestedImage(info.get('img_path'), label, np.asarray(sample['pred_scores'], dtype=float))


def color_of(palette: Sequence[Color], label: int) -> tuple[float, float, float]:
    """Give a class's colour as matplotlib takes it: red, green and blue from 0 to 1."""
    red, green, blue = palette[label]
    return red / 255, green / 255, blue / 255
