import pytest
import torch

from mmlocalmamba.models.backbones import LocalVim, LocalVMamba, Vim, VMamba

BLOCKS = [['h', 'w2_flip'], ['v_flip'], ['w3', 'h_flip'], ['v', 'w2']]
MAKERS = {
    'local_vmamba': lambda: LocalVMamba(arch=dict(dims=[8, 16, 32, 64], depths=[1] * 4, directions=BLOCKS), d_state=2),
    'local_vim': lambda: LocalVim(arch=dict(embed_dim=16, depth=2, directions=BLOCKS[:2]), out_indices=(0, 1)),
    'vmamba': lambda: VMamba(arch=dict(dims=[8, 16, 32, 64], depths=[1] * 4, kind='vanilla', ssm_ratio=1.0)),
    'vim': lambda: Vim(arch=dict(embed_dim=16, depth=2), out_indices=(0, 1)),
}


@pytest.mark.parametrize('name', MAKERS)
def test_traced_backbone_is_right_for_any_batch_and_refuses_another_size(name) -> None:
    model = MAKERS[name]().eval()
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.randn(1, 3, 48, 64))

        for batch in (1, 2, 3):
            image = torch.randn(batch, 3, 48, 64)
            torch.testing.assert_close(traced(image), model(image))
        # As many tokens, and another padding of the windows.
        for size in [(64, 48), (32, 96), (96, 96)]:
            with pytest.raises(RuntimeError, match=f'traced at 48 x 64 pixels, and the image is {size[0]} x {size[1]}'):
                traced(torch.randn(1, 3, *size))


def test_traced_model_can_be_trained() -> None:
    model, image = MAKERS['vim'](), torch.randn(1, 3, 32, 32, requires_grad=True)
    traced = torch.jit.trace(model, torch.randn(1, 3, 32, 32), check_trace=False)

    got, want = (torch.autograd.grad(run(image)[-1][:, 0].sum(), image)[0] for run in (traced, model))

    assert want.abs().max() > 1e-4
    torch.testing.assert_close(got, want)
