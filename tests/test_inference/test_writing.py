import json

import cv2
import numpy as np
import pytest

from mmlocalmamba.inference.writing import JsonStream, VideoOut, write_image


@pytest.mark.parametrize(
    ('start', 'name', 'wanted'),
    [({'a': 1}, 'rows', {'a': 1, 'rows': [1, 2]}), (None, 'rows', {'rows': [1, 2]}), (None, None, [1, 2])],
)
def test_a_stream_is_valid_json_when_the_run_breaks_off(tmp_path, start, name, wanted):
    path = tmp_path / 'rows.json'

    def run() -> None:
        with JsonStream(path, start, name) as stream:
            stream.append(1)
            stream.append(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()

    assert json.loads(path.read_text()) == wanted


def test_an_empty_stream_is_valid_json(tmp_path):
    with JsonStream(tmp_path / 'rows.json'):
        pass

    assert json.loads((tmp_path / 'rows.json').read_text()) == []


def test_a_closed_stream_takes_nothing(tmp_path):
    with pytest.raises(RuntimeError, match='with statement'):
        JsonStream(tmp_path / 'rows.json').append(1)


def test_pictures_keep_their_colours(tmp_path):
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[..., 0] = 255  # red

    write_image(tmp_path / 'deep/red.png', image)

    assert cv2.imread(str(tmp_path / 'deep/red.png'))[0, 0].tolist() == [0, 0, 255]


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / 'red.png').mkdir()

    with pytest.raises(OSError, match=r'red.png could not be written'):
        write_image(tmp_path / 'red.png', np.zeros((4, 5, 3), dtype=np.uint8))


def test_videos_keep_their_frames(tmp_path):
    video = VideoOut(tmp_path / 'deep/grey.mp4', (64, 48), 5)
    for value in (40, 120, 200):
        video.append(np.full((48, 64, 3), value, dtype=np.uint8))
    video.close()

    reader = cv2.VideoCapture(str(tmp_path / 'deep/grey.mp4'))
    means = [reader.read()[1].mean() for _ in range(3)]
    assert means == pytest.approx([40, 120, 200], abs=4)
    assert not reader.read()[0]
