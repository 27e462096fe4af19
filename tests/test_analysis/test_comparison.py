import subprocess
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.fileio import dump

import mmlocalmamba  # noqa: F401  before mmdet
from mmlocalmamba.analysis import comparison, measuring
from mmlocalmamba.analysis.comparison import Row, Setup, compare, papers_metrics, peak_memory, read_configs
from mmlocalmamba.analysis.flops import count_config, total
from mmlocalmamba.analysis.plot_comparison import plot_comparison

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / 'configs/demo/mask_rcnn_localvmamba_micro_shapes.py'
SEGMENTER = ROOT / 'configs/demo/upernet_localvmamba_micro_shapes.py'
SETUP = Setup(64, 96, runs=1, threads=1)


@pytest.fixture
def configs(tmp_path):
    """A detector, the same with another schedule, and a larger one."""
    changes = {
        'longer': 'train_cfg = dict(max_epochs=77)',
        'larger': 'model = dict(roi_head=dict(mask_head=dict(num_convs=3)))',
    }
    for name, change in changes.items():
        (tmp_path / f'{name}.py').write_text(f'_base_ = [{str(DETECTOR)!r}]\n{change}\n')
    return [str(DETECTOR), *(str(tmp_path / f'{name}.py') for name in changes)]


@pytest.fixture
def index(tmp_path):
    """A model index that knows the result of one of the configs."""
    entry = {'Name': 'larger', 'Results': [{'Metrics': {'box AP': 30.0}}]}
    dump({'Models': [entry]}, tmp_path / 'metafile.yml')
    dump({'Import': ['metafile.yml']}, tmp_path / 'model-index.yml')
    return tmp_path / 'model-index.yml'


def test_every_config_has_its_row_and_equal_models_are_measured_once(configs, index, monkeypatch):
    asked = []
    monkeypatch.setattr(comparison, 'peak_memory', lambda config, setup: asked.append(Path(config).stem) or 5)
    said = []
    rows = compare(read_configs(configs), SETUP, index, said.append)
    assert [row.name for row in rows] == ['mask_rcnn_localvmamba_micro_shapes', 'longer', 'larger']
    assert asked == ['mask_rcnn_localvmamba_micro_shapes', 'larger']
    assert said[0] == 'counting 2 models'
    assert rows[0].images_per_second == rows[1].images_per_second > 0
    assert rows[0].images_per_second != rows[2].images_per_second
    for row, path in zip(rows, configs, strict=True):
        cost = total(count_config(Config.fromfile(path), 64, 96))
        assert (row.params, row.flops, row.published_flops) == (cost.params, cost.flops, cost.published_flops)
    assert [row.published for row in rows] == [{}, {}, {'box AP': 30.0}]


def test_comparing_changes_no_config(configs, index, monkeypatch):
    monkeypatch.setattr(comparison, 'peak_memory', lambda config, setup: None)
    cfgs = read_configs(configs)
    before = [cfg.to_dict() for cfg in cfgs]
    compare(cfgs, SETUP, index, lambda text: None)
    assert [cfg.to_dict() for cfg in cfgs] == before


def test_models_of_different_data_are_refused():
    with pytest.raises(ValueError, match='only models of one data set .* CocoDataset in data/shapes/, but'):
        read_configs([str(DETECTOR), str(SEGMENTER)])


def test_a_process_that_fails_is_an_error(monkeypatch):
    failed = subprocess.CompletedProcess([], 3, stdout='', stderr='out of memory')
    monkeypatch.setattr(subprocess, 'run', lambda *_, **__: failed)
    monkeypatch.setattr(comparison, 'resident', lambda field: 0)
    with pytest.raises(RuntimeError, match=r'memory of a.py ended with status 3:\nout of memory'):
        peak_memory('a.py', SETUP)


def test_memory_is_left_out_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, 'STATUS', tmp_path / 'status')
    assert peak_memory('a.py', SETUP) is None


def test_metrics_have_the_papers_names_and_unit():
    assert papers_metrics({'coco/bbox_mAP': 0.25, 'coco/segm_mAP': 0.5, 'coco/bbox_mAP_50': 0.75}) == {
        'box AP': 25.0,
        'mask AP': 50.0,
    }
    assert papers_metrics({'mIoU': 41.5, 'aAcc': 80.0}) == {'mIoU': 41.5}
    assert papers_metrics({'accuracy/top1': 76.2, 'accuracy/top5': 93.0}) == {'Top 1 Accuracy': 76.2}


def row(name, params, flops, speed, **metrics):
    return Row(name, f'{name}.py', int(params * 1e6), int(flops * 1e9), int(flops * 1e9), speed, None, **metrics)


ROWS = [
    row('a', 20, 5, 30.0, published={'mIoU': 40.0}),
    row('b', 40, 9, 10.0, published={'mIoU': 45.0}, measured={'mIoU': 44.0}),
    row('c', 30, 7, 20.0),
]


def test_the_picture_shows_measured_values_filled_and_published_ones_hollow():
    figure = plot_comparison(ROWS, 'a machine')
    assert isinstance(figure, Figure)
    for axes, places in zip(figure.axes, ([5, 9], [30, 10]), strict=True):
        marks = [mark.get_offsets()[0] for mark in axes.collections]
        assert [tuple(mark) for mark in marks] == list(zip(places, (40.0, 44.0), strict=True))
        assert [len(mark.get_facecolor()) for mark in axes.collections] == [0, 1]
        assert [text.get_text() for text in axes.texts] == ['1', '2']
    assert figure.axes[0].get_ylabel() == 'mIoU'
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['1 a', '2 b']


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match='no model has a published metric'):
        plot_comparison(ROWS[2:], 'a machine')
