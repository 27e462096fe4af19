import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmlocalmamba.engine.data_check.run_lengths import list_problem, string_problems


def encode(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask))['counts'].decode()


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1)), max_size=8))
def test_what_pycocotools_writes_is_whole_and_a_pixel_more_is_not(masks) -> None:
    drawn = [np.random.default_rng(seed).integers(0, 2, (h, w), dtype=np.uint8) for h, w, seed in masks]
    strings, pixels = [encode(mask) for mask in drawn], [mask.size for mask in drawn]
    assert string_problems(strings, pixels) == [None] * len(drawn)
    assert all('covers' in str(problem) for problem in string_problems(strings, [count + 1 for count in pixels]))


def test_long_runs_are_whole() -> None:
    assert string_problems([encode(np.zeros((4000, 5000), np.uint8))], [20_000_000]) == [None]


@pytest.mark.parametrize('text', ['', 'o', 'z', 'é', '5oo', 'oooooooo0'])
def test_strings_of_another_code_are_named(text) -> None:
    assert string_problems(['9', text], [9, 9]) == [None, 'has counts that are no compressed run lengths']


def test_counts_below_zero_are_named() -> None:
    assert string_problems(['O'], [5]) == ['has a count below 0']
    assert list_problem([5, -5, 9], 9) == 'has counts that are no whole numbers of 0 and more'


def test_lists_must_cover_the_image() -> None:
    assert list_problem([4, 5], 9) is None
    assert list_problem([4, 4], 9) == 'covers 8 pixels, but its image has 9'
