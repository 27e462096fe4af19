"""Our models against the outputs of the published code, on its weights."""

import pytest
import torch

from mmlocalmamba.models import ClassificationHead, LocalVim, LocalVMamba
from mmlocalmamba.ops.backends import ENVIRONMENT_VARIABLE, available_backends

from .parity import build_classifier, published_shapes, train

TOLERANCE = 1e-4


def build(meta, checkpoint, **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    if 'dims' in meta:
        arch = {key: meta[key] for key in ('dims', 'depths', 'directions')}
        model = LocalVMamba(arch=arch, init_cfg=init_cfg, **kwargs)
    else:
        arch = {key: meta[key] for key in ('embed_dim', 'depth', 'directions')}
        middle = meta.get('middle_cls_token', False)
        model = LocalVim(
            arch=arch,
            img_size=meta['img_size'],
            rope=meta['rope'],
            middle_cls_token=middle,
            init_cfg=init_cfg,
            **kwargs,
        )
    model.init_weights()
    return model.eval()


@pytest.fixture
def reference(request, shared_dir, tmp_path):
    data = torch.load(shared_dir / 'reference' / f'{request.param}.pt', weights_only=True)
    path = tmp_path / 'published.ckpt'
    torch.save({'state_dict': data['state_dict']}, path)
    return data, path


@pytest.mark.parametrize(
    'reference', ['local_vmamba_micro', 'local_vim_micro', 'local_vim_micro_resized'], indirect=True
)
def test_features_match_the_published_code(reference):
    data, path = reference
    indices = data['meta'].get('out_indices', range(len(data['features'])))
    model = build(data['meta'], path, out_indices=tuple(indices))
    with torch.no_grad():
        maps = model(data['image'])
    for output, expected in zip(maps, data['features'], strict=True):
        assert (output - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    ('reference', 'kwargs', 'norm'),
    [
        ('local_vmamba_micro', dict(out_indices=(-1,)), 'LN'),
        ('local_vim_micro', dict(out_indices=(-1,), out_type='residual'), 'RMSNorm'),
        ('local_vim_micro_middle_cls', dict(out_indices=(-1,), out_type='cls_token'), 'RMSNorm'),
    ],
    indirect=['reference'],
)
def test_logits_match_the_published_code(reference, kwargs, norm):
    data, path = reference
    model = build(data['meta'], path, out_norm=False, **kwargs)
    converted = model.convert_published(data['state_dict'])
    weights = {name.removeprefix('head.'): value for name, value in converted.items() if name.startswith('head.')}
    head = ClassificationHead(weights['norm.weight'].numel(), 1000, norm).eval()
    head.load_state_dict(weights)
    with torch.no_grad():
        logits = head(model(data['image']))
    assert (logits - data['logits']).abs().max() <= TOLERANCE


@pytest.mark.parametrize('backend', ['cpu', 'chunked', pytest.param('reference', marks=pytest.mark.slow)])
@pytest.mark.parametrize('reference', ['local_vmamba_micro'], indirect=True)
def test_training_matches_the_published_code(reference, backend, shared_dir, monkeypatch):
    reason = available_backends()[backend]
    if reason is not None:
        pytest.skip(reason)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, backend)
    data, _ = reference
    training = torch.load(shared_dir / 'reference/local_vmamba_micro_training.pt', weights_only=True)
    generator = torch.Generator().manual_seed(training['meta']['seed'])
    images = [torch.randn(4, 3, 96, 96, generator=generator) for _ in range(6)]
    labels = [torch.randint(0, 1000, (4,), generator=generator) for _ in range(6)]
    arch = {key: data['meta'][key] for key in ('dims', 'depths', 'directions')}
    model = build_classifier(dict(type='mmlocalmamba.LocalVMamba', arch=arch), 'LN', None, data['state_dict'])

    losses, grads = train(model, list(zip(images, labels, strict=True)))

    assert losses == pytest.approx(training['losses'], abs=1e-5, rel=0)
    expected = model.backbone.convert_published(training['grads'])
    assert len(grads) == len(expected)
    for name, grad in grads.items():
        difference = (grad - expected[name.removeprefix('backbone.')]).abs().max()
        assert difference <= 1e-5, (name, float(difference))


@pytest.mark.parametrize(
    'reference', ['local_vmamba_micro', 'local_vim_micro', 'local_vim_micro_middle_cls'], indirect=True
)
def test_the_fixtures_in_the_repository_have_the_published_names(reference):
    data, _ = reference
    meta = data['meta']
    shapes = published_shapes(dict(meta, arch=meta), classes=1000)
    assert shapes == {name: tuple(value.shape) for name, value in data['state_dict'].items()}
