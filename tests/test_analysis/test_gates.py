import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.analysis import record_gates
from mmlocalmamba.models import LocalVim, LocalVMamba, build_backbone
from mmlocalmamba.search import set_num_sampled

NAMES = ('local_vmamba_micro', 'local_vim_micro')
IMAGES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


def mixers(backbone):
    return {name: module for name, module in backbone.named_modules() if name.endswith('mixer')}


def gates_by_hand(attn, x):
    """SCAttn's docstring, word by word."""
    g = F.gelu(attn.global_reduce(attn.norm(x).mean(2)))
    return torch.sigmoid(attn.channel_select(g))


@pytest.mark.parametrize('spatial', [False, True])
@pytest.mark.parametrize('name', NAMES)
def test_gates_are_what_the_formula_says_and_what_the_merge_multiplies_by(name, spatial):
    backbone = build_backbone(name, spatial_attn=spatial).eval()
    seen = {}
    for path, mixer in mixers(backbone).items():
        mixer.merge.register_forward_hook(
            lambda _, args, kwargs, out, p=path: seen.update({p: (args, out)}), with_kwargs=True
        )
    with record_gates(backbone) as records, torch.no_grad():
        backbone(IMAGES)

        assert list(records) == list(mixers(backbone))
        for path, mixer in mixers(backbone).items():
            (y, z, *norm), out = seen[path]
            x = y if norm else y * F.silu(z).unsqueeze(1)
            gates = gates_by_hand(mixer.merge.attn, x)
            assert records[path].directions == mixer.directions
            torch.testing.assert_close(records[path].gates, gates, rtol=1e-4, atol=1e-5)
            if not spatial:  # otherwise tokens are weighed too
                merged = (x * records[path].gates.unsqueeze(2)).sum(1)
                merged = norm[0](merged) * F.silu(z) if norm else merged
                torch.testing.assert_close(out, merged, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_recording_changes_no_output_and_leaves_no_hook(name):
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        plain = backbone(IMAGES)
        with record_gates(backbone) as records:
            recorded = backbone(IMAGES)
            backbone(IMAGES[:1])
        backbone(IMAGES)

    assert all(torch.equal(a, b) for a, b in zip(plain, recorded, strict=True))
    for record in records.values():
        assert record.gates.shape[0] == 3, 'two images, then one; the last run was outside'
        assert not record.gates.requires_grad


def test_a_training_step_can_be_recorded():
    backbone = build_backbone('local_vmamba_micro')
    with record_gates(backbone) as records:
        backbone(IMAGES)[-1].sum().backward()
    assert not any(record.gates.requires_grad for record in records.values())
    assert all(mixer.merge.attn.channel_select.weight.grad is not None for mixer in mixers(backbone).values())


def test_branches_that_were_not_drawn_are_nan():
    candidates = ['h', 'h_flip', 'v', 'v_flip']
    arch = dict(embed_dim=16, depth=2, directions=[candidates] * 2)
    backbone = LocalVim(arch, img_size=32, patch_size=8, out_indices=(1,), search=True)
    set_num_sampled(backbone, 2)
    with record_gates(backbone.train()) as records, torch.no_grad():
        backbone(IMAGES[:, :, :32, :32])
    for record in records.values():
        assert record.gates.shape[:2] == (2, 4)
        assert record.gates.isnan().all((0, 2)).sum() == 2
        assert record.gates.isnan().any((0, 2)).sum() == 2


def test_a_model_without_scattn_is_refused():
    for backbone in (build_backbone('vim_micro'), LocalVMamba('micro', attn=False)):
        with pytest.raises(ValueError, match='has no SCAttn'), record_gates(backbone):
            pass


def test_a_model_that_did_not_run_has_no_gates():
    with record_gates(build_backbone('local_vmamba_micro')) as records:
        pass
    with pytest.raises(ValueError, match='no gates were recorded'):
        _ = next(iter(records.values())).gates


@pytest.mark.parametrize('name', NAMES)
def test_hooks_on_the_modules_that_the_page_names_fire(name):
    backbone = build_backbone(name).eval()
    fired = set()
    for path in mixers(backbone):
        for part in ('', '.in_proj', '.merge', '.out_proj'):
            module = backbone.get_submodule(path + part)
            module.register_forward_hook(lambda *_, p=path + part: fired.add(p))
    with torch.no_grad():
        backbone(IMAGES)
    assert fired == {path + part for path in mixers(backbone) for part in ('', '.in_proj', '.merge', '.out_proj')}
