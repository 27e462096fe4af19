from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
MASK_RCNN = CONFIGS / 'demo/mask_rcnn_localvmamba_micro_shapes.py'
UPERNET = CONFIGS / 'demo/upernet_localvim_micro_shapes.py'
CLASSIFIER = CONFIGS / 'demo/textures_fixed.py'

SMALL_LOCAL_VIM = """
model = dict(backbone=dict(
    _delete_=True, type='mmlocalmamba.LocalVim', arch=dict(embed_dim=16, depth=1, directions=[['h', 'w2_flip']]),
    img_size=64, patch_size=16, out_indices={indices}, d_state=2, padding='skip'))
"""
RETINANET = """
_base_ = '{configs}/cross/retinanet_localvmamba_t_1x.py'
model = dict(
    backbone=dict(arch='micro', d_state=1),
    neck=dict(in_channels=[64, 128, 256], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16, stacked_convs=1, num_classes=3))
"""


@pytest.fixture
def onnxruntime():
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package)


def detr_config(folder: Path) -> Path:
    base = Path(find_spec('mmdet').origin).parent / '.mim/configs/detr/detr_r50_8xb2-150e_coco.py'
    path = folder / 'detr_local_vim.py'
    path.write_text(
        f"_base_ = '{base}'\n" + SMALL_LOCAL_VIM.format(indices='(0,)') + "model['neck'] = dict(in_channels=[16])\n"
    )
    return path


def test_classifier_is_exported_with_the_weights_of_a_checkpoint(tool, model_state, onnxruntime, capsys) -> None:
    from mmlocalmamba.export.onnx_file import onnx_session

    state = model_state(CLASSIFIER)
    for value in state.values():
        value.copy_(torch.rand_like(value) / 10)
    state['head.fc.bias'] = torch.tensor([3.0, 5.0])
    state['head.fc.weight'].zero_()
    torch.save(dict(state_dict=state), 'trained.pth')

    tool('export').main([str(CLASSIFIER), '--checkpoint', 'trained.pth', '--size', '8', '8', '--out', 'c.onnx'])

    assert 'exporting: logits\n' in capsys.readouterr().out
    (logits,) = onnx_session('c.onnx').run(None, {'image': torch.randn(3, 1, 8, 8).numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), torch.tensor([[3.0, 5.0]] * 3))


def test_checkpoint_that_lacks_tensors_is_refused(tool, model_state) -> None:
    state = model_state(CLASSIFIER)
    del state['head.fc.weight']
    torch.save(dict(state_dict=state), 'trained.pth')

    with pytest.raises(ValueError, match=r'trained\.pth does not hold the whole ImageClassifier'):
        tool('export').main([str(CLASSIFIER), '--checkpoint', 'trained.pth'])


@pytest.mark.slow
def test_segmenter_is_exported_with_padding_scanned(tool, onnxruntime, capsys) -> None:
    """UperNet pools its smallest map, 4 x 5 here, to 1, 2, 3 and 6 positions a side."""
    pytest.importorskip('mmseg')

    tool('export').main([str(UPERNET), '--size', '64', '80'])

    output = capsys.readouterr().out
    assert "padding='skip' becomes 'scan'" in output
    assert 'logits of the decode head. Left out: resizing to the image' in output
    assert Path('upernet_localvim_micro_shapes.onnx').is_file()


@pytest.mark.slow
def test_dense_detector_is_exported(tool, onnxruntime, capsys) -> None:
    from mmlocalmamba.export.onnx_file import onnx_session

    Path('retinanet.py').write_text(RETINANET.format(configs=CONFIGS))

    tool('export').main(['retinanet.py', '--size', '64', '96'])

    assert (
        'raw outputs of the dense head, level by level. Left out: decoding of boxes and NMS' in capsys.readouterr().out
    )
    outputs = onnx_session('retinanet.onnx').run(None, {'image': torch.randn(1, 3, 64, 96).numpy()})
    levels = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert [x.shape for x in outputs] == [(1, 9 * values, *level) for values in (3, 4) for level in levels]


@pytest.mark.slow
def test_rpn_of_a_two_stage_detector_is_exported(tool, onnxruntime, capsys) -> None:
    tool('export').main([str(MASK_RCNN), '--part', 'rpn', '--size', '64', '96', '--out', 'rpn.onnx'])

    assert 'raw scores and deltas of the RPN' in capsys.readouterr().out
    assert Path('rpn.onnx').is_file()


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < (2, 6), reason='dynamic sizes are tested from torch 2.6 on')
def test_backbone_of_a_detector_is_exported_as_a_program(tool, tmp_path, capsys) -> None:
    config = detr_config(tmp_path)

    tool('export').main([str(config), '--part', 'backbone', '--format', 'torch', '--size', '96', '128'])

    assert 'before loading it: import torch, mmlocalmamba.ops' in capsys.readouterr().out
    (largest,) = torch.export.load('detr_local_vim.pt2').module()(torch.randn(1, 3, 200, 70))
    assert largest.shape == (1, 16, 13, 5)


@pytest.mark.parametrize(
    ('config', 'arguments', 'message'),
    [
        (MASK_RCNN, [], r"MaskRCNN cannot .* its roi_head \(StandardRoIHead\) .* Export part 'rpn' or part 'backbone'"),
        (CONFIGS / 'cross/mask2former_localvmamba_t_50e.py', [], r'Mask2Former cannot .* panoptic_head \(Mask2FormerH'),
        (detr_config, [], "DETR cannot be exported whole: its transformer .* Export part 'backbone' instead"),
        (CLASSIFIER, ['--part', 'rpn'], "ImageClassifier has no RPN: export part 'model' or part 'backbone'"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_name(config, arguments, message, tool, tmp_path) -> None:
    config = config if isinstance(config, Path) else config(tmp_path)

    with pytest.raises(TypeError, match=message):
        tool('export').main([str(config), *arguments])

    assert not list(tmp_path.glob('*.onnx'))


def test_missing_config_is_named(tool) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config file 'nowhere\.py'"):
        tool('export').main(['nowhere.py'])
