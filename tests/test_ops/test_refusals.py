"""What operations refuse, with a message that names it: by the public functions and by the dispatcher."""

import pytest
import torch

from fuzz_calls import GATE, OPERATIONS, Call, Draw
from fuzz_ops import _backward_arguments
from mmlocalmamba.ops import local_selective_scan
from mmlocalmamba.ops.backends import cpu

from .problems import make_problem

pytestmark = pytest.mark.skipif(cpu.why_not('cpu') is not None, reason='the C++ library is not built')

FREE = {
    ('selective_scan', 'order', -1),
    ('causal_conv1d', 'order', -1),
    ('causal_conv1d', 'weight', -1),
    ('causal_conv1d', 'x', 0),
    ('depthwise_conv2d_silu', 'x', 0),
    ('depthwise_conv2d_silu', 'weight', -1),
}
"""Sizes that nothing else tells."""


class Fixed(Draw):
    """Draws contiguous float32 tensors, all sizes different from 1."""

    def __post_init__(self):
        super().__post_init__()
        self.dtype = torch.float32
        self.random.random = lambda: 0.3

    def size(self, most=40):
        return min(4, most)


def call_of(name):
    return Call(name, OPERATIONS[name].draw(Fixed(0)), torch.float32)


def tensors_of(name, backward):
    """Give the names of an operation's tensors."""
    schema = getattr(torch.ops.mmlocalmamba, name + '_backward' * backward).default._schema
    return [argument.name for argument in schema.arguments if str(argument.type) == 'Tensor']


CASES = [(name, key) for name in OPERATIONS for key in tensors_of(name, False)]
# What PyTorch computes with is PyTorch's to refuse.
BACKWARD_CASES = [(name, key) for name in OPERATIONS for key in tensors_of(name, True) if key not in (*GATE, 'mean')]


@pytest.mark.parametrize('dim', [0, -1])
@pytest.mark.parametrize(('name', 'key'), CASES)
def test_a_tensor_that_is_too_short(name, key, dim) -> None:
    if (name, key, dim) in FREE:
        pytest.skip('any size is a problem of its own')
    call = call_of(name)
    x = call.arguments[key]
    call.arguments[key] = x.narrow(dim, 0, x.shape[dim] - 1)

    with pytest.raises(ValueError, match=r'\(.*\d+.*\)'):
        OPERATIONS[name].public(call.arguments)
    with pytest.raises(ValueError, match=r'\(.*\d+.*\)'):
        getattr(torch.ops.mmlocalmamba, name)(**call.arguments)


@pytest.mark.parametrize('wrong', [None, 0.5, 'text', [1.0]], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(('name', 'key'), CASES)
def test_what_is_no_tensor(name, key, wrong) -> None:
    if key == 'bias' and name == 'depthwise_conv2d_silu' and wrong is None:
        pytest.skip('it may be absent')
    call = call_of(name)
    call.arguments[key] = wrong

    with pytest.raises(TypeError, match=f'must be a tensor, got {type(wrong).__name__}'):
        OPERATIONS[name].public(call.arguments)
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f'{key}|{name}'):
        getattr(torch.ops.mmlocalmamba, name)(**call.arguments)


@pytest.mark.parametrize('backend', ['chunked', 'reference'])
@pytest.mark.parametrize('name', ['u', 'dt', 'C'])
def test_sparse_tensors_in_back_ends_of_pytorch(name, backend) -> None:
    inputs = make_problem(2, 3, ('h',), dtype=torch.float32).inputs
    sparse = inputs._replace(**{name: getattr(inputs, name).detach().to_sparse()})
    with pytest.raises(ValueError, match=f'{name} has the layout torch.sparse_coo, but the scan takes dense tensors'):
        local_selective_scan(sparse, backend)


@pytest.mark.parametrize('change', ['shorter', 'none', 'no dimensions'])
@pytest.mark.parametrize(('name', 'key'), BACKWARD_CASES)
def test_arguments_of_the_backward(name, key, change) -> None:
    call = call_of(name)
    results = call.results(lambda a: getattr(torch.ops.mmlocalmamba, name)(**a))
    outputs = dict(zip(OPERATIONS[name].outputs, results, strict=True))
    arguments = _backward_arguments(call, outputs)
    x = arguments[key]
    match change:
        case 'shorter':
            arguments[key] = x.narrow(0, 0, len(x) - 1)
        case 'none':
            arguments[key] = None
        case 'no dimensions':
            arguments[key] = torch.ones((), dtype=x.dtype)

    with pytest.raises((TypeError, ValueError)):
        getattr(torch.ops.mmlocalmamba, f'{name}_backward')(**arguments)
