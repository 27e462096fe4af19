"""Our models against stored results (see tests/data/make_parity.py), on every back end of the CPU."""

import numpy as np
import pytest
import torch

from mmlocalmamba.ops.backends import ENVIRONMENT_VARIABLE, available_backends

from .parity import CASES, DATA, draw_published, published_shapes, results


@pytest.fixture(params=['cpu', 'chunked', 'reference'])
def backend(request, monkeypatch):
    reason = available_backends()[request.param]
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, request.param)


@pytest.mark.parametrize('name', CASES)
def test_a_published_file_gives_the_stored_results(name, backend, tmp_path):
    case = CASES[name]
    torch.save({'state_dict': draw_published(published_shapes(case.backbone))}, tmp_path / 'published.ckpt')
    state = torch.load(tmp_path / 'published.ckpt', weights_only=True)['state_dict']
    found = results(case, state, torch.float32)
    with np.load(DATA / f'{name}.npz') as stored:
        assert set(stored) == set(found)
        for key, value in found.items():
            expected = torch.from_numpy(stored[key])
            difference = (value - expected).abs().max()
            if key.startswith('grad/'):
                assert difference <= 1e-5 * expected.abs().max(), (key, float(difference / expected.abs().max()))
            else:
                assert difference <= 1e-4, (key, float(difference))


@pytest.mark.parametrize('name', CASES)
def test_the_stored_results_tell_something(name):
    """A result of all zeros, or a gradient that is one, would be matched by a model that does nothing."""
    with np.load(DATA / f'{name}.npz') as stored:
        for key, value in stored.items():
            assert np.isfinite(value).all(), key
            assert np.abs(value).max() > 1e-5, key
