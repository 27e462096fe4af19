"""The tools in tools/analysis that draw, once each, on small untrained models."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

CLASSIFIER = """
default_scope = 'mmengine'
model = dict(
    type='mmlocalmamba.ImageClassifier',
    data_preprocessor=dict(type='mmlocalmamba.ClassificationDataPreprocessor', num_classes=2),
    backbone=dict(type='mmlocalmamba.LocalVim', arch='micro', img_size=32, patch_size=8, out_indices=(1, 3),
        out_type='residual', out_norm=False),
    head=dict(type='mmlocalmamba.ClassificationHead', in_channels=64, num_classes=2),
)
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmlocalmamba.ImageFolder',
        data_root='images',
        metainfo=dict(classes=('cat', 'dog')),
        test_mode=True,
        pipeline=[dict(type='mmlocalmamba.TimmTransform', input_size=32, is_training=False)],
    ),
)
test_evaluator = dict(type='mmlocalmamba.TopKAccuracy', topk=(1,))
test_cfg = dict(type='TestLoop')
"""


@pytest.fixture
def classifier(model_state) -> list[str]:
    """Two classes of two images, a config and a checkpoint; returns the arguments that name the model."""
    for name in ('cat', 'dog'):
        Path('images', name).mkdir(parents=True)
        for index in range(2):
            pixels = np.random.randint(0, 256, (40, 50, 3), dtype=np.uint8)
            cv2.imwrite(f'images/{name}/{name}{index}.png', pixels)
    Path('classifier.py').write_text(CLASSIFIER)
    torch.manual_seed(0)
    torch.save({'state_dict': model_state(Path('classifier.py'))}, 'c.pth')
    return ['--config', 'classifier.py', '--checkpoint', 'c.pth', '--device', 'cpu']


@pytest.fixture
def figures(tool, monkeypatch):
    """Run a tool; returns the figures that it saved, as PNG and SVG."""

    def run(name: str, *arguments: str) -> list:
        module = tool(f'analysis/{name}')
        saved = []
        save = module.save_figure
        monkeypatch.setattr(module, 'save_figure', lambda figure, *rest: (saved.append(figure), save(figure, *rest)))
        module.main([*arguments, '--out', 'out.png', 'out.svg'])
        assert cv2.imread('out.png') is not None
        assert '</svg>' in Path('out.svg').read_text()
        return saved

    return run


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_scan_paths(figures):
    cv2.imwrite('photo.png', np.zeros((40, 60, 3), dtype=np.uint8))
    arguments = ['--directions', 'w3', 'v_flip', '--grid', '4', '6']
    (over,) = figures('plot_scan_paths', 'photo.png', *arguments)
    (white,) = figures('plot_scan_paths', *arguments)
    assert titles(over) == titles(white) == ['w3', 'v_flip']
    assert over.axes[0].images[0].get_array().shape == (40, 60, 3)
    assert not white.axes[0].images


def test_receptive_fields(figures):
    (figure,) = figures('plot_erf', 'local_vmamba_micro', '--side', '32', '--max-images', '1', '--layers', '0', '2.0')
    assert titles(figure) == ['layer 0', 'layer 2.0']
    assert figure.axes[0].get_ylabel() == 'local_vmamba_micro\nrandom weights'
    assert figure.axes[1].images[0].get_array().shape == (32, 32)


def test_receptive_fields_of_pictures(figures, classifier):
    (figure,) = figures(
        'plot_erf', 'vim_micro', '--side', '32', '--images', 'images', '--layers', '0', '--labels', 'Vim'
    )
    assert figure.get_suptitle() == 'Mean |d middle / d image| over 4 pictures, 32 x 32 pixels'
    assert figure.axes[0].get_ylabel() == 'Vim'


def test_gates(figures, classifier):
    (figure,) = figures('plot_gates', 'images', *classifier)
    table = figure.axes[0].images[0].get_array()
    assert figure.get_suptitle() == 'Mean gate of SCAttn over 4 pictures'
    assert len(table) == 4
    assert all(0 < value < 1 for value in table.compressed())
    assert (~table.mask).sum() == len(figure.axes[0].texts) == 16


def test_activation_maps_of_a_classifier(figures, classifier):
    (figure,) = figures('plot_cam', 'images/cat', *classifier, '--class-name', 'dog')
    assert titles(figure) == ['prediction', 'output 0', 'output 1']
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()][:2] == ['dog', 'dog']
    heat = figure.axes[2].images[1].get_array()
    assert heat.shape == (32, 32)
    assert heat.max() == 1


@pytest.mark.parametrize(
    ('task', 'folder', 'name'),
    [pytest.param('detector', 'coco', 'box', marks=pytest.mark.slow), ('segmenter', 'ade', None)],
)
def test_activation_maps_of_detectors_and_segmenters(figures, request, task, folder, name):
    arguments = request.getfixturevalue(task)
    limits = ['--max-images', '1', '--score-thr', '0', '--outputs', '1', '3']
    (figure,) = figures('plot_cam', f'data/{folder}/images', *arguments, *limits)
    assert titles(figure) == ['prediction', 'output 1', 'output 3']
    assert figure.axes[0].get_ylabel() == name or name is None
    heats = [axes.images[1].get_array() for axes in figure.axes[1:3]]
    assert {heat.shape for heat in heats} == {(64, 96)}
    assert max(heat.max() for heat in heats) == 1


def test_a_class_that_is_not_found_or_not_known_is_said(tool, detector, capsys):
    main = tool('analysis/plot_cam').main
    with pytest.raises(ValueError, match='data/coco/images: there is nothing to draw'):
        main(['data/coco/images', *detector, '--score-thr', '1'])
    assert capsys.readouterr().out.count('is left out: the model finds no object with a score of at least 1.0') == 4
    with pytest.raises(ValueError, match='--class-name cat: the model knows box'):
        main(['data/coco/images', *detector, '--class-name', 'cat'])


def test_confusion_and_worst_images_of_a_classifier(tool, figures, classifier, capsys):
    tool('test').main(['classifier.py', 'c.pth', '--work-dir', 'work', '--out', 'test.pkl'])
    (matrix,) = figures('plot_confusion', 'classifier.py', 'test.pkl')
    (sheet,) = figures('worst_images', 'classifier.py', 'test.pkl', '--count', '3')
    rows = [label.get_text() for label in matrix.axes[0].get_yticklabels()]
    assert rows == ['cat (2)', 'dog (2)']
    top1 = metrics()['accuracy/top1']
    assert np.trace(matrix.axes[0].images[0].get_array()) / 2 == pytest.approx(top1)
    assert len(titles_of_sheet(sheet)) == 3
    listed = [
        float(line.split()[0]) for line in capsys.readouterr().out.splitlines() if line.endswith('g') and ' ' in line
    ]
    assert listed == sorted(listed)


def test_confusion_and_worst_images_of_a_segmenter(tool, figures, segmenter):
    tool('test').main([segmenter[1], 'seg.pth', '--work-dir', 'work', '--out', 'test'])
    (matrix,) = figures('plot_confusion', segmenter[1], 'test')
    (sheet,) = figures('worst_images', segmenter[1], 'test', '--count', '2')
    shares = matrix.axes[0].images[0].get_array()
    assert np.trace(shares) / 2 == pytest.approx(metrics()['mAcc'], abs=0.01)
    assert [label.get_text() for label in matrix.axes[0].get_yticklabels()] == ['a (19,776)', 'b (4,800)']
    assert len(titles_of_sheet(sheet)) == 4
    assert [text.get_text() for text in sheet.legends[0].get_texts()] == ['a', 'b']


@pytest.mark.slow
def test_confusion_and_worst_images_of_a_detector(tool, figures, detector):
    tool('test').main([detector[1], 'det.pth', '--work-dir', 'work', '--out', 'test.pkl'])
    (matrix,) = figures('plot_confusion', detector[1], 'test.pkl', '--score-thr', '0')
    (sheet,) = figures('worst_images', detector[1], 'test.pkl', '--score-thr', '0')
    labels = [label.get_text() for label in matrix.axes[0].get_yticklabels()]
    assert labels[0] == 'box (4)'
    assert labels[1].startswith('(nothing) (')
    assert len(titles_of_sheet(sheet)) == 8
    assert len(sheet.axes[0].patches) == 2, 'the one true box, with a white rim'


def test_predictions_of_other_data_are_refused(tool, classifier):
    tool('test').main(['classifier.py', 'c.pth', '--work-dir', 'work', '--out', 'test.pkl'])
    Path('images/cat/cat0.png').unlink()
    with pytest.raises(ValueError, match='holds predictions of 4 images, but the test data are 3 images'):
        tool('analysis/plot_confusion').main(['classifier.py', 'test.pkl'])
    with pytest.raises(FileNotFoundError, match='there are no predictions none.pkl'):
        tool('analysis/worst_images').main(['classifier.py', 'none.pkl'])


def test_curves_and_alpha(figures):
    for name in ('a', 'b'):
        folder = Path('runs', name, '1', 'vis_data')
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(json.dumps(dict(loss=1.0, lr=0.1, iter=5, step=5)) + '\n')
    record = dict(iter=0, epoch=0, probabilities=[dict(h=0.25, v=0.75)])
    Path('runs/b/directions_log.jsonl').write_text(json.dumps(record) + '\n')

    curves, alpha = figures('plot_curves', 'runs/a', 'runs/b')

    assert titles(curves) == ['loss', 'lr']
    assert [line.get_ydata()[0] for line in alpha.axes[0].get_lines()] == [0.25, 0.75]
    assert {'out.png', 'out.svg', 'out_alpha_b.png', 'out_alpha_b.svg'} <= set(os.listdir())


def titles_of_sheet(figure) -> list[str]:
    return [axes.get_title(loc='left') for axes in figure.axes if axes.get_title(loc='left')]


def metrics() -> dict[str, float]:
    """Read the metrics that the test run logged."""
    (path,) = Path('work').glob('*/*.json')
    return json.loads(path.read_text())
