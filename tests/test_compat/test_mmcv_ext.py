import importlib.machinery
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import mmlocalmamba  # noqa: F401  before mmcv
from mmlocalmamba.compat import ext_state, install, mmcv_ext
from mmlocalmamba.compat.finder import MmcvExtFinder


def naive_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> list[int]:
    """Take the best box, drop what overlaps it too much, repeat."""
    left, kept = scores.argsort(descending=True, stable=True).tolist(), []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [other for other in left if iou(boxes[best].tolist(), boxes[other].tolist(), offset) <= threshold]
    return kept


def iou(a: list[float], b: list[float], offset: int) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    overlap = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return overlap / (sum(areas) - overlap)


def bilinear(feature: Tensor, y: float, x: float) -> Tensor:
    """Value of a (C, H, W) map between its pixels; zero further than one pixel outside."""
    height, width = feature.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return feature.new_zeros(feature.shape[0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    wy, wx = y - top, x - left
    upper = feature[:, top, left] * (1 - wx) + feature[:, top, right] * wx
    lower = feature[:, bottom, left] * (1 - wx) + feature[:, bottom, right] * wx
    return upper * (1 - wy) + lower * wy


def naive_roi_align(
    features: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Average of the samples of each bin, one at a time."""
    outputs = []
    for image, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * scale - (0.5 if aligned else 0) for corner in corners)
        height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        rows = ratio if ratio > 0 else math.ceil(height / size[0])
        columns = ratio if ratio > 0 else math.ceil(width / size[1])
        bins = [
            sum(
                bilinear(
                    features[int(image)],
                    y1 + (i + (k + 0.5) / rows) * height / size[0],
                    x1 + (j + (m + 0.5) / columns) * width / size[1],
                )
                for k in range(rows)
                for m in range(columns)
            )
            / max(rows * columns, 1)
            for i in range(size[0])
            for j in range(size[1])
        ]
        outputs.append(torch.stack(bins, 1).reshape(-1, *size))
    return torch.stack(outputs)


def random_boxes(count: int, extent: float = 40.0) -> Tensor:
    corners = torch.rand(count, 2) * extent
    return torch.cat([corners, corners + torch.rand(count, 2) * extent / 2 + 1], 1)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.7])
def test_nms_keeps_the_same_boxes(threshold: float, offset: int) -> None:
    from mmcv.ops import nms

    boxes, scores = random_boxes(60), torch.rand(60)

    dets, kept = nms(boxes, scores, threshold, offset)

    assert kept.tolist() == naive_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat([boxes[kept], scores[kept, None]], 1))


def test_nms_of_no_boxes() -> None:
    from mmcv.ops import nms

    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)

    assert dets.shape == (0, 5)
    assert kept.shape == (0,)


def test_nms_of_numpy_arrays_and_limits() -> None:
    from mmcv.ops import nms

    boxes, scores = random_boxes(30).numpy(), torch.rand(30).numpy()

    _, kept = nms(boxes, scores, 0.5, score_threshold=0.2, max_num=4)

    wanted = [i for i in naive_nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5, 0) if scores[i] > 0.2]
    assert kept.tolist() == wanted[:4]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_of_other_dtypes(dtype: torch.dtype) -> None:
    from mmcv.ops import nms

    boxes, scores = random_boxes(20).to(dtype), torch.linspace(0.1, 0.9, 20).to(dtype)

    _, kept = nms(boxes, scores, 0.5)

    assert kept.tolist() == naive_nms(boxes.double(), scores.double(), 0.5, 0)


def test_batched_nms_keeps_classes_apart() -> None:
    from mmcv.ops import batched_nms

    boxes, scores, classes = random_boxes(40), torch.rand(40), torch.arange(40) % 3

    _, kept = batched_nms(boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.4})

    wanted = []
    for index in range(3):
        own = (classes == index).nonzero().flatten()
        wanted += own[naive_nms(boxes[own], scores[own], 0.4, 0)].tolist()
    assert sorted(kept.tolist()) == sorted(wanted)
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('scale', [1.0, 0.25])
def test_roi_align_values_and_gradient(scale: float, sampling_ratio: int, aligned: bool) -> None:
    from mmcv.ops import roi_align

    features = torch.randn(2, 3, 9, 13, dtype=torch.float64)
    boxes = random_boxes(4, 10 / scale) - 2 / scale  # some reach outside
    rois = torch.cat([torch.tensor([[0.0], [1], [1], [0]]), boxes], 1).double()
    ours, naive = features.clone().requires_grad_(), features.clone().requires_grad_()
    weight = torch.randn(4, 3, 3, 2, dtype=torch.float64)

    output = roi_align(ours, rois, (3, 2), scale, sampling_ratio, 'avg', aligned)
    wanted = naive_roi_align(naive, rois, (3, 2), scale, sampling_ratio, aligned)
    (output * weight).sum().backward()
    (wanted * weight).sum().backward()

    torch.testing.assert_close(output, wanted)
    torch.testing.assert_close(ours.grad, naive.grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision(dtype: torch.dtype) -> None:
    from mmcv.ops import roi_align

    features = torch.randn(1, 2, 8, 8).to(dtype).requires_grad_()
    rois = torch.tensor([[0.0, 1, 1, 6, 7]], dtype=dtype)

    output = roi_align(features, rois, (2, 2), 1.0, 0, 'avg', True)
    output.sum().backward()

    wanted = naive_roi_align(features.detach().float(), rois.float(), (2, 2), 1.0, 0, True)
    torch.testing.assert_close(output, wanted.to(dtype))
    assert features.grad.dtype == dtype
    assert features.grad.sum().item() == pytest.approx(8, rel=0.02)


def test_roi_align_of_no_rois() -> None:
    from mmcv.ops import roi_align

    features = torch.randn(1, 2, 8, 8, requires_grad=True)

    output = roi_align(features, torch.zeros(0, 5), (2, 2), 1.0, 0, 'avg', True)
    output.sum().backward()

    assert output.shape == (0, 2, 2, 2)
    assert (features.grad == 0).all()


def test_max_roi_align_is_refused() -> None:
    from mmcv.ops import roi_align

    with pytest.raises(NotImplementedError, match="pool_mode='max'"):
        roi_align(torch.randn(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 6, 7]]), (2, 2), 1.0, 0, 'max', True)


def test_other_operator_is_named_when_called() -> None:
    from mmcv.ops import soft_nms

    with pytest.raises(NotImplementedError, match=r"'softnms'.*MMCV_WITH_OPS=1"):
        soft_nms(random_boxes(3), torch.rand(3))


def test_environment_report_works() -> None:
    from mmcv.utils import collect_env

    assert 'stand-in' in collect_env()['MMCV Compiler']


def test_dunder_attributes_are_not_operators() -> None:
    assert not hasattr(mmcv_ext, '__path__')


def test_compiled_operators_go_first(tmp_path) -> None:
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / '_ext.py').write_text('compiled = True')
    code = f"""
import sys, mmlocalmamba
sys.path.insert(0, {str(tmp_path)!r})
import mmcv._ext
print(mmcv._ext.compiled)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'True'


def test_finder_answers_one_name_only() -> None:
    assert MmcvExtFinder.find_spec('mmcv.ops') is None
    spec = MmcvExtFinder.find_spec('mmcv._ext')
    assert isinstance(spec, importlib.machinery.ModuleSpec)
    assert spec.origin == mmcv_ext.__file__


def test_finder_is_installed_once() -> None:
    install()
    install()
    # It may be the copy that `python -m mmlocalmamba.compat enable` has put into this environment.
    assert [getattr(finder, '__name__', None) for finder in sys.meta_path].count('MmcvExtFinder') == 1
    assert ext_state() == 'stand-in'


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, mmlocalmamba; print('torch' in sys.modules, 'mmengine' in sys.modules)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['False', 'False']


def test_says_so_once() -> None:
    code = 'import mmlocalmamba, mmcv.ops, mmcv.ops.nms'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stderr.count('stand in for them') == 1


def test_import_after_mmdet_warns(caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet.structures', object())
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    others = [finder for finder in sys.meta_path if getattr(finder, '__name__', None) != 'MmcvExtFinder']
    monkeypatch.setattr(sys, 'meta_path', list(others))

    install()

    assert 'mmdet was imported before mmlocalmamba' in caplog.text
    assert 'python -m mmlocalmamba.compat enable' in caplog.text
    assert sys.meta_path == [*others, MmcvExtFinder]


def test_import_after_mmdet_is_fine_where_the_stand_in_was_in_place(caplog, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet.structures', object())
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)

    install()

    assert caplog.text == ''
