import copy

import pytest
import torch

from mmlocalmamba.directions import scan_orders
from mmlocalmamba.models.backbones import LocalVim, LocalVMamba, Vim, VMamba
from mmlocalmamba.ops import available_backends, local_selective_scan
from mmlocalmamba.ops.selective_scan import _selective_scan

from .problems import in_factors, make_problem

# Directions differ from block to block: none may get another one's order.
BLOCKS = [['h', 'w2_flip'], ['v_flip'], ['w3', 'h_flip'], ['v', 'w2']]


def make_vmamba() -> torch.nn.Module:
    return LocalVMamba(arch=dict(dims=[8, 16, 32, 64], depths=[1, 1, 1, 1], directions=BLOCKS), d_state=2)


def make_vmamba_v2() -> torch.nn.Module:
    arch = dict(dims=[8, 16, 32, 64], depths=[1, 1, 1, 1], kind='v2', ssm_ratio=1.0)
    return VMamba(arch=arch, directions=BLOCKS)


def make_bidirectional() -> torch.nn.Module:
    return Vim(arch=dict(embed_dim=16, depth=2), img_size=32, patch_size=8, out_indices=(0, 1), d_state=2)


def make_vim() -> torch.nn.Module:
    arch = dict(embed_dim=16, depth=2, directions=BLOCKS[:2])
    return LocalVim(arch=arch, img_size=32, patch_size=8, out_indices=(0, 1), d_state=2)


BACKENDS_HERE = [name for name, reason in available_backends('cpu').items() if reason is None]
BACKBONES = pytest.mark.parametrize(
    'make',
    [make_vmamba, make_vim, make_vmamba_v2, make_bidirectional],
    ids=['local_vmamba', 'local_vim', 'vmamba_v2', 'vim'],
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


CASES = pytest.mark.parametrize(
    ('backend', 'factors'), [*((name, False) for name in BACKENDS_HERE), ('cpu', True)], ids=str
)


def operation_arguments(backend: str, factors: bool, spatial: bool = True) -> tuple[list, torch.Tensor]:
    if backend not in BACKENDS_HERE:
        pytest.skip('the C++ library is not built')
    problem = make_problem(2, 3, spatial=spatial, dtype=torch.float32)
    inputs = in_factors(problem).inputs if factors else problem.inputs
    return [*inputs, True, backend], problem.grad


@CASES
@pytest.mark.parametrize('spatial', [True, False])
def test_registration_of_the_operation(backend, factors, spatial) -> None:
    arguments, _ = operation_arguments(backend, factors, spatial)
    for x in arguments:
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            x.requires_grad_()

    tests = ('test_schema', 'test_autograd_registration', 'test_faketensor')
    torch.library.opcheck(torch.ops.mmlocalmamba.selective_scan.default, tuple(arguments), test_utils=tests)


@CASES
def test_registration_of_the_backward(backend, factors) -> None:
    arguments, grad = operation_arguments(backend, factors)
    states = _selective_scan(*arguments)[1]
    u, dt, A, B, C, D, dt_bias, order, num_tokens, dt_weight, log_A, *_ = arguments
    saved = (u, dt, A, B, C, D, dt_bias, dt_weight, order, states)
    backward = torch.ops.mmlocalmamba.selective_scan_backward.default

    settings = (num_tokens, log_A, True, backend)
    torch.library.opcheck(backward, (grad, *saved, *settings), test_utils=('test_schema', 'test_faketensor'))


def test_compiled_operation_is_one_node() -> None:
    inputs = make_problem(3, 4, dtype=torch.float32).inputs
    graphs = []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph

    got = torch.compile(local_selective_scan, fullgraph=True, backend=keep)(inputs)

    torch.testing.assert_close(got, local_selective_scan(inputs))
    names = [str(node.target) for node in graphs[0].graph.nodes if node.op == 'call_function']
    assert len([name for name in names if 'selective_scan' in name]) == 1


def test_compiled_orders_keep_the_cache_to_themselves() -> None:
    def double(x):
        return scan_orders(['h', 'w2'], 3, 3).mul_(2), x + 1

    got, _ = torch.compile(double, fullgraph=True, backend='aot_eager')(torch.zeros(1))

    assert torch.equal(got, 2 * scan_orders(['h', 'w2'], 3, 3))
    assert scan_orders(['h', 'w2'], 3, 3).max() == 8


def test_orders_of_any_size_are_compiled_once() -> None:
    """With dynamic sizes, what the order of padded windows is like must not depend on which padding is longest."""
    graphs = []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph

    def order_of(x):
        return scan_orders(['h', 'w2', 'w7', 'v_flip'], *x.shape)

    compiled = torch.compile(order_of, fullgraph=True, backend=keep, dynamic=True)
    for size in [(4, 5), (7, 9), (14, 14), (15, 8), (2, 30)]:
        assert torch.equal(compiled(torch.zeros(size)), scan_orders(['h', 'w2', 'w7', 'v_flip'], *size))
    assert len(graphs) == 1


@pytest.mark.slow
@BACKBONES
def test_compiled_backbone_takes_any_size(make) -> None:
    model, graphs = make().eval(), []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(model, fullgraph=True, backend=keep, dynamic=True)
    with torch.no_grad():
        for size in [(64, 96), (80, 48), (112, 144), (40, 200), (56, 56), (72, 104), (96, 88)]:
            image = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-5)
    assert len(graphs) <= 3


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 6), reason='sizes are dynamic from torch 2.6 on')
def test_inductor_compiles_local_vim_for_inference_at_any_size() -> None:
    arch = dict(embed_dim=16, depth=1, directions=[['h', 'w2_flip', 'w3']])
    model = LocalVim(arch=arch, img_size=32, patch_size=8, out_indices=(0,), d_state=2).eval()
    compiled = torch.compile(model)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=3, fail_on_recompile_limit_hit=True):
        for size in [(32, 32), (64, 96), (96, 64), (80, 112), (44, 60)]:
            image = torch.randn(1, 3, *size)
            torch.testing.assert_close(compiled(image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@BACKBONES
def test_compiled_backbone_has_the_same_values_and_gradients(make) -> None:
    model, image = make(), torch.randn(1, 3, 40, 48)
    other = copy.deepcopy(model)
    compiled = torch.compile(other, fullgraph=True, backend='aot_eager')
    want, got = model(image), compiled(image)

    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    for outputs in (want, got):
        sum(out.square().mean() for out in outputs).backward()
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 5), reason='torch < 2.5 cannot export autocast regions')
@BACKBONES
def test_exported_backbone_has_the_same_values(make) -> None:
    model, image = make().eval(), torch.randn(1, 3, 40, 48)
    program = torch.export.export(model, (image,))

    # The part outside of autocast is a module of its own in the graph.
    nodes = [
        node for module in program.graph_module.modules() if hasattr(module, 'graph') for node in module.graph.nodes
    ]
    scans = [node for node in nodes if str(node.target) == 'mmlocalmamba.selective_scan.default']
    assert len(scans) == len(model.directions)
    torch.testing.assert_close(program.module()(image), model(image))


@pytest.mark.slow
def test_training_after_inference_mode() -> None:
    model, image = make_vmamba(), torch.randn(1, 3, 56, 40)
    with torch.inference_mode():
        model(image)

    model(image)[-1].sum().backward()
