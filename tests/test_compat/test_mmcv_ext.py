import importlib.machinery
import math
import os
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


@pytest.fixture
def attention_inputs() -> dict[str, Tensor]:
    shapes = torch.tensor([[4, 6], [2, 3]])
    return {
        'value': torch.randn(2, 30, 4, 8, dtype=torch.float64, requires_grad=True),
        'value_spatial_shapes': shapes,
        'sampling_locations': torch.rand(2, 5, 4, 2, 3, 2, dtype=torch.float64, requires_grad=True),
        'attention_weights': torch.rand(2, 5, 4, 2, 3, dtype=torch.float64, requires_grad=True),
    }


def test_deformable_attention_on_a_gpu_is_that_on_the_cpu(attention_inputs) -> None:
    """mmcv calls mmcv._ext on a GPU, and its own PyTorch version on the CPU."""

    ours = sys.modules['mmcv.ops.multi_scale_deform_attn']
    pytorch_version = vars(ours)['multi_scale_deformable_attn_pytorch']
    value, shapes, locations, weights = attention_inputs.values()
    wanted = pytorch_version(value, shapes, locations, weights)
    function = vars(ours)['MultiScaleDeformableAttnFunction']
    output = function.apply(value, shapes, torch.tensor([0, 24]), locations, weights, 64)
    grad = torch.randn_like(output)

    torch.testing.assert_close(output, wanted)
    inputs = (value, locations, weights)
    for actual, expected in zip(
        torch.autograd.grad(output, inputs, grad), torch.autograd.grad(wanted, inputs, grad), strict=True
    ):
        torch.testing.assert_close(actual, expected)


MISSING = ['soft_nms', 'SigmoidFocalLoss', 'roi_pool', 'DeformConv2d', 'SAConv2d', 'SparseConv2d', 'SyncBatchNorm']
THERE = ['nms', 'batched_nms', 'roi_align', 'RoIAlign', 'point_sample', 'CornerPool', 'MultiScaleDeformableAttention']


@pytest.mark.parametrize('name', [*MISSING, 'carafe'])  # carafe is the name of a file, too
def test_probes_do_not_find_what_is_missing(name) -> None:
    import mmcv.ops

    with pytest.raises(ModuleNotFoundError, match=rf"'{name}' needs mmcv's compiled operators.*MMCV_WITH_OPS=1"):
        exec(f'from mmcv.ops import {name}', {'__name__': 'some_program'})
    assert not hasattr(mmcv.ops, name)
    assert getattr(mmcv.ops, name, None) is None
    assert name not in mmcv.ops.__all__
    assert name not in dir(mmcv.ops)


@pytest.mark.parametrize('name', THERE)
def test_probes_find_what_is_there(name) -> None:
    import mmcv.ops

    exec(f'from mmcv.ops import {name}', {'__name__': 'some_program'})
    assert hasattr(mmcv.ops, name)
    assert name in mmcv.ops.__all__
    assert name in dir(mmcv.ops)


def test_probes_of_the_files_of_mmcv_ops_see_the_truth() -> None:
    scope = {'__name__': 'some_program'}
    exec('from mmcv.ops.nms import nms', scope)
    exec('from mmcv.ops.roi_align import RoIAlign', scope)
    with pytest.raises(ImportError, match="'DeformConv2d' needs"):
        exec('from mmcv.ops.deform_conv import DeformConv2d', scope)
    with pytest.raises(ImportError, match="'soft_nms' needs"):
        exec('from mmcv.ops.nms import soft_nms', scope)


def test_everything_at_once_is_everything_that_works() -> None:
    scope: dict = {'__name__': 'some_program'}
    exec('from mmcv.ops import *', scope)
    assert set(THERE) <= set(scope)
    assert not set(MISSING) & set(scope)


def test_probes_of_the_extension_see_the_truth() -> None:
    import mmcv._ext
    from mmcv.utils import ext_loader

    assert hasattr(mmcv._ext, 'nms')
    assert not hasattr(mmcv._ext, 'softnms')
    with pytest.raises(AttributeError, match="'softnms' needs mmcv's compiled operators"):
        mmcv._ext.softnms(random_boxes(3))
    assert ext_loader.load_ext('_ext', ['nms', 'roi_align_forward']).nms is mmcv._ext.nms
    with pytest.raises(AssertionError, match='softnms miss in module _ext'):
        ext_loader.load_ext('_ext', ['nms', 'softnms'])


@pytest.mark.parametrize('package', ['mmdet.models.dense_heads', 'mmengine.optim', 'mmseg.models', 'mmcv.cnn'])
def test_openmmlab_gets_what_is_missing_and_its_use_names_it(package) -> None:
    scope: dict = {'__name__': package}
    exec('from mmcv.ops import soft_nms, DeformConv2d', scope)
    layer = scope['DeformConv2d'](2, 2, 3)

    with pytest.raises(NotImplementedError, match=r"'softnms'.*MMCV_WITH_OPS=1.*MMLOCALMAMBA_MMCV_EXT=0"):
        scope['soft_nms'](random_boxes(3), torch.rand(3))
    with pytest.raises(NotImplementedError, match="'deform_conv_forward'"):
        layer(torch.rand(1, 2, 5, 5), torch.rand(1, 18, 3, 3))


@pytest.mark.parametrize('first', ['mmcv.ops', 'mmcv._ext', 'mmcv.ops.carafe', 'mmdet.models'])
def test_the_truth_does_not_depend_on_what_is_imported_first(first) -> None:
    code = f"""
import mmlocalmamba, {first}, mmcv.ops
print(hasattr(mmcv.ops, 'nms'), hasattr(mmcv.ops, 'SAConv2d'), hasattr(mmcv.ops, 'carafe'))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['True', 'False', 'False'], done.stderr


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


@pytest.mark.parametrize(('value', 'state'), [('0', 'missing'), ('1', 'stand-in')])
def test_it_can_be_switched_off(value, state) -> None:
    code = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, '__name__', '') != 'MmcvExtFinder']
import mmlocalmamba
from mmlocalmamba.compat import ext_state
print(ext_state())
"""
    env = {**os.environ, 'MMLOCALMAMBA_MMCV_EXT': value}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == state


@pytest.mark.parametrize(('files', 'finders'), [([], 0), (['__init__.py'], 1), (['__init__.py', '_ext.py'], 0)])
def test_it_is_only_there_where_mmcv_lacks_operators(files, finders, tmp_path) -> None:
    """Without mmcv, with one that has no operators, and with one that has."""
    (tmp_path / 'mmcv').mkdir(parents=True)
    for name in files:
        (tmp_path / 'mmcv' / name).write_text('')
    code = f"""
import sys
from importlib.machinery import PathFinder

class Given:  # finds no mmcv but the one that is given
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'mmcv' and {bool(files)}:
            return PathFinder.find_spec(name, [{str(tmp_path)!r}])
        if name == 'mmcv':
            raise ModuleNotFoundError(name)

ours = lambda: [finder for finder in sys.meta_path if getattr(finder, '__name__', '') == 'MmcvExtFinder']
for finder in ours():
    sys.meta_path.remove(finder)  # what this environment has enabled
sys.meta_path.insert(0, Given)
import mmlocalmamba
print(len(ours()))
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == str(finders), done.stderr


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


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_only_the_first_of_several_processes_says_so(variable) -> None:
    said = {}
    for rank in ('0', '1'):
        done = subprocess.run(
            [sys.executable, '-c', 'import mmlocalmamba, mmcv.ops'],
            env={**os.environ, variable: rank},
            capture_output=True,
            text=True,
            check=True,
        )
        said[rank] = done.stderr.count('stand in for them')
    assert said == {'0': 1, '1': 0}


WORKERS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def count(index):
    import mmlocalmamba, mmcv.ops
    return index

if __name__ == '__main__':
    import mmlocalmamba, mmcv.ops
    with ProcessPoolExecutor(2, multiprocessing.get_context('spawn')) as pool:
        print(*pool.map(count, range(2)))
"""


def test_workers_of_a_data_loader_do_not_say_so_again(tmp_path) -> None:
    (tmp_path / 'program.py').write_text(WORKERS)
    done = subprocess.run([sys.executable, 'program.py'], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['0', '1']
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
