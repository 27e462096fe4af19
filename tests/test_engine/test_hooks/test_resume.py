from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmlocalmamba.engine.hooks import ResumeHook, resume

from .test_atomic_checkpoint import Model, load, train

HOOK = [dict(type='mmlocalmamba.ResumeHook')]


def log_of(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in work_dir.glob('*/*.log'))


def test_a_plain_resume_says_nothing(tmp_path) -> None:
    train(tmp_path, True, 1, custom_hooks=HOOK)
    train(tmp_path, True, 2, resume=str(tmp_path / 'epoch_1.pth'), custom_hooks=HOOK)

    assert load(tmp_path / 'epoch_1.pth')['meta']['world_size'] == 1
    assert 'not exactly' not in log_of(tmp_path)


def test_another_number_of_processes_is_told_with_both_numbers(tmp_path) -> None:
    train(tmp_path, True, 1, custom_hooks=HOOK)
    checkpoint = load(tmp_path / 'epoch_1.pth')
    checkpoint['meta']['world_size'] = 8
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')

    train(tmp_path, True, 2, resume=str(tmp_path / 'epoch_1.pth'), custom_hooks=HOOK)

    assert 'The checkpoint is from a run with 8 processes, and this one has 1' in log_of(tmp_path)


def test_gradients_between_two_updates_are_told(tmp_path) -> None:
    accumulate = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), accumulative_counts=2))
    train(tmp_path, False, 2, custom_hooks=HOOK, **accumulate)

    train(tmp_path / 'even', False, 3, resume=str(tmp_path / 'iter_2.pth'), custom_hooks=HOOK, **accumulate)
    train(tmp_path / 'odd', False, 3, resume=str(tmp_path / 'iter_1.pth'), custom_hooks=HOOK, **accumulate)

    assert 'not exactly' not in log_of(tmp_path / 'even')
    assert 'Iteration 1 lies between two updates, which come every 2 iterations' in log_of(tmp_path / 'odd')


def test_mixed_precision_on_one_side_only_is_told(tmp_path) -> None:
    train(tmp_path, True, 1, custom_hooks=HOOK)
    checkpoint = load(tmp_path / 'epoch_1.pth')
    checkpoint['optimizer']['loss_scaler'] = {'scale': 1.0}
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')

    train(tmp_path, True, 2, resume=str(tmp_path / 'epoch_1.pth'), custom_hooks=HOOK)

    assert 'The checkpoint is from a run with mixed precision, and this one is without it' in log_of(tmp_path)


def test_transforms_that_keep_images_are_found_in_wrapped_data_sets() -> None:
    class Cached:
        results_cache = ()

    inner = SimpleNamespace(pipeline=SimpleNamespace(transforms=[Cached(), object()]))
    wrapped = SimpleNamespace(datasets=[SimpleNamespace(dataset=inner), SimpleNamespace(pipeline=[object()])])

    assert list(resume._cached_transforms(wrapped)) == ['Cached']


def test_optimizer_state_of_another_shape_is_refused(tmp_path) -> None:
    """As after a change of img_size: the position table is resized, the optimizer's state is not."""
    momentum = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)))
    train(tmp_path, True, 1, **momentum)
    checkpoint = load(tmp_path / 'epoch_1.pth')
    checkpoint['optimizer']['state'][0]['momentum_buffer'] = torch.zeros(64)
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')

    wanted = r'weight has shape \(100,\), and the optimizer state in the checkpoint \(momentum_buffer\) is for \(64,\)'
    with pytest.raises(ValueError, match=wanted):
        train(tmp_path, True, 2, resume=str(tmp_path / 'epoch_1.pth'), custom_hooks=HOOK, **momentum)


def test_processes_that_start_elsewhere_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resume, 'all_gather_object', lambda data: [data, 7])

    with pytest.raises(ValueError, match=r'different iterations \(0, 7 for ranks 0 to 1\)'):
        train(tmp_path, True, 1, custom_hooks=HOOK)


@pytest.mark.parametrize(('by_epoch', 'name'), [(True, 'epoch'), (False, 'iter')])
def test_an_interrupted_evaluation_is_repeated(by_epoch, name, tmp_path) -> None:
    best = dict(save_best='score', rule='greater', custom_hooks=HOOK)

    class Killed(BaseException):
        pass

    class Scores(list):
        def pop(self, index):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, by_epoch, 2, Scores([0]), **best)
    assert not list(tmp_path.glob('best*'))

    train(tmp_path, by_epoch, 2, [0.9, 0.1], resume=str(tmp_path / f'{name}_1.pth'), **best)
    assert [path.name for path in tmp_path.glob('best*')] == [f'best_score_{name}_1.pth']
    assert (tmp_path / 'last_evaluation').read_text() == '2'

    train(tmp_path, by_epoch, 3, [0.2], resume=str(tmp_path / f'{name}_2.pth'), **best)  # has one score, for step 3


def test_a_new_run_knows_of_no_evaluation(tmp_path) -> None:
    (tmp_path / 'last_evaluation').write_text('1')

    train(tmp_path, True, 1, custom_hooks=HOOK)

    assert not (tmp_path / 'last_evaluation').exists()


def test_only_evaluations_of_a_training_are_noted(tmp_path) -> None:
    runner = SimpleNamespace(work_dir=str(tmp_path), model=Model())

    ResumeHook().after_val_epoch(runner, {})

    assert not list(tmp_path.iterdir())
