import json

import pytest

from mmlocalmamba.analysis.plot_curves import plot_curves
from mmlocalmamba.analysis.training_logs import choose_curves, read_curves


@pytest.fixture
def log(tmp_path):
    """Write the log of one start of a run."""

    def write(start: str, records: list[dict], end: str = '\n') -> None:
        folder = tmp_path / start / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, records)) + end)

    return write


def train(i, loss, **more):
    return dict(loss=loss, lr=0.1, time=1.0, iter=i, step=i, **more)


def test_metrics_of_epochs_lie_at_their_last_iteration(tmp_path, log):
    log('1', [train(5, 2.0, epoch=1), train(10, 1.0, epoch=1), {'mIoU': 30.0, 'step': 1}, train(20, 0.5, epoch=2)])
    curves = read_curves(tmp_path)
    assert curves == {'loss': ((5, 10, 20), (2.0, 1.0, 0.5)), 'lr': ((5, 10, 20), (0.1,) * 3), 'mIoU': ((10,), (30.0,))}


def test_metrics_of_iterations_lie_at_theirs(tmp_path, log):
    log('1', [train(10, 1.0), {'mIoU': 30.0, 'step': 15}, train(20, 0.5)])
    assert read_curves(tmp_path)['mIoU'] == ((15,), (30.0,))


def test_a_resumed_run_is_one_curve(tmp_path, log):
    log('1', [train(10, 1.0), train(20, 0.9), train(30, 9.0)])
    log('2', [train(21, 0.8), train(31, 0.7)])
    log('3', [{'mIoU': 1.0, 'step': 0}])  # a test run in the same folder
    assert read_curves(tmp_path)['loss'] == ((10, 20, 21, 31), (1.0, 0.9, 0.8, 0.7))


def test_a_line_that_was_cut_at_the_end_is_left_out_and_others_are_refused(tmp_path, log):
    log('1', [train(10, 1.0)], end='\n{"loss": 0.')
    assert read_curves(tmp_path)['loss'] == ((10,), (1.0,))
    log('2', [train(20, 1.0)], end='\nrubbish\n')
    with pytest.raises(ValueError, match='line 2, is not valid JSON'):
        read_curves(tmp_path)


def test_a_folder_without_log_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no log of training'):
        read_curves(tmp_path)


def test_losses_learning_rate_and_main_metrics_are_chosen():
    names = ['lr', 'acc', 'loss_cls', 'loss', 'coco/bbox_mAP', 'coco/bbox_mAP_50', 'search/entropy', 'accuracy/top1']
    assert choose_curves(names) == ['loss', 'lr', 'loss_cls', 'coco/bbox_mAP', 'search/entropy', 'accuracy/top1']


def test_a_panel_holds_the_line_of_each_run(tmp_path, log):
    log('1', [train(10, 1.0), train(20, 0.9)])
    curves = read_curves(tmp_path)
    figure = plot_curves({'a': curves, 'b': {'loss': curves['loss']}}, ['loss', 'lr'])
    assert [axes.get_title() for axes in figure.axes] == ['loss', 'lr']
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 1]
    assert list(figure.axes[0].get_lines()[1].get_ydata()) == [1.0, 0.9]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b']
    with pytest.raises(ValueError, match='no run has logged mIoU; there are loss, lr'):
        plot_curves({'a': curves}, ['mIoU'])
