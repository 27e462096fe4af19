"""CUDA graphs capture a forward and a training step of both backbones, and replay them with other values."""

import copy

import pytest
import torch

from mmlocalmamba.models import LocalVim, LocalVMamba

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device'),
]
DIRECTIONS = [['h', 'w2_flip'], ['v_flip', 'h'], ['w3', 'h_flip'], ['v', 'w2']]


def local_vmamba() -> torch.nn.Module:
    return LocalVMamba(dict(dims=[8, 16, 16, 24], depths=[1] * 4, directions=DIRECTIONS), d_state=4)


def local_vim() -> torch.nn.Module:
    arch = dict(embed_dim=24, depth=2, directions=DIRECTIONS[:2])
    return LocalVim(arch, img_size=32, patch_size=8, out_indices=(0, 1), d_state=4)


MAKERS = pytest.mark.parametrize('make', [local_vmamba, local_vim])
AUTOCAST = pytest.mark.parametrize('autocast', [False, True])


def captured(work):
    """Run work on a side stream, as a capture wants it, then capture it; gives the graph and what work has returned."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph, result


@MAKERS
@AUTOCAST
def test_a_captured_forward_computes_what_an_eager_one_does(make, autocast) -> None:
    model, image = make().cuda().eval(), torch.randn(2, 3, 44, 60, device='cuda')

    def forward():
        # A capture must not keep weights that autocast has cast outside of it.
        with torch.no_grad(), torch.autocast('cuda', torch.bfloat16, enabled=autocast, cache_enabled=False):
            return model(image)

    graph, outputs = captured(forward)
    image.copy_(torch.randn_like(image))
    graph.replay()
    got = [x.clone() for x in outputs]

    for x, want in zip(got, forward(), strict=True):
        torch.testing.assert_close(x, want)


@MAKERS
@AUTOCAST
def test_a_captured_training_step_has_the_gradients_of_an_eager_one(make, autocast) -> None:
    model, image = make().cuda().train(), torch.randn(2, 3, 44, 60, device='cuda')
    eager = copy.deepcopy(model)

    def step(model):
        for parameter in model.parameters():
            parameter.grad = None
        with torch.autocast('cuda', torch.bfloat16, enabled=autocast, cache_enabled=False):
            loss = sum(x.float().square().mean() for x in model(image))
        loss.backward()
        return loss.detach()

    graph, loss = captured(lambda: step(model))
    image.copy_(torch.randn_like(image))
    graph.replay()

    torch.testing.assert_close(loss, step(eager))
    for (name, got), want in zip(model.named_parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, msg=lambda text, name=name: f'{name}: {text}')
