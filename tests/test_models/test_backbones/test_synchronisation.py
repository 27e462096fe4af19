"""Neither backbone waits for a GPU or copies to or from the host, and each compiles without a graph break.

So CUDA graphs can capture a step. Fake tensors say that they are on a GPU, without there being one.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmlocalmamba.directions import order_cache, orders
from mmlocalmamba.directions.order_cache import OrderCache
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.ops import backends

DEVICE = torch.device('cuda', 0)
DIRECTIONS = [['h', 'w2_flip'], ['v_flip', 'h'], ['w3', 'h_flip'], ['v', 'w2']]
READS = ('_local_scalar_dense', 'item', 'is_nonzero', 'nonzero', 'equal', 'masked_select', '_unique2', 'unique_dim')
"""Operations that the host has to wait for: their value, or the shape of their output, is in a tensor."""


def local_vmamba(**options) -> torch.nn.Module:
    return LocalVMamba(dict(dims=[8, 16, 16, 24], depths=[1] * 4, directions=DIRECTIONS), d_state=2, **options)


def local_vim(**options) -> torch.nn.Module:
    arch = dict(embed_dim=16, depth=2, directions=DIRECTIONS[:2])
    return LocalVim(arch, img_size=32, patch_size=8, out_indices=(0, 1), d_state=2, **options)


def middle_cls_token(**options) -> torch.nn.Module:
    return local_vim(rope=False, middle_cls_token=True, **options)


# Both merges (LocalVMamba's with its norm, LocalVim's without), and what replaces them.
MAKERS = pytest.mark.parametrize('make', [local_vmamba, local_vim, middle_cls_token])
OPTIONS = pytest.mark.parametrize(
    'options', [{}, dict(attn=False), dict(spatial_attn=True), dict(with_cp=True, drop_path_rate=0.3)], ids=str
)


class WaitingError(AssertionError):
    """An operation would make the host wait for the device."""


class NothingWaits(TorchDispatchMode):
    """Refuses operations that read a value on the host, or that copy between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.name().split('::')[1].split('.')[0]
        before = {x.device for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        masks = name.startswith('index') and any(x.dtype == torch.bool for x in tree_leaves(args[1:2]) if x is not None)
        if name in READS or masks:
            raise WaitingError(func.name())
        out = func(*args, **kwargs)
        after = {x.device for x in tree_leaves(out) if isinstance(x, Tensor)}
        if len(before | after) > 1:
            raise WaitingError(f'{func.name()} goes from {before} to {after}')
        self.operations += 1
        self.seen.add(func.name().split('.')[0])
        return out


@pytest.fixture
def on_a_gpu(monkeypatch) -> Iterator[None]:
    """Let the Triton kernels be chosen everywhere, and no call ask for a GPU."""
    backends._choose_fused.cache_clear()
    monkeypatch.setattr(backends, '_choose', lambda device, name: 'triton')
    monkeypatch.setattr('mmlocalmamba.ops.scan_tuning.interchangeable_backends', lambda device: ('triton',))
    monkeypatch.setattr(backends, '_CHECKED_DEVICES', ())
    monkeypatch.setattr(order_cache, '_stream', lambda device: 0)
    monkeypatch.setattr(order_cache, '_is_capturing', lambda device: False)
    monkeypatch.setattr(orders, '_cache', OrderCache(orders._stack_orders))
    # Without a GPU, autocast for one would switch itself off.
    monkeypatch.setattr('torch.cuda.amp.common.amp_definitely_not_available', lambda: False)
    monkeypatch.setattr('torch.cuda.is_bf16_supported', lambda *_: True)
    # It looks at its values, which there are none of.
    monkeypatch.setattr(torch.nn.init, 'trunc_normal_', lambda tensor, **_: tensor)
    yield
    backends._choose_fused.cache_clear()


@pytest.fixture
def pretended_gpu(on_a_gpu) -> Iterator[None]:
    """Make tensors without data that say that they are on a GPU."""
    with FakeTensorMode(), torch.device(DEVICE):
        yield


@MAKERS
@OPTIONS
@pytest.mark.parametrize('autocast', [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.usefixtures('pretended_gpu')
def test_a_forward_never_waits(make, options, autocast, training) -> None:
    model, image = make(**options).train(training), torch.randn(2, 3, 40, 56)
    with (
        torch.set_grad_enabled(training),
        torch.autocast('cuda', autocast or torch.bfloat16, enabled=autocast is not None),
        NothingWaits() as mode,
    ):
        assert torch.is_autocast_enabled('cuda') == (autocast is not None)
        outputs = model(image)

    assert mode.operations > 20
    assert {x.device for x in outputs} == {DEVICE}


@MAKERS
@OPTIONS
@pytest.mark.usefixtures('on_a_gpu')
def test_a_backward_never_waits(make, options) -> None:
    """Without a GPU autograd refuses tensors that say that they are on one; those on 'meta' have no data either."""
    with torch.device('meta'):
        model, image = make(**options).train(), torch.randn(2, 3, 40, 56)
        with NothingWaits() as mode:
            outputs = model(image)
            torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])

    assert mode.operations > 50
    assert all(parameter.grad is not None for parameter in model.parameters())


@MAKERS
@OPTIONS
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.usefixtures('on_a_gpu')
def test_a_step_under_autocast_never_waits(make, options, dtype, monkeypatch) -> None:
    """Without a GPU, autograd and autocast together take fake tensors on the CPU alone, where copying is no operation.

    So what copies to the host is refused by its name.
    """
    if dtype == torch.float16 and torch.__version__ < (2, 5):
        pytest.skip('float16 autocast on the CPU wants torch 2.5')

    def refused(self, *_args, **_options):
        raise WaitingError('a value goes to the host')

    for name in ('cpu', 'item', 'tolist', 'numpy', '__bool__', '__int__', '__float__'):
        monkeypatch.setattr(Tensor, name, refused)
    with FakeTensorMode():
        model, image = make(**options).train(), torch.randn(2, 3, 40, 56)
        with NothingWaits() as mode:
            with torch.autocast('cpu', dtype):
                outputs = model(image)
            torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])

    assert mode.operations > 50
    assert mode.seen >= {'mmlocalmamba::selective_scan', 'mmlocalmamba::selective_scan_backward'}
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    'wait',
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).any()),
        lambda x: x + torch.ones(3, device='cpu').to(x.device),
        lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=x.device),
    ],
)
@pytest.mark.usefixtures('pretended_gpu')
def test_what_waits_is_noticed(wait) -> None:
    x = torch.zeros(3)
    with NothingWaits(), pytest.raises(WaitingError):
        wait(x)


@pytest.mark.slow
@MAKERS
@pytest.mark.parametrize('training', [False, True])
def test_it_compiles_without_a_graph_break(make, training) -> None:
    torch._dynamo.reset()
    model, image = make().train(training), torch.randn(1, 3, 40, 56)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager')
    with torch.set_grad_enabled(training):
        want, got = model(image), compiled(image)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    if training:
        sum(x.square().mean() for x in got).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    torch._dynamo.reset()
