"""tools/infer.py does what its page says, on small untrained models."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO


def predictions(folder: str) -> list[dict]:
    return json.loads(Path(folder, 'predictions.json').read_text())['predictions']


def make_video(path: str, frames: int) -> None:
    video = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'mp4v'), 5, (96, 64))
    for index in range(frames):
        image = np.full((64, 96, 3), 40, dtype=np.uint8)
        image[10:40, 10 + 5 * index : 50 + 5 * index] = 200
        video.write(image)
    video.release()


def test_a_detector_says_what_test_says(tool, detector, capfd) -> None:
    config = detector[1]
    tool('test').main([config, 'det.pth', '--work-dir', 'work', '--out', 'test.pkl'])
    tool('infer').main(['data/coco/images', *detector, '--out', 'out', '--score-thr', '0'])

    assert '4 of 4 files: results are in out' in capfd.readouterr().out
    truth = COCO('out/coco_images.json')
    found = truth.loadRes('out/coco_results.json')
    names = {image['file_name']: image['id'] for image in truth.dataset['images']}
    for sample in pickle.loads(Path('test.pkl').read_bytes()):
        wanted = sample['pred_instances']
        rows = found.loadAnns(found.getAnnIds(imgIds=[names[Path(sample['img_path']).name]]))
        boxes = wanted['bboxes'].clone()
        boxes[:, 2:] -= boxes[:, :2]
        assert len(rows) == len(boxes) > 0
        torch.testing.assert_close(torch.tensor([row['bbox'] for row in rows]), boxes)
        torch.testing.assert_close(torch.tensor([row['score'] for row in rows]), wanted['scores'])
        for row, mask in zip(rows, wanted['masks'], strict=True):
            assert np.array_equal(coco_mask.decode(row['segmentation']), coco_mask.decode(mask))
    entry = predictions('out')[0]
    assert (entry['file'], entry['width'], entry['height']) == ('0.png', 96, 64)
    assert entry['objects'][0]['class'] == 'box'
    assert cv2.imread('out/overlays/0.jpg').shape == (64, 96, 3)


def test_a_segmenter_says_what_test_says(tool, segmenter) -> None:
    tool('test').main([segmenter[1], 'seg.pth', '--work-dir', 'work', '--out', 'test'])
    tool('infer').main(['data/ade/images/*.jpg', *segmenter, '--out', 'out', '--batch-size', '3'])

    for index, entry in enumerate(predictions('out')):
        labels = cv2.imread(f'out/labels/{index}.png', cv2.IMREAD_UNCHANGED)
        written = cv2.imread(f'test/{index}.png', cv2.IMREAD_UNCHANGED)
        assert np.array_equal(labels + 1, written)  # the metric writes labels as the data set has them, from 1
        assert sum(entry['classes'].values()) == pytest.approx(1, abs=1e-3)
        assert Path(f'out/overlays/{index}.jpg').is_file()
    assert index == 3


def test_the_score_threshold_is_for_people_not_for_coco(tool, detector) -> None:
    tool('infer').main(['data/coco/images/0.png', *detector, '--out', 'out', '--score-thr', '1'])

    assert predictions('out')[0]['objects'] == []
    assert len(json.loads(Path('out/coco_results.json').read_text())) > 0
    plain = cv2.imdecode(cv2.imencode('.jpg', cv2.imread('data/coco/images/0.png'))[1], cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.imread('out/overlays/0.jpg'), plain)  # nothing is drawn


@pytest.mark.parametrize('task', ['detector', 'segmenter'])
def test_slices_of_a_large_picture(tool, task, request) -> None:
    arguments = request.getfixturevalue(task)
    cv2.imwrite('large.png', np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8))

    tool('infer').main(
        [
            'large.png',
            *arguments,
            '--out',
            'out',
            '--slices',
            '96',
            '--overlap',
            '0.3',
            '--batch-size',
            '3',
            '--score-thr',
            '0',
        ]
    )

    if task == 'segmenter':
        assert cv2.imread('out/labels/large.png', cv2.IMREAD_UNCHANGED).shape == (100, 150)
        return
    found = json.loads(Path('out/coco_results.json').read_text())
    assert found
    for row in found:
        left, top, width, height = row['bbox']
        assert 0 <= left <= left + width <= 150.01
        assert 0 <= top <= top + height <= 100.01
        assert row['segmentation']['size'] == [100, 150]


@pytest.mark.parametrize('task', ['detector', 'segmenter'])
def test_a_video_gives_a_video_and_a_line_per_frame(tool, task, request) -> None:
    arguments = request.getfixturevalue(task)
    make_video('film.mp4', frames=3)

    tool('infer').main(['film.mp4', *arguments, '--out', 'out', '--batch-size', '2', '--score-thr', '0'])

    lines = [json.loads(line) for line in Path('out/film.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == [0, 1, 2]
    overlay = cv2.VideoCapture('out/overlays/film.mp4')
    frames = [overlay.read()[1].shape for _ in range(3)]
    assert frames == [(64, 96, 3)] * 3
    if task == 'detector':
        assert lines[0]['objects'][0]['segmentation']['size'] == [64, 96]
    else:
        assert len(list(Path('out/labels/film').glob('*.png'))) == 3


def test_unreadable_files_are_named_counted_and_skipped(tool, segmenter, capfd) -> None:
    Path('data/ade/images/broken.jpg').write_bytes(b'no picture')
    Path('data/ade/images/broken.mp4').write_bytes(b'no video')

    tool('infer').main(['data/ade/images', *segmenter, '--out', 'out'])

    said = capfd.readouterr().out
    assert '4 of 6 files: results are in out\n2 could not be read:\n  data/ade/images/broken.jpg: ' in said
    assert len(predictions('out')) == 4

    with pytest.raises(SystemExit) as ended:
        tool('infer').main(['data/ade/images/broken.*', *segmenter, '--out', 'out2'])
    assert ended.value.code == 1
    assert predictions('out2') == []


def test_what_training_left_behind_is_all_that_is_needed(tool, seg_config) -> None:
    tool('train').main([str(seg_config), '--work-dir', 'work'])
    picture = Path('data/ade/images/0.jpg').rename('picture.jpg')
    Path('data').rename('moved')
    seg_config.unlink()

    tool('infer').main([str(picture), '--checkpoint', 'work/iter_2.pth', '--out', 'out'])

    assert set(predictions('out')[0]['classes']) <= {'a', 'b'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--overlap', '0.3'], 'give --slices too'),
        (['--score-thr', '30'], 'want a score from 0 to 1'),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tool, capfd, arguments, message) -> None:
    with pytest.raises(SystemExit):
        tool('infer').main(['x.jpg', '--checkpoint', 'w.pth', *arguments])
    assert message in capfd.readouterr().err


def test_the_input_is_looked_for_before_the_model_is_built(tool) -> None:
    with pytest.raises(FileNotFoundError, match="'nothing/here' is neither a file nor a folder"):
        tool('infer').main(['nothing/here', '--checkpoint', 'w.pth'])
