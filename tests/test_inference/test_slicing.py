import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmlocalmamba.inference.results import Detections, LabelMap
from mmlocalmamba.inference.slicing import Slices, Window, merge_detections, stitch_label_maps


def detections(*rows: tuple, masks: list | None = None) -> Detections:
    """Rows of left, top, right, bottom, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long(), None if masks is None else tuple(masks))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(20, 200), st.floats(0, 0.7))
def test_slices_cover_every_pixel_and_none_juts_out(width, height, side, overlap):
    seen = np.zeros((height, width), dtype=bool)
    windows = Slices(side, overlap).windows(width, height)
    for left, top, right, bottom in windows:
        assert (right - left, bottom - top) == (min(side, width), min(side, height))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()
    assert len(set(windows)) == len(windows)


def test_neighbours_share_what_was_asked_for():
    assert [window.left for window in Slices(100, 0.2).windows(260, 50)] == [0, 80, 160]


@pytest.mark.parametrize(('side', 'overlap'), [(0, 0.2), (640, 1.0), (640, -0.1)])
def test_slices_out_of_range_are_refused(side, overlap):
    with pytest.raises(ValueError, match=f'got {side} and {overlap}'):
        Slices(side, overlap)


def test_an_object_that_two_slices_see_whole_is_found_once():
    windows = Slices(100, 0.5).windows(150, 100)
    parts = [detections((60, 10, 90, 40, 0.9, 0)), detections((11, 10, 41, 40, 0.8, 0))]

    merged = merge_detections(parts, windows, (150, 100))

    assert merged.boxes.tolist() == [[60, 10, 90, 40]]
    assert merged.scores.tolist() == pytest.approx([0.9])


def test_the_cut_half_of_an_object_gives_way_to_the_whole():
    windows = [*Slices(100, 0.0).windows(200, 100), Window(0, 0, 200, 100)]
    whole = (70, 10, 160, 60, 0.7, 0)
    parts = [detections((70, 10, 100, 60, 0.9, 0)), detections((0, 10, 60, 60, 0.8, 0)), detections(whole)]

    merged = merge_detections(parts, windows, (200, 100))

    assert merged.boxes.tolist() == [list(whole[:4])]


def test_a_cut_half_stays_without_a_whole_one_of_its_class_and_a_like_score():
    windows = [*Slices(100, 0.0).windows(200, 100), Window(0, 0, 200, 100)]
    half = detections((70, 10, 100, 60, 0.9, 0))
    none = detections()

    for rival in [(70, 10, 160, 60, 0.7, 1), (70, 10, 160, 60, 0.4, 0)]:
        merged = merge_detections([half, none, detections(rival)], windows, (200, 100))
        assert len(merged) == 2


def test_a_small_object_on_a_large_one_stays():
    """Neither is cut: only boxes that a slice's edge cuts may be parts."""
    window = Window(0, 0, 100, 100)
    part = detections((5, 5, 90, 90, 0.9, 0), (30, 30, 50, 50, 0.6, 0))

    assert len(merge_detections([part], [window], (100, 100))) == 2


def test_masks_move_with_their_boxes():
    windows = Slices(40, 0.0).windows(80, 40)
    mask = np.zeros((40, 40), dtype=np.uint8, order='F')
    mask[10:20, 5:15] = 1
    encoded = [coco_mask.encode(mask)]
    parts = [detections(masks=[]), detections((5, 10, 15, 20, 0.9, 0), masks=encoded)]

    merged = merge_detections(parts, windows, (80, 40))

    wanted = np.zeros((40, 80), dtype=np.uint8)
    wanted[10:20, 45:55] = 1
    assert merged.boxes.tolist() == [[45, 10, 55, 20]]
    assert np.array_equal(coco_mask.decode(merged.masks[0]), wanted)


def test_nothing_found_anywhere_is_no_error():
    windows = Slices(40, 0.0).windows(80, 40)

    assert len(merge_detections([detections(), detections()], windows, (80, 40))) == 0


@pytest.mark.parametrize('size', [(130, 75), (40, 40), (97, 200)])
def test_label_maps_of_slices_make_the_whole_one(size):
    whole = np.random.randint(0, 9, (size[1], size[0]), dtype=np.uint8)
    windows = Slices(40, 0.3).windows(*size)
    parts = [LabelMap(whole[top:bottom, left:right]) for left, top, right, bottom in windows]

    assert np.array_equal(stitch_label_maps(parts, windows, size).labels, whole)


def test_the_seam_is_in_the_middle_of_the_overlap():
    windows = Slices(40, 0.5).windows(60, 40)
    parts = [LabelMap(np.full((40, 40), value, dtype=np.uint8)) for value in (1, 2)]

    assert stitch_label_maps(parts, windows, (60, 40)).labels[0].tolist() == [1] * 30 + [2] * 30
