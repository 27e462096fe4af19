"""Two processes on the CPU do what one does. They run once, all scenarios in turn; the tests look at the results."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from .ports import free_port
from .scenarios import MAX_NORM, SCENARIOS
from .small_runs import BACKBONES, write_data, write_detector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason='would take two GPUs; this is about the CPU'),
]
KINDS = ('mask_rcnn', 'upernet', 'classifier')
Result = dict[str, Any]


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data')
    write_data(folder)
    write_detector(folder, tmp_path_factory.mktemp('detector'))
    return folder


@pytest.fixture(scope='module')
def two_processes(data, tmp_path_factory) -> dict[str, list[Result]]:
    """What each of the two processes gave, for every scenario."""
    out = tmp_path_factory.mktemp('two_processes')
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH', '')])
    env = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_addr=127.0.0.1']
    command += [f'--master_port={free_port()}', '-m', 'test_engine.two_processes', str(data), str(out)]
    done = subprocess.run(
        command, cwd=out, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return {
        name: [torch.load(out / f'{name}.{rank}.pth', weights_only=False) for rank in range(2)] for name in SCENARIOS
    }


@pytest.fixture
def both(two_processes):
    """Give what the two processes made of a scenario, which must have succeeded."""

    def get(name: str) -> list[Result]:
        for result in two_processes[name]:
            assert 'error' not in result, result['error']
        return two_processes[name]

    return get


@pytest.fixture(scope='module')
def single(data, tmp_path_factory):
    """Give what this process alone makes of a scenario."""
    results: dict[str, Result] = {}

    def get(name: str) -> Result:
        if name not in results:
            results[name] = SCENARIOS[name](data, tmp_path_factory.mktemp('single'))
        return results[name]

    return get


def largest(differences: dict[str, torch.Tensor]) -> tuple[float, str]:
    return max((float(value.abs().max()), name) for name, value in differences.items())


def assert_ranks_agree(results: list[Result]) -> None:
    first, second = results
    for name, value in first['after'].items():
        assert torch.equal(value, second['after'][name]), name


@pytest.mark.parametrize(('kind', 'backbone', 'with_cp'), list(product(KINDS, BACKBONES, (False, True))))
def test_steps_equal_those_of_one_process(kind, backbone, with_cp, both, single):
    results = both(f'steps {kind} {backbone} {with_cp}')
    two, one = results[0], single(f'steps {kind} {backbone} False')

    assert_ranks_agree(results)
    assert set(two['after']) == set(one['after']) == set(one['momenta'])
    assert all(torch.equal(value, two['before'][name]) for name, value in one['before'].items())
    moved = {name: value - one['before'][name] for name, value in one['after'].items()}
    assert largest(moved)[0] > 1e-3
    difference, name = largest({name: value - two['after'][name] for name, value in one['after'].items()})
    assert difference <= 1e-5, f'{name} differs by {difference:.2g}'
    # Some parameters hardly move in two steps. Their gradients show whether they do so in the right direction.
    for name, value in one['momenta'].items():
        torch.testing.assert_close(two['momenta'][name], value, rtol=0, atol=1e-3 * float(value.norm()), msg=name)


@pytest.mark.parametrize(('kind', 'backbone'), list(product(KINDS, BACKBONES)))
def test_gradients_were_clipped_alike(kind, backbone, both, single):
    name = f'steps {kind} {backbone} False'
    two, one = both(name)[0]['logged']['train/grad_norm'], single(name)['logged']['train/grad_norm']

    assert one > MAX_NORM
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize('name', [name for name in SCENARIOS if name.split()[0] in ('fewer', 'frozen', 'search')])
def test_no_parameter_is_unused(name, both):
    results = both(name)

    assert_ranks_agree(results)
    changed = [key for key, value in results[0]['after'].items() if not torch.equal(value, results[0]['before'][key])]
    frozen = len(results[0]['after']) - len(changed)
    assert (frozen > 0) == name.startswith('frozen')


def test_a_parameter_that_is_unused_is_noticed(two_processes):
    for result in two_processes['last stage unused']:
        assert 'Parameter indices which did not receive grad' in result['error']


def test_batch_norm_is_not_synchronised_without_gpu(both):
    first, second = both('SyncBN')

    assert torch.isfinite(torch.tensor(first['logged']['train/loss']))
    assert_ranks_agree([first, second])


@pytest.mark.parametrize(
    ('kind', 'metric', 'floor'),
    [('mask_rcnn', 'coco/bbox_mAP', 0.1), ('upernet', 'mIoU', 1.0), ('classifier', 'accuracy/top1', 1.0)],
)
def test_metrics_equal_those_of_one_process(kind, metric, floor, both, single):
    name = f'metrics {kind}'
    one = single(name)

    assert one['metrics'][metric] > floor
    for two in both(name):
        assert two['metrics'] == one['metrics']


def test_predictions_equal_those_of_one_process(both, single):
    two, one = both('metrics mask_rcnn')[0]['boxes'], single('metrics mask_rcnn')['boxes']

    assert [image for image, _ in two] == [image for image, _ in one] == list(range(5))
    for (image, found), (_, wanted) in zip(two, one, strict=True):
        assert len(found)
        assert torch.equal(found, wanted), image
