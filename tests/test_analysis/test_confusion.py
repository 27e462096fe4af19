import numpy as np
import pytest

from mmlocalmamba.analysis.confusion import confusion_matrix, iou, match_boxes, pixel_confusion
from mmlocalmamba.analysis.plot_confusion import plot_confusion
from mmlocalmamba.analysis.saved_results import Boxes, TestedImage
from mmlocalmamba.analysis.worst_images import rank_images


class Results(list):
    """A test run, made up."""

    def __init__(self, task, classes, images):
        super().__init__(images)
        self.task, self.classes = task, classes


def boxes(*rows):
    """Boxes out of rows of left, top, right, bottom, label, and score (default: 1)."""
    table = np.array([(*row, 1.0)[:6] for row in rows], dtype=float).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(int), table[:, 5], np.zeros(len(table), dtype=bool))


def test_iou_of_boxes():
    found = iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]]))
    np.testing.assert_allclose(found, [[1, 1 / 3, 0, 0]])


def test_the_surest_box_gets_the_object_and_the_second_is_false():
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1), (50, 50, 60, 60, 1))
    found = boxes((0, 0, 10, 9, 0, 0.6), (0, 0, 9, 9, 0, 0.9), (20, 0, 30, 10, 0, 0.8), (50, 50, 60, 60, 1, 0.2))

    pairs, missed, false = match_boxes(truth, found, score_thr=0.3, iou_thr=0.5)

    assert pairs.tolist() == [[0, 1], [1, 2]]
    assert missed.tolist() == [2], 'its only box is not sure enough'
    assert false.tolist() == [0]
    matrix = confusion_matrix(Results('detection', 'ab', [TestedImage('x', truth, found)]))
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0]]


def test_ignored_objects_are_neither_missed_nor_make_boxes_false():
    crowd = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 0))
    crowd.ignored[:] = True
    pairs, missed, false = match_boxes(crowd, boxes((0, 0, 10, 10, 0)), 0.3, 0.5)
    assert len(pairs) == len(missed) == len(false) == 0


def test_images_without_objects_or_boxes_count_too():
    some = boxes((0, 0, 10, 10, 1))
    images = [TestedImage('a', boxes(), some), TestedImage('b', some, boxes()), TestedImage('c', boxes(), boxes())]
    assert confusion_matrix(Results('detection', 'ab', images)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_pixels_without_a_class_do_not_count():
    truth, found = np.array([[0, 1, -1], [1, 1, 0]]), np.array([[0, 0, 1], [1, 1, 1]])
    assert pixel_confusion(truth, found, 2).tolist() == [[1, 1], [1, 2]]
    with pytest.raises(ValueError, match='predicted labels go from 0 to 1, but there are 1 classes'):
        pixel_confusion(np.zeros((2, 3), int), found, 1)


def test_images_of_a_classifier():
    images = [TestedImage(None, 0, np.array([0.9, 0.1])), TestedImage(None, 1, np.array([0.6, 0.4]))]
    assert confusion_matrix(Results('classification', 'ab', images)).tolist() == [[1, 0], [1, 0]]


def test_the_figure_shows_percent_of_each_row():
    figure = plot_confusion(np.array([[999, 1], [0, 0]]), ['cat', 'dog'], 'caption')
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ['100', '<1']
    assert [text.get_text() for text in axes.get_yticklabels()] == ['cat (1,000)', 'dog (0)']
    np.testing.assert_allclose(axes.images[0].get_array(), [[99.9, 0.1], [0, 0]])


def test_the_worst_images_come_first():
    one = boxes((0, 0, 10, 10, 0))
    images = [
        TestedImage('perfect', one, one),
        TestedImage('empty', boxes(), boxes()),
        TestedImage('missed', one, boxes()),
        TestedImage('false too', one, boxes((0, 0, 10, 10, 0, 0.9), (20, 0, 30, 10, 0, 0.9))),
        TestedImage('missed and false', one, boxes((20, 0, 30, 10, 0, 0.9))),
        TestedImage('other class', one, boxes((0, 0, 10, 10, 1, 0.9))),
    ]
    worst = rank_images(Results('detection', 'ab', images), 4)
    assert {(ranked.image.path, round(ranked.quality, 3), ranked.errors) for ranked in worst} == {
        ('missed and false', 0, 2),
        ('other class', 0, 2),
        ('missed', 0, 1),
        ('false too', 0.667, 1),
    }
    assert [ranked.errors for ranked in worst] == [2, 2, 1, 1]


def test_label_maps_are_ranked_by_their_mean_iou():
    truth = np.array([[0, 0, 1, -1]])
    images = [
        TestedImage(name, truth, np.array([labels])) for name, labels in (('good', [0, 0, 1, 1]), ('bad', [0, 1, 1, 1]))
    ]
    (worst,) = rank_images(Results('segmentation', 'abc', images), 1)
    assert worst == (0.5, 1, images[1])
