"""Tests of the Triton kernels around the scan in Triton's interpreter, which must be chosen before Triton is imported.

``test_triton_fused.py`` runs all of them in one process, with TRITON_INTERPRET=1 and MMLOCALMAMBA_BACKEND=triton.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmlocalmamba.models.layers.ss2d import SS2D
from mmlocalmamba.models.layers.ss2d_block import SS2DBlock
from mmlocalmamba.models.layers.vim_block import VimBlock
from mmlocalmamba.models.layers.vim_mixer import VimMixer
from mmlocalmamba.ops import backends, selective_scan
from mmlocalmamba.ops.backends import operation_check as check
from mmlocalmamba.ops.backends.triton import add_norm, causal_conv, depthwise_conv, merges
from mmlocalmamba.ops.backends.triton.launch import Launch, intercepted

from . import fused_problems as problems

HALVES = [(torch.float32, 3e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
MERGES = pytest.mark.parametrize('operation', ['gate_and_merge', 'merge_and_normalise'])
PROBLEMS = {
    'add_norm': problems.add_norm,
    'causal_conv': problems.causal_conv,
    'depthwise_conv': problems.depthwise_conv,
    'gate_and_merge': lambda **sizes: problems.merge('gate_and_merge', **sizes),
    'merge_and_normalise': lambda **sizes: problems.merge('merge_and_normalise', **sizes),
}
EVERY = pytest.mark.parametrize('operation', list(PROBLEMS))


@pytest.fixture
def small_programs(monkeypatch) -> None:
    """Let small problems fill several tiles, chunks, strips and blocks of channels."""
    small_merges = merges.Settings(vector=4, warps=1, programs=6, rows=2, many=4, chunks=2, outputs=4, inputs=4)
    monkeypatch.setattr(merges, 'SETTINGS', small_merges)
    monkeypatch.setattr(add_norm, 'SETTINGS', add_norm.Settings(vector=4, warps=1, programs=2))
    monkeypatch.setattr(causal_conv, 'SETTINGS', causal_conv.Settings(vector=4, channels=4, programs=24, warps=1))
    monkeypatch.setattr(
        depthwise_conv, 'SETTINGS', depthwise_conv.Settings(columns=2, channels=4, programs=8, strip=2, warps=1)
    )


@EVERY
@pytest.mark.parametrize(('dtype', 'tolerance'), HALVES, ids=['float32', 'bfloat16', 'float16'])
def test_dtypes(operation, dtype, tolerance) -> None:
    problem = PROBLEMS[operation](batch=1, dtype=dtype)
    got = problems.assert_fused_agrees(problem, tolerance)

    if operation != 'add_norm':
        assert got['output 0'].dtype == dtype


@EVERY
@pytest.mark.parametrize('channels', [2, 7, 33])
def test_widths_in_one_block(operation, channels) -> None:
    still = dict(rotary=False) if operation == 'add_norm' else {}
    problems.assert_fused_agrees(PROBLEMS[operation](channels=channels, batch=1, **still), 1e-12)


@EVERY
@pytest.mark.usefixtures('small_programs')
def test_many_tiles_and_chunks(operation) -> None:
    channels = dict(channels=6) if operation == 'add_norm' else {}
    problems.assert_fused_agrees(PROBLEMS[operation](**channels), 1e-12)


@EVERY
@pytest.mark.usefixtures('small_programs')
def test_empty_batch(operation) -> None:
    problems.assert_fused_agrees(PROBLEMS[operation](batch=0), 0)


@EVERY
def test_one_token(operation) -> None:
    one = dict(height=1, width=1) if operation in ('causal_conv', 'depthwise_conv') else {}
    one = one or ({'length': 1} if operation == 'add_norm' else {'tokens': 1})
    problems.assert_fused_agrees(PROBLEMS[operation](batch=1, **one), 1e-12)


@EVERY
def test_expanded_gradients(operation) -> None:
    problem = PROBLEMS[operation](batch=1)
    grads = [torch.ones((), dtype=grad.dtype).expand_as(grad) for grad in problem.grads]

    problems.assert_fused_agrees(problem._replace(grads=grads), 1e-12)


@EVERY
def test_half_of_a_wider_tensor(operation) -> None:
    """What the mixers pass: channels that lie in rows twice as long; for scans, directions inside tokens."""
    problem = PROBLEMS[operation](batch=1)
    tensors = dict(problem.tensors)
    for name in {'hidden', 'residual', 'x', 'z'} & set(tensors):
        tensors[name] = torch.cat([torch.full_like(tensors[name], torch.nan), tensors[name]], -1).chunk(2, -1)[1]
    if 'y' in tensors:
        tensors['y'] = tensors['y'].transpose(1, 2).contiguous().transpose(1, 2)

    problems.assert_fused_agrees(problem._replace(tensors=tensors), 1e-12)


@EVERY
def test_channels_far_apart(operation) -> None:
    problem = PROBLEMS[operation](batch=1)
    tensors = {name: x.movedim(-1, 0).contiguous().movedim(0, -1) for name, x in problem.tensors.items()}

    problems.assert_fused_agrees(problem._replace(tensors=tensors), 1e-12)


@pytest.mark.usefixtures('small_programs')
@pytest.mark.parametrize('size', [(1, 9), (9, 1), (5, 3)])
def test_maps_that_are_not_square(size) -> None:
    height, width = size
    problems.assert_fused_agrees(problems.depthwise_conv(1, height, width, channels=2), 1e-12)
    problems.assert_fused_agrees(problems.causal_conv(height, width, batch=1, channels=2), 1e-12)


@pytest.mark.parametrize('taps', [1, 2, 5])
def test_causal_convolution_of_any_width(taps) -> None:
    problems.assert_fused_agrees(problems.causal_conv(batch=1, channels=3, taps=taps), 1e-12)


def test_causal_convolution_over_padding() -> None:
    """Most steps are padding, of which those that follow a token within the width have values."""
    problems.assert_fused_agrees(problems.causal_conv(1, 2, ('w3', 'h_flip'), batch=1, channels=3), 1e-12)


def test_order_that_leaves_tokens_out() -> None:
    order = torch.tensor([[0, 2, -1, 5], [-1, -1, -1, -1]], dtype=torch.int32)
    problems.assert_fused_agrees(problems.causal_conv(2, 3, batch=1, channels=3, order=order), 1e-12)


def test_order_out_of_range_is_padding() -> None:
    """A token that there is not counts as padding: no load or store leaves its tensor."""
    wild = torch.tensor([[0, 10**8, 2, -(10**6)], [3, 6, 1, 0]], dtype=torch.int32)
    tame = wild.where((wild >= 0) & (wild < 6), -1)
    outcomes = []
    for order in (wild, tame):
        torch.manual_seed(0)
        problem = problems.causal_conv(2, 3, batch=1, channels=3, order=order)
        outcomes.append(problems.outcome(problem, problem.fused))

    for name, value in outcomes[0].items():
        assert torch.equal(value, outcomes[1][name]), name


def test_a_token_visited_again_has_no_silent_gradient() -> None:
    order = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 3]], dtype=torch.int32)
    problem = problems.causal_conv(2, 2, batch=1, channels=3, order=order)
    grad = problems.outcome(problem, problem.fused)['gradient of x']

    assert grad[:, 0].isnan().all()
    assert grad[:, 1:].isfinite().all()


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('rotary', [True, False])
def test_norm_without_a_residual_or_rotation(residual, rotary) -> None:
    problems.assert_fused_agrees(problems.add_norm(residual=residual, rotary=rotary), 1e-12)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_norm_in_the_dtype_of_its_weight(dtype) -> None:
    problem = problems.add_norm(dtype=dtype, weight_dtype=torch.bfloat16)
    got = problems.assert_fused_agrees(problem, 1e-2)

    assert [got[f'output {i}'].dtype for i in (0, 1)] == [torch.bfloat16, torch.float32]


def test_norm_keeps_a_residual_of_doubles() -> None:
    problem = problems.add_norm(dtype=torch.float32)
    problem.tensors['residual'] = problem.tensors['residual'].double()
    problem = problem._replace(grads=[problem.grads[0], problem.grads[1].double()])

    assert problems.assert_fused_agrees(problem, 3e-6)['output 1'].dtype == torch.float64


@MERGES
def test_merges_of_mixed_dtypes(operation) -> None:
    """Under autocast, z is in half precision and the scans need not be."""
    problem = problems.merge(operation, batch=1, dtype=torch.float32, z_dtype=torch.bfloat16)
    problems.assert_fused_agrees(problem, 1e-2)


@MERGES
@pytest.mark.parametrize('directions', [1, 2, 4])
def test_merges_of_any_number_of_directions(operation, directions) -> None:
    problems.assert_fused_agrees(problems.merge(operation, batch=1, directions=directions), 1e-12)


@MERGES
def test_large_means_do_not_spoil_the_moments(operation) -> None:
    problem = problems.merge(operation, batch=1, dtype=torch.float32)
    problem.tensors['y'].add_(1000)

    problems.assert_fused_agrees(problem, 2e-2)


def test_numbers_far_from_zero_pass_silu() -> None:
    problem = problems.depthwise_conv(1, 2, 2, channels=2, dtype=torch.float32)
    problem.tensors['bias'].copy_(torch.tensor([200.0, -200.0]))

    problems.assert_fused_agrees(problem, 3e-6)


@EVERY
def test_device_check_accepts_the_kernels(operation, monkeypatch) -> None:
    monkeypatch.setattr(check, 'CHANNELS', {torch.float32: 8, torch.bfloat16: 16})
    monkeypatch.setattr(check, 'HEIGHT', 3)
    monkeypatch.setattr(check, 'WIDTH', 4)
    module = backends._import_fused('triton', operation)

    assert check.operation_check(operation, module, torch.device('cpu')) is None


@EVERY
def test_device_check_finds_a_wrong_gradient(operation, monkeypatch) -> None:
    monkeypatch.setattr(check, 'CHANNELS', {torch.float32: 8})
    monkeypatch.setattr(check, 'HEIGHT', 2)
    monkeypatch.setattr(check, 'WIDTH', 2)
    module = backends._import_fused('triton', operation)

    def wrong(**values):
        *others, last = module.backward(**values)
        return [*others, last * 1.01]

    broken = SimpleNamespace(forward=module.forward, backward=wrong)
    message = check.operation_check(operation, broken, torch.device('cpu'))

    assert message is not None
    assert 'the gradient of' in message
    assert message.count('differs') == 1


FREE = {'_unsafe_view', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'promote_types'}
"""Operations that launch nothing, besides views."""

SCAN_LAUNCHES = 3
"""Zeros, and a kernel for one segment or two for several."""


class CountLaunches(TorchDispatchMode):
    """Notes what launches a kernel: every operation of PyTorch that is no view, and every Triton kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.counts = True

    @contextmanager
    def paused(self):
        self.counts = False
        yield
        self.counts = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'mmlocalmamba':
            self.names += ['scan'] * (SCAN_LAUNCHES if 'selective_scan' in func.name() else 0)
        elif self.counts and not self._is_free(func):
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _is_free(func) -> bool:
        infos = [output.alias_info for output in func._schema.returns]
        view = any(info is not None and not info.is_write for info in infos)
        return view or func.name().split('::')[1].split('.')[0] in FREE

    def run(self, launch: Launch) -> None:
        self.names.append(launch.kernel.__name__)
        with self.paused():  # the interpreter calls PyTorch
            launch.run()


def launches_of(block, monkeypatch, *inputs) -> list[str]:
    """List what the forward of a block launches, after one that has filled the caches."""
    counter = CountLaunches()
    real = backends._import_fused

    def counted(name, operation):
        def forward(**values):
            with counter:  # a registered operation is called without the mode that has seen it
                return real(name, operation).forward(**values)

        return SimpleNamespace(forward=forward, backward=real(name, operation).backward)

    multiply_out = selective_scan.multiply_out

    def uncounted(inputs):  # a scan that takes step sizes at low rank and ln(-A) launches nothing for them
        with counter.paused():
            return multiply_out(inputs)

    monkeypatch.setattr(selective_scan, 'multiply_out', uncounted)
    with torch.no_grad():
        block(*inputs)
        monkeypatch.setattr(backends, '_import_fused', counted)
        backends._choose_fused.cache_clear()
        with intercepted(counter.run), counter:
            block(*inputs)
    backends._choose_fused.cache_clear()
    return counter.names


def vmamba_block():
    block = SS2DBlock(16, SS2D(16, ('h', 'w2'), d_state=2), 0.0)
    return block, [torch.randn(1, 3, 4, 16)]


def vim_block():
    block = VimBlock(16, VimMixer(16, ('h', 'w5_flip'), d_state=2), 0.0)
    tables = (torch.randn(12, 16), torch.randn(12, 16))
    return block, [torch.randn(1, 12, 16), torch.randn(1, 12, 16), 3, 4, tables]


@pytest.mark.parametrize('make', [vmamba_block, vim_block], ids=['local_vmamba', 'local_vim'])
def test_blocks_have_the_values_and_gradients_of_pytorch(make, monkeypatch) -> None:
    block, inputs = make()
    found = []
    for backend in ('triton', 'chunked'):
        monkeypatch.setenv(backends.ENVIRONMENT_VARIABLE, backend)
        x = inputs[0].clone().requires_grad_()
        outputs = block(x, *inputs[1:])
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum(output.sin().sum() for output in outputs)
        found.append([*outputs, *torch.autograd.grad(loss, [x, *block.parameters()])])

    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_launches_of_a_local_vmamba_block(monkeypatch) -> None:
    block, inputs = vmamba_block()
    names = launches_of(block, monkeypatch, *inputs)

    assert names.count('scan') == SCAN_LAUNCHES
    assert {'conv_kernel', 'mean_kernel', 'hidden_kernel', 'gate_kernel', 'merge_kernel'} <= set(names)
    assert len(names) <= 14, names


def test_launches_of_a_local_vim_block(monkeypatch) -> None:
    block, inputs = vim_block()
    names = launches_of(block, monkeypatch, *inputs)

    assert names.count('scan') == SCAN_LAUNCHES
    assert names.count('forward_kernel') == 2  # the norm's and the convolution's
    assert len(names) <= 12, names


@EVERY
def test_nothing_waits_for_the_device(operation) -> None:
    """What would copy to the host or read a number there is an error under this mode."""

    class NoHost(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert 'local_scalar' not in func.name(), func
            assert 'nonzero' not in func.name(), func
            assert func.name() != 'aten::_to_copy' or 'device' not in (kwargs or {}), func
            return func(*args, **(kwargs or {}))

    module = backends._import_fused('triton', operation)
    problem = check.PROBLEMS[operation](4, torch.Generator())
    grads = [torch.ones_like(y) for y in problem.naive(problem.values)]
    launches = []
    with intercepted(launches.append), NoHost():
        check._run(problem, module, problem.values, grads)

    assert len(launches) >= 2
