"""Backbones and training steps on every device, against the same in float64 on the CPU."""

import copy

import pytest
import torch

from mmlocalmamba.models import ClassificationHead, LocalVim, LocalVMamba

DIRECTIONS = [['h', 'w2_flip'], ['v_flip', 'h'], ['w3', 'h_flip'], ['v', 'w2']]


def local_vmamba(**options) -> torch.nn.Module:
    return LocalVMamba(dict(dims=[8, 16, 16, 24], depths=[1] * 4, directions=DIRECTIONS), d_state=4, **options)


def local_vim(**options) -> torch.nn.Module:
    arch = dict(embed_dim=24, depth=2, directions=DIRECTIONS[:2])
    return LocalVim(arch, img_size=32, patch_size=8, out_indices=(0, 1), d_state=4, **options)


MAKERS = pytest.mark.parametrize('make', [local_vmamba, local_vim])
OPTIONS = pytest.mark.parametrize('options', [{}, dict(spatial_attn=True), dict(attn=False)], ids=str)


def step(model, image):
    """Give outputs and gradients by name, in float64 on the CPU."""
    outputs = model(image)
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in outputs]
    torch.autograd.backward(outputs, grads)
    found = {f'output {i}': x.detach() for i, x in enumerate(outputs)}
    found |= {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: value.double().cpu() for name, value in found.items()}


@MAKERS
@OPTIONS
def test_values_and_gradients_are_those_of_float64(make, options, device) -> None:
    model, image = make(**options), torch.randn(2, 3, 44, 60)
    want = step(copy.deepcopy(model).double(), image.double())
    got = step(model.to(device), image.to(device))

    for name, value in got.items():
        scale = max(want[name].abs().max().item(), 1.0)
        assert (value - want[name]).abs().max() <= 2e-4 * scale, name


@MAKERS
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_a_step_in_mixed_precision_is_near_one_in_float64(make, dtype, device) -> None:
    if device == 'cpu' and dtype == torch.float16 and torch.__version__ < (2, 5):
        pytest.skip('float16 autocast on the CPU wants torch 2.5')
    model, image = make(), torch.randn(2, 3, 44, 60)
    want = step(copy.deepcopy(model).double(), image.double())
    with torch.autocast(device, dtype):
        got = step(model.to(device), image.to(device))

    for name, value in got.items():
        assert torch.isfinite(value).all(), name
        error = (value - want[name]).norm() / want[name].norm().clamp_min(1e-3)
        assert error <= 0.15, f'{name}: {error:.3f}'


@pytest.mark.parametrize('amp', [False, True])
def test_training_lowers_the_loss(amp, device) -> None:
    backbone = local_vmamba(out_indices=(3,), out_norm=False)
    model = torch.nn.Sequential(backbone, ClassificationHead(24, num_classes=4)).to(device).train()
    image, labels = torch.randn(8, 3, 32, 32).to(device), (torch.arange(8) % 4).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    scaler = torch.amp.GradScaler(device, enabled=amp and device == 'cuda')
    losses = []
    for _ in range(12):
        with torch.autocast(device, torch.float16 if device == 'cuda' else torch.bfloat16, enabled=amp):
            loss = torch.nn.functional.cross_entropy(model(image).float(), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())

    assert losses[-1] < 0.7 * losses[0], losses
