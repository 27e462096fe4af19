import pytest
import torch
import torch.nn.functional as F

from mmlocalmamba.models import ClassificationHead, ImageClassifier

VIM = dict(
    type='mmlocalmamba.LocalVim',
    arch=dict(embed_dim=16, depth=1, directions=[['h', 'w2']]),
    img_size=16,
    patch_size=4,
    out_indices=(-1,),
    out_type='residual',
    out_norm=False,
    d_state=4,
)
HEAD = dict(type='mmlocalmamba.ClassificationHead', in_channels=16, num_classes=5, norm='RMSNorm')


@pytest.fixture
def model():
    return ImageClassifier(VIM, HEAD)


def test_logits(model):
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 5)


def test_loss_of_soft_labels_is_their_cross_entropy(model):
    images, labels = torch.randn(2, 3, 16, 16), torch.rand(2, 5).softmax(1)
    loss = model(images, labels, mode='loss')['loss']
    torch.testing.assert_close(loss, -(labels * F.log_softmax(model(images), 1)).sum(1).mean())


def test_loss_without_labels_is_refused(model):
    with pytest.raises(ValueError, match='needs labels'):
        model(torch.randn(2, 3, 16, 16), mode='loss')


def test_prediction_gives_scores_and_classes(model):
    results = model(torch.randn(2, 3, 16, 16), torch.tensor([1, 4]), mode='predict')
    assert [int(result['gt_label']) for result in results] == [1, 4]
    assert results[0]['pred_scores'].sum().item() == pytest.approx(1)


def test_prediction_without_classes(model):
    assert model(torch.randn(1, 3, 16, 16), mode='predict')[0]['gt_label'] is None


def test_unknown_mode_is_refused(model):
    with pytest.raises(ValueError, match="mode='eval' is unknown"):
        model(torch.randn(1, 3, 16, 16), mode='eval')


def test_head_of_a_map_averages_normalised_tokens():
    head = ClassificationHead(8, 3)
    features = torch.randn(2, 8, 4, 5)
    tokens = F.layer_norm(features.permute(0, 2, 3, 1), (8,)).mean((1, 2))
    torch.testing.assert_close(head((features,)), head.fc(tokens))


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm='BN' is unknown"):
        ClassificationHead(8, 3, norm='BN')


@pytest.mark.parametrize('name', ['local_vmamba_micro', 'local_vim_micro', 'local_vim_micro_middle_cls'])
def test_a_published_file_loads_whole_by_load_state_dict(name, shared_dir):
    data = torch.load(shared_dir / 'reference' / f'{name}.pt', weights_only=True)
    meta = data['meta']
    if 'dims' in meta:
        arch = {key: meta[key] for key in ('dims', 'depths', 'directions')}
        backbone = dict(type='mmlocalmamba.LocalVMamba', arch=arch, out_indices=(-1,), out_norm=False)
        head = dict(HEAD, in_channels=meta['dims'][-1], num_classes=1000, norm='LN')
    else:
        middle = meta.get('middle_cls_token', False)
        arch = {key: meta[key] for key in ('embed_dim', 'depth', 'directions')}
        backbone = dict(
            type='mmlocalmamba.LocalVim',
            arch=arch,
            img_size=meta['img_size'],
            rope=meta['rope'],
            middle_cls_token=middle,
            out_type='cls_token' if middle else 'residual',
            out_indices=(-1,),
            out_norm=False,
        )
        head = dict(HEAD, in_channels=meta['embed_dim'], num_classes=1000)
    model = ImageClassifier(backbone, head).eval()
    model.load_state_dict(data['state_dict'])
    with torch.no_grad():
        logits = model(data['image'])
    assert (logits - data['logits']).abs().max() <= 1e-4
