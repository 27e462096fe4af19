from functools import partial

import pytest
import torch
from torch import nn

from compared_models import draw_image, step_of
from mmlocalmamba.models import LocalVim, LocalVMamba
from mmlocalmamba.models.layers.merge import DirectionMerge
from mmlocalmamba.ops import add_rotate_rms_norm
from mmlocalmamba.ops.backends import backend_for
from operations import CONVOLUTION, COPIES, GATES, NORMS, PATCHES, POINT_WISE, PROJECTIONS, REST, SELECTIVE_SCAN
from profile_measure import PARTS, profile_parts, profiles
from timing import Setup

SMALL = Setup(threads=1, runs=1, small=True)


def profiled(model, image=None):
    return profile_parts(model, step_of(model, draw_image(SMALL, 64) if image is None else image), SMALL)


@pytest.mark.parametrize('build', [LocalVMamba, partial(LocalVim, out_indices=(-1,))])
def test_both_passes_of_the_models_go_through_every_part(build):
    found = profiled(build('micro'))
    wanted = {PROJECTIONS, SELECTIVE_SCAN, GATES, PATCHES, REST}
    if build is LocalVMamba or backend_for('cpu') == 'cpu':
        wanted.add(CONVOLUTION)  # without kernels, LocalVim's is made of sums and products
    assert list(found) == ['forward', 'backward']
    for phase, parts in found.items():
        assert list(parts) == list(PARTS), phase
        for part in wanted:
            assert parts[part] > 0, (phase, part)


def test_a_matrix_product_is_a_projection_in_both_passes():
    found = profiled(nn.Sequential(nn.Linear(256, 256, bias=False)), torch.randn(512, 256))
    for phase, parts in found.items():
        assert parts[PROJECTIONS] > 0, phase
        assert parts[SELECTIVE_SCAN] == parts[GATES] == parts[PATCHES] == parts[CONVOLUTION] == parts[NORMS] == 0, phase


class Merging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.merge = DirectionMerge(16)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return self.merge(y, y[:, 0])


def test_what_the_merge_does_is_no_projection():
    found = profiled(Merging(), torch.randn(1, 4, 64, 16))
    for phase, parts in found.items():
        assert parts[GATES] > 0, phase
        assert parts[PROJECTIONS] == parts[POINT_WISE] == 0, phase


class Copying(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(512, 512))

    def forward(self, x):
        return x @ self.weight.t().contiguous()


def test_a_copy_of_a_layout_is_a_copy():
    found = profiled(Copying(), torch.randn(2, 512))
    assert found['forward'][COPIES] > 0


def test_a_composed_norm_is_a_norm():
    found = profiled(nn.Sequential(nn.RMSNorm(64)), torch.randn(128, 64))
    for phase, parts in found.items():
        assert parts[NORMS] > 0, phase
        assert parts[POINT_WISE] == 0, phase


class ResidualNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))

    def forward(self, x):
        return add_rotate_rms_norm(x, x, self.weight, 1e-5)[0]


@pytest.mark.skipif(backend_for('cpu') != 'cpu', reason='the C++ library is not built')
def test_the_norm_of_the_residual_stream_is_a_norm():
    found = profiled(ResidualNorm(), torch.randn(2, 128, 64, requires_grad=True))
    for phase, parts in found.items():
        assert parts[NORMS] > parts[POINT_WISE], phase


def test_nothing_stays_behind_in_the_model():
    model = LocalVMamba('micro')
    profiled(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_percentages_add_up_to_one_hundred():
    result = profiles(SMALL)
    assert [table.title for table in result.tables] == ['LocalVMamba-micro', 'LocalVim-micro']
    for table in result.tables:
        *rows, everything = table.rows
        assert [row['part'] for row in rows] == list(PARTS)
        for phase in ('forward', 'backward'):
            assert everything[f'{phase} %'] == pytest.approx(100)
            for unit in ('ms', '%'):
                total = sum(row[f'{phase} {unit}'] for row in rows)
                assert total == pytest.approx(everything[f'{phase} {unit}'])
