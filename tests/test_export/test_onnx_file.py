import pytest
import torch

from mmlocalmamba.export.onnx_file import export_onnx, onnx_difference, onnx_session
from mmlocalmamba.models.backbones import LocalVim, LocalVMamba, Vim, VMamba

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

BLOCKS = [['h', 'w2_flip'], ['v_flip'], ['w3', 'h_flip'], ['v', 'w2']]
MODELS = {
    'local_vmamba': lambda: LocalVMamba(arch=dict(dims=[8, 16, 32, 64], depths=[1] * 4, directions=BLOCKS), d_state=2),
    'local_vim': lambda: LocalVim(
        arch=dict(embed_dim=16, depth=2, directions=BLOCKS[:2]), img_size=32, patch_size=8, out_indices=(0, 1)
    ),
    'middle_cls_token': lambda: LocalVim(
        arch=dict(embed_dim=16, depth=1, directions=BLOCKS[:1]),
        img_size=32,
        patch_size=8,
        out_indices=(0,),
        rope=False,
        middle_cls_token=True,
    ),
    'vmamba_v2': lambda: VMamba(
        arch=dict(dims=[8, 16, 32, 64], depths=[1] * 4, kind='v2', ssm_ratio=1.0), directions=BLOCKS
    ),
    'vim': lambda: Vim(arch=dict(embed_dim=16, depth=2), img_size=32, patch_size=8, out_indices=(0, 1), d_state=2),
}


@pytest.mark.parametrize('scan', ['scan', 'chunked'])
@pytest.mark.parametrize('name', MODELS)
def test_onnx_runtime_agrees_with_any_number_of_images(name, scan, tmp_path) -> None:
    model, path = MODELS[name]().eval(), tmp_path / 'model.onnx'

    export_onnx(model, torch.randn(2, 3, 44, 60), path, scan=scan)

    for batch in (1, 2, 3):
        assert onnx_difference(path, model, torch.randn(batch, 3, 44, 60)) < 1e-5
    graph = onnx.load(path)
    assert {node.domain for node in graph.graph.node} == {''}
    assert len(graph.functions) == 0
    scans = sum(node.op_type == 'Scan' for node in graph.graph.node)
    assert scans == (len(model.directions) if scan == 'scan' else 0)


def test_onnx_file_refuses_another_size_with_as_many_tokens(tmp_path) -> None:
    model, path = MODELS['vim']().eval(), tmp_path / 'model.onnx'
    export_onnx(model, torch.randn(2, 3, 32, 64), path)

    with pytest.raises(Exception, match=r'(?i)dimension'):
        onnx_session(path).run(None, {'image': torch.randn(1, 3, 64, 32).numpy()})


class Pools(torch.nn.Module):
    """Pool a map of a size that the exporter does not know, as it does not that of the backbones' maps."""

    sizes = (1, 3, 6, (2, 5), 11)

    def forward(self, image):
        x = image[:, :, : image.shape[2], : image.shape[3]]
        return tuple(torch.nn.functional.adaptive_avg_pool2d(x, size) for size in self.sizes)


@pytest.mark.parametrize('size', [(6, 12), (7, 10), (2, 3)])
def test_adaptive_pooling_to_any_size(size, tmp_path) -> None:
    path = tmp_path / 'pools.onnx'
    export_onnx(Pools(), torch.randn(2, 3, *size), path)

    for batch in (1, 3):
        assert onnx_difference(path, Pools(), torch.randn(batch, 3, *size)) < 1e-6


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 6), reason='the exporter of programs has no translation table before 2.6')
def test_exporter_of_programs_agrees(tmp_path) -> None:
    model = LocalVMamba(
        arch=dict(dims=[8, 16, 32, 64], depths=[1] * 4, directions=BLOCKS), out_indices=(0,), d_state=2
    ).eval()
    path = tmp_path / 'model.onnx'

    export_onnx(model, torch.randn(2, 3, 20, 28), path, exporter='dynamo')

    for batch in (1, 3):
        assert onnx_difference(path, model, torch.randn(batch, 3, 20, 28)) < 1e-5
    assert sum(node.op_type == 'Scan' for node in onnx.load(path).graph.node) == 1


@pytest.mark.parametrize(
    ('settings', 'message'),
    [(dict(exporter='other'), "exporter='other' is unknown"), (dict(scan='other'), "scan='other' is unknown")],
)
def test_unknown_settings_are_refused(settings, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        export_onnx(MODELS['vim'](), torch.randn(2, 3, 32, 32), tmp_path / 'model.onnx', **settings)


def test_a_single_image_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match='2 images or more'):
        export_onnx(MODELS['vim'](), torch.randn(1, 3, 32, 32), tmp_path / 'model.onnx')
