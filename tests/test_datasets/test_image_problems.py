import os
import re

import pytest

from mmlocalmamba.datasets.image_problems import (
    absence_problem,
    bits_per_channel,
    decoding_problem,
    image_problem,
    may_be_cut_off,
)

from .bad_files import BAD, JPEG, ODD, PNG, PROBLEMS, write


@pytest.mark.parametrize('name', BAD)
def test_a_bad_file_is_described(name, tmp_path):
    write(tmp_path, BAD)
    assert re.match(PROBLEMS[name], image_problem(tmp_path / name))


@pytest.mark.parametrize('name', ODD)
def test_a_good_file_that_looks_odd_has_no_problem(name, tmp_path):
    write(tmp_path, ODD)
    assert image_problem(tmp_path / name) is None
    assert not may_be_cut_off(ODD[name])


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / 'link.jpg').symlink_to('gone.jpg')
    assert absence_problem(tmp_path / 'link.jpg') == 'is a broken link'
    assert absence_problem(tmp_path) == 'is a folder'
    (tmp_path / 'file').write_text('')
    assert 'cannot be opened' in absence_problem(tmp_path / 'file/1.jpg')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read_is_told(tmp_path):
    write(tmp_path, {'secret.jpg': JPEG})
    (tmp_path / 'secret.jpg').chmod(0)
    assert image_problem(tmp_path / 'secret.jpg') == 'cannot be read: Permission denied'


@pytest.mark.parametrize('data', [JPEG, PNG], ids=['JPEG', 'PNG'])
def test_an_end_that_is_missing_is_suspected_wherever_it_starts(data):
    for part in range(1, 10):
        cut = data[: len(data) * part // 10]
        assert may_be_cut_off(cut) or decoding_problem(cut) is not None
    assert may_be_cut_off(data[:-20])


def test_bits_per_channel_are_read():
    assert bits_per_channel(ODD['16_bits.png']) == bits_per_channel(ODD['16_bits.tif']) == 16
    assert bits_per_channel(JPEG) == bits_per_channel(PNG) == bits_per_channel(b'') == 8
